"""The policies of the demo. Texts are short; a real site brings its own."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoPolicy:
    """One policy with its label definitions."""

    key: str
    title: str
    text: str
    toxic: str
    normal: str
    cant_tell: str


POLICIES: tuple[DemoPolicy, ...] = (
    DemoPolicy(
        "forged-documents",
        "Forged documents",
        "Nobody may offer, ask for or teach the making of a certificate, diploma, seal or record that no authority "
        "issued, or sell answers to an examination. "
        "禁止提供、求购或教人制作并非由主管机构签发的证书、印章或记录，禁止买卖考试答案。",
        "Offers, asks for or teaches a forged paper, seal or exam answer, openly or in disguised words.",
        "Real papers in other trades: frames, covers, notarised translation, gowns, past papers, textbooks.",
        "The text alone does not decide whether the paper is real. Say what is missing.",
    ),
    DemoPolicy(
        "lent-identity",
        "Licences, points and accounts for hire",
        "What the law ties to one person may not change hands: penalty points, licences, verified accounts, cards. "
        "驾驶证记分、资质证照、实名账号和银行卡与本人绑定，禁止转让、出租和收购。",
        "Sells, rents, takes over or asks for points, licences, verified accounts or cards.",
        "Driving lessons, covers for a licence, help with one's own papers, game items within the platform's rules.",
        "It is not clear whether the account or licence is tied to a person.",
    ),
    DemoPolicy(
        "contact-swap",
        "Contact swap off the platform",
        "A post may not lead buyers off the platform to pay or talk there. 禁止引导买家离开平台联系或付款。",
        "Gives or hints at a way to get in touch or pay elsewhere, in any spelling.",
        "Says that all talk stays on the platform; sells a phone, a card holder or the like.",
        "A handle without any hint of what it is for.",
    ),
    DemoPolicy(
        "fake-jobs",
        "Fake part-time jobs",
        "Job posts that take a deposit, promise easy money for clicks or orders, or hire people to carry money. "
        "禁止发布刷单、点赞返利、先交押金以及代收代付类虚假兼职。",
        "Promises pay for likes, orders or typing, asks for a deposit or fee first, or hides the employer.",
        "A job with a place, hours and a usual wage, paid by the employer, with nothing to pay first.",
        "Too short to know what the work is.",
    ),
    DemoPolicy(
        "paid-companionship",
        "Paid companionship",
        "Company for money, offered or sought in hints, has no place here. 禁止以暗示方式有偿提供或寻求陪伴服务。",
        "Offers or seeks a person's company for money, in hints or openly.",
        "Sports partners, study groups, pet company, care by registered services, games without pay.",
        "A wish for company without any word on money.",
    ),
    DemoPolicy(
        "illicit-finance",
        "Unlicensed loans, invoices and investments",
        "Loans without a licence, sale of invoices, and tips with promised returns are not allowed. "
        "禁止无资质放贷、买卖发票和承诺收益的荐股荐投。",
        "Offers such a loan, an invoice without a sale, or a return that is promised.",
        "Invoices for what was really sold, books on finance, questions about one's own loan.",
        "Speaks of money without saying what is offered.",
    ),
    DemoPolicy(
        "gambling",
        "Gambling recruitment",
        "No invitations to bet, no agents for betting, no 'sure' schemes. 禁止招揽赌博、招募代理和推广所谓稳赢方案。",
        "Invites to bet or to recruit others to bet, or sells a scheme that is said to win.",
        "Board games, cards as goods, sports equipment, talk about a match without stakes.",
        "Could be a plain game night; stakes are not mentioned.",
    ),
    DemoPolicy(
        "scams",
        "Prize, parcel and refund scams",
        "Prizes that cost a fee, delivery notices that lead elsewhere, refunds from strangers, counterfeit parcels. "
        "禁止虚假中奖、仿冒快递通知、冒充客服理赔和倒卖来路不明的包裹。",
        "Promises a prize, refund or parcel and wants a fee, a code or a click in return.",
        "Real shipping talk, questions about a late parcel, raffles of a local club without a fee.",
        "A notice without a demand.",
    ),
)

"""Texts for search tests, made from a seed: sentences like people write, and strings that break tokenizers."""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from extraction.search import Counts, Document, Order, SearchRequest
from extraction.text import Analysis, MatchMode, get_analysis

_ZH = [
    "兼职日结，{n}元一单，{c}咨询",
    "专业代办证件，下证快，{c}",
    "周末一起去公园拍照吗？天气预报说晴天😊",
    "店里新到的茶叶{n}克{m}元，包邮～",
    "求一个{n}年级的数学笔记，謝謝大家",
    "办理驾照过户、消分，无需本人到场 {c}",
    "昨天的比赛太精彩了!!! {n}:{m}",
    "资料已上传网盘，需要的同学{c}",
]
_EN = [
    "Earn {n} a day from home, no experience, {c}",
    "Does anybody know a good plumber near the station?",
    "Original certificates within {n} days – {c}",
    "Selling my old bike, {m} gears, fair price",
    "The class starts at {n}, don't be late!",
]
_CONTACT = [
    "加微信",
    "加.微.信",
    "＋Ｖ信",
    "加薇❤️信",
    "加\u200b微\u200b信",
    "➕微🍀",
    "add me",
    "ADD  ME",
    "𝐚𝐝𝐝 me",
    "dm vx{n}",
]
ADVERSARIAL = list(
    "ab1加微信的免費ＶＸ①ﬁß \"'*%_\\.,()[]{}:+-^~&|!?/#@$=<>`"
    "\x00\t\n\u0085\u00a0\u2028\u2029\u3000\u200b\u200d\ufe0f\u20e3\u0336\u0301"
    "❤👨👩👧🏽🇨🇳💰😀\U00020000𠮷\U0002a6d6\ue001\uf8ff\U0010ff20\U000f0000"
    "สวัสดีมเหשלוםمرحباкирגé각ㄱㅏカﾞ\u1100\u1161İıσς"
) + ["👨‍👩‍👧", "❤️", "1️⃣", "AND", "OR", "NEAR", "phrase:", "\r\n"]


def sentences(count: int, seed: int) -> list[str]:
    rnd = random.Random(seed)
    return [_sentence(rnd) for _ in range(count)]


def _sentence(rnd: random.Random) -> str:
    parts = [rnd.choice(_ZH + _EN) for _ in range(rnd.randint(1, 3))]
    contact = rnd.choice(_CONTACT).format(n=rnd.randint(1, 99))
    return " ".join(part.format(n=rnd.randint(1, 20), m=rnd.randint(1, 20), c=contact) for part in parts)


def adversarial(count: int, seed: int) -> list[str]:
    rnd = random.Random(seed)
    return ["".join(rnd.choice(ADVERSARIAL) for _ in range(rnd.randint(0, 14))) for _ in range(count)]


def make_document(id: int, text: str = "加微信领取", **fields: object) -> Document:
    values: dict[str, object] = {
        "version": 1,
        "live": True,
        "created": datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=id),
        "risk": 0.5,
        "verdict": "",
        "language": "zh-Hans",
        "platform": "demo",
        "author": "",
    }
    return Document(id=id, text=text, **(values | fields))  # type: ignore[arg-type]


def make_documents(texts: Iterable[str], seed: int) -> list[Document]:
    """Documents with few distinct risks and times, so that ties are common."""
    rnd = random.Random(seed)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    return [
        make_document(
            id,
            text,
            live=rnd.random() < 0.8,
            created=start + timedelta(hours=rnd.randint(0, 40)),
            risk=rnd.choice([None, 0.0, 0.25, 0.5, 0.9, 1.0]),
            verdict=rnd.choice(["", "", "toxic", "normal"]),
            platform=rnd.choice(["demo", "forum"]),
            language=rnd.choice(["zh-Hans", "en"]),
        )
        for id, text in enumerate(texts, start=1)
    ]


class Corpus:
    """Documents that are searched by looking at every text: what the engines are compared with."""

    def __init__(self, documents: Sequence[Document], analysis: Analysis | None = None) -> None:
        self.documents = documents
        self._analysis = analysis or get_analysis()
        self._texts = {
            mode: [_joined(self._analysis.tokens(document.text, mode)) for document in documents] for mode in MatchMode
        }

    def page(self, request: SearchRequest) -> tuple[list[int], Counts]:
        """Ids of the page and counts of all matches."""
        needle = _joined(self._analysis.tokens(request.text, request.mode))
        matching = [
            document
            for document, text in zip(self.documents, self._texts[request.mode], strict=True)
            if needle in text
            and request.platform in ("", document.platform)
            and request.language in ("", document.language)
        ]
        wanted = [document for document in matching if request.live is None or document.live == request.live]
        wanted.sort(key=lambda document: _place(document, request.order))
        return [document.id for document in wanted[: request.size]], _counts(matching)


def _joined(tokens: Sequence[str]) -> str:
    """Tokens between characters that are in no token."""
    return "\x00" + "\x00".join(tokens) + "\x00"


def _counts(documents: Sequence[Document]) -> Counts:
    return Counts(
        live=sum(document.live for document in documents),
        removed=sum(not document.live for document in documents),
        toxic=sum(document.verdict == "toxic" for document in documents),
        normal=sum(document.verdict == "normal" for document in documents),
    )


def _place(document: Document, order: Order) -> tuple[float, float, int]:
    risk = -1.0 if document.risk is None else document.risk
    return (-risk if order is Order.RISK else 0.0, -document.created.timestamp(), document.id)


def sample_queries(documents: Sequence[Document], mode: MatchMode, count: int, seed: int) -> list[str]:
    """Phrases of 1 to 10 tokens that stand in the texts, and some that may not."""
    rnd, analysis = random.Random(seed), get_analysis()
    queries: list[str] = []
    while len(queries) < count:
        tokens = analysis.tokens(rnd.choice(documents).text, mode)
        length = rnd.randint(1, 10)
        start = rnd.randint(0, max(0, len(tokens) - length))
        words = tokens[start : start + length]
        if rnd.random() < 0.1:
            rnd.shuffle(words)
        query = ("" if mode is MatchMode.CHARACTERS else " ").join(words)
        if analysis.tokens(query, mode):
            queries.append(query)
    return queries

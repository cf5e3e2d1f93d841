"""The English campaigns."""

from audit.demo.campaigns import Campaign, Wave

DIPLOMA = Campaign(
    key="diploma-en",
    policy="forged-documents",
    language="en",
    weight=7,
    naive="diploma",
    good=("sample before you pay", "raised seal"),
    plans=(
        "{open} {word}, {mark}, {extra}. {end}",
        "{mark}. {word} {open2}, {extra}. {end}",
        "<Lost yours|Never finished|Need one for work>? {word} {open2}, {mark}. {end}",
        "{word} and transcript, {extra}, {mark}. {end}",
    ),
    slots={
        "open": ("Any school", "All years", "Replica", "Novelty", "College or trade school", "Overseas or local"),
        "open2": (
            "for any school",
            "made to order",
            "any year you like",
            "in the old layout",
            "printed on heavy stock",
        ),
        "extra": (
            "ready in {n:2-7} days",
            "discreet envelope",
            "watermark included",
            "matching folder",
            "free reprint if a name is wrong",
            "{n:60-240:10} all in",
        ),
        "end": (
            "Ask for {handle}.",
            "Send year and school to {handle}.",
            "See my page.",
            "Photos on request.",
            "Serious people only.",
        ),
    },
    waves=(
        Wave(
            30,
            17,
            {
                "word": ("⟦d1ploma⟧", "⟦dip1oma⟧", "⟦dlploma⟧", "⟦graduation paper⟧"),
                "mark": ("sample before you pay", "raised seal", "raised seal and sample before you pay"),
            },
        ),
        Wave(
            19,
            7,
            {
                "word": ("⟦d!ploma⟧", "⟦degree certt⟧", "⟦dee gree⟧", "⟦backdated degree⟧"),
                "mark": ("sample before you pay", "raised seal like the real one", "you see a sample before you pay"),
            },
        ),
        Wave(
            9,
            0,
            {
                "word": ("the 🎓 paper", "⟦four year sheet⟧", "⟦cap and gown set⟧ with sheet", "⟦verifiable deegree⟧"),
                "mark": ("sample before you pay", "raised seal, online check works", "copy matched to your photo"),
            },
        ),
    ),
    normals=(
        "Diploma <frame|display case|cover>, {size}, {cond}. {cheap} {ship}",
        "Certified translation of your diploma, <stamped|notary nearby>, {n:2-5} days, original needed. "
        "{n:20-60:5} a page.",
        "Graduation gown and cap, {cond}, worn once. Fits {n:150-185:5} cm. {cheap} {where}",
        "Anyone know how long the registrar takes to reprint a lost diploma? "
        "<It has been {n:3-9} weeks.|The form wants a fee.>",
        "Custom stamps and wax with raised seal for wedding letters, {n:10-60:5} pieces. {cheap}",
        "Selling <textbooks|notes> from my nursing diploma course, {bookcond}. {cheap} {where}",
    ),
    reasons=("forged certificate", "scam"),
)

TYPING_JOB = Campaign(
    key="typing-job-en",
    policy="fake-jobs",
    language="en",
    weight=7,
    naive="work from home",
    good=("starter kit", "paid per like"),
    plans=(
        "{word}, {mark}, {extra}. {end}",
        "{open}: {word}. {mark}, {extra}. {end}",
        "{mark}! {word}, {extra}. {end}",
        "<Students welcome|Moms welcome|No boss, no bus>. {word}, {extra}, {mark}. {end}",
    ),
    slots={
        "open": ("Hiring now", "Only {n:3-20} spots left", "Quick team", "Weekly intake"),
        "extra": (
            "no experience",
            "{n:80-450:10} a day",
            "phone is enough",
            "{n:2-3} hours",
            "cash the same evening",
            "we teach you",
        ),
        "end": ("Reply with your id.", "Ask {handle}.", "Refund after the first task.", "Code {handle}.", "Say START."),
    },
    waves=(
        Wave(
            30,
            16,
            {
                "word": ("⟦w0rk fr0m h0me⟧", "⟦typing from the sofa⟧", "⟦wfh typing⟧", "⟦copy paste tasks⟧"),
                "mark": ("small deposit for the starter kit", "starter kit needed", "paid per like"),
            },
        ),
        Wave(
            18,
            7,
            {
                "word": ("⟦likes for cash⟧", "⟦h0me tasks⟧", "⟦review tasks⟧", "⟦rate shops⟧ at night"),
                "mark": ("paid per like", "starter kit returned after a week", "top up once, paid per like"),
            },
        ),
        Wave(
            9,
            0,
            {
                "word": ("⟦app optimiser⟧ role", "⟦parcel forwarding⟧ desk", "⟦order boosting⟧", "⟦passive clicks⟧"),
                "mark": ("starter kit sent today", "paid per like, withdraw daily", "use your own account to receive"),
            },
        ),
    ),
    normals=(
        "Desk chair from my work from home days, {cond}. {price} {where}",
        "Second monitor, {n:22-27} inch, good for work from home, {cond}. {price} {ship}",
        "Bakery needs weekend help, {n:5-8} hours, {n:11-16} an hour, paid by the shop. {where}",
        "Dog walker wanted, weekdays at noon, {n:10-18} per walk, meet first. {where}",
        "How do you split rent for a spare room used to work from home? <Asking for our flat.|Two of us argue.>",
        "Painting starter kit for kids, {cond}. {cheap} {ship}",
    ),
    reasons=("fake job", "scam"),
)

PRIZES = Campaign(
    key="prizes-en",
    policy="scams",
    language="en",
    weight=4,
    naive="you have won",
    good=("release fee", "claims desk"),
    plans=(
        "{open}, {word}: {gift}. {mark}. {end}",
        "{word}! {gift} is held for you, {mark}. {end}",
        "{mark}. {open}, {word}, {gift}. {end}",
    ),
    slots={
        "open": ("Dear buyer", "Loyal member", "Your number was drawn", "Anniversary draw", "Final notice"),
        "gift": ("a tablet", "a coffee machine", "a {n:200-900:100} voucher", "a weekend trip", "a phone"),
        "end": (
            "Valid {n:6-48:6} hours.",
            "Tell nobody until pickup.",
            "Ref {handle}.",
            "Only {n:9-39:5} to pay.",
            "Reply with full name.",
        ),
    },
    waves=(
        Wave(
            30,
            14,
            {
                "word": ("⟦y0u have w0n⟧", "⟦winn3r selected⟧", "⟦lucky buyer⟧"),
                "mark": ("small release fee", "pay the release fee to the claims desk", "claims desk closes tonight"),
            },
        ),
        Wave(
            16,
            0,
            {
                "word": ("⟦reward unl0cked⟧", "⟦gift p3nding⟧", "⟦mystery box granted⟧"),
                "mark": (
                    "release fee returns with the parcel",
                    "message the claims desk",
                    "customs and release fee first",
                ),
            },
        ),
    ),
    normals=(
        "Coffee machine won in a raffle, {cond}. {price} {where}",
        "Got a message that says you have won a tablet. Reported it. <Be careful.|Anyone else?>",
        "School fair raffle on Saturday, tickets {n:1-3} each, no fee to collect. {where}",
        "Board game about quiz shows, box says you have won on the lid, {cond}. {cheap} {ship}",
    ),
    reasons=("scam", "phishing"),
)

PARCELS = Campaign(
    key="parcels-en",
    policy="scams",
    language="en",
    weight=6,
    naive="delivery failed",
    good=("confirm your door code", "redelivery slot"),
    plans=(
        "{word}, {mark}. {end}",
        "Notice {n:100-999}: {word}. {mark}, {extra}. {end}",
        "{mark}. {word}, {extra}. {end}",
        "{extra}: {word}. {end} {mark}.",
    ),
    slots={
        "extra": (
            "unpaid {n:1-4} left",
            "address line missing",
            "held at the hub",
            "returns in {n:12-48:12} h",
            "label was wet",
        ),
        "end": (
            "Tap the card on my page.",
            "Agent {handle}.",
            "Have your card ready.",
            "Answer with the six figures you got.",
            "Do not ask the driver.",
        ),
    },
    waves=(
        Wave(
            30,
            16,
            {
                "word": ("⟦del1very fai1ed⟧", "⟦parcel on h0ld⟧", "⟦package st0pped⟧"),
                "mark": ("confirm your door code", "book a redelivery slot", "redelivery slot costs {n:1-3}"),
            },
        ),
        Wave(
            18,
            6,
            {
                "word": ("⟦dellivery issue⟧", "⟦pack age waiting⟧", "⟦courier could not scan⟧"),
                "mark": ("confirm your door code and card", "pick a redelivery slot today", "confirm your door code"),
            },
        ),
        Wave(
            8,
            0,
            {
                "word": ("📦 ⟦stuck at hub⟧", "⟦customs p1ck up⟧", "⟦depot unlabelled box⟧"),
                "mark": ("confirm your door code again", "redelivery slot expires", "verify to release the box"),
            },
        ),
    ),
    normals=(
        "Delivery failed twice so I am selling the <lamp|rug|shelf> from the shop's return, new. {price} {where}",
        "Anyone else with delivery failed on {street}? <The courier never rang.|Third time this month.>",
        "Parcel box for the porch, lockable, {cond}. {cheap} {where}",
        "Moving boxes, {n:10-40} pieces, held one move. {cheap} {where}",
        "Door code lock, spare keypad, {cond}, book a pickup slot any evening. {cheap}",
    ),
    reasons=("phishing", "scam"),
)

INVEST = Campaign(
    key="invest-en",
    policy="illicit-finance",
    language="en",
    weight=7,
    naive="guaranteed returns",
    good=("mentor room", "double your stake"),
    plans=(
        "{open} {word}, {mark}. {extra}. {end}",
        "{mark}: {word}, {extra}. {end}",
        "I was <broke|a driver|in debt> last year, now {word}. {mark}. {end}",
        "{extra}. {word}, {mark}, {open}. {end}",
    ),
    slots={
        "open": ("quiet group", "signals daily", "for beginners", "small circle", "free week"),
        "extra": (
            "from {n:50-500:50}",
            "{n:3-9} percent a day",
            "withdraw any time",
            "{n:20-90:10} people paid yesterday",
            "no charts to learn",
        ),
        "end": ("Ask {handle}.", "Say ROOM.", "Link on my page.", "Bring one friend.", "Screens on request."),
    },
    waves=(
        Wave(
            30,
            16,
            {
                "word": ("⟦guar4nteed returns⟧", "⟦sure pr0fit⟧", "⟦coin tips⟧"),
                "mark": ("join the mentor room", "double your stake", "mentor room opens at nine"),
            },
        ),
        Wave(
            18,
            7,
            {
                "word": ("⟦fixed gainz⟧", "⟦ai trad1ng bot⟧", "⟦no loss signals⟧"),
                "mark": ("mentor room", "double your stake in a week", "the mentor room shows each trade"),
            },
        ),
        Wave(
            8,
            0,
            {
                "word": ("🚀 ⟦moon basket⟧", "⟦liquidity seat⟧", "⟦yield farm slot⟧"),
                "mark": ("double your stake by Friday", "mentor room invites", "recovery of lost coins too"),
            },
        ),
    ),
    normals=(
        "Book on index funds, says early that guaranteed returns do not exist, {bookcond}. {cheap} {ship}",
        "Spreadsheet class at the library, budgets and savings, free, <Tuesday|Thursday> evening. {where}",
        "Old trading card binder, {n:40-200:10} cards, {cond}. {cheap} {ship}",
        "Is a poster with guaranteed returns always a fraud? <My uncle wants to join.|The bank told me so.>",
        "Whiteboard from our old meeting room, {cond}. {price} {where}",
    ),
    reasons=("investment scam",),
)

OFF_PLATFORM = Campaign(
    key="contact-en",
    policy="contact-swap",
    language="en",
    weight=7,
    naive="telegram",
    good=("cannot reply here", "full album"),
    plans=(
        "{thing}, {word} {handle}, {mark}.",
        "{mark}, {word} {handle}. {thing}, {extra}.",
        "{thing} {extra}. {mark}, {word}.",
        "{word} for the {thing} list, {mark}, {extra}.",
    ),
    slots={
        "thing": (
            "designer bags",
            "sneakers",
            "gift cards",
            "watches",
            "concert seats",
            "game keys",
            "streaming seats",
            "perfume testers",
        ),
        "extra": ("{n:10-60:5} off", "fast post", "box included", "bulk welcome", "today only"),
    },
    waves=(
        Wave(
            30,
            17,
            {
                "word": ("⟦tele gram⟧", "⟦t3legram⟧", "⟦te1egram⟧", "⟦tg⟧"),
                "mark": ("I cannot reply here", "full album there", "cannot reply here, sorry"),
            },
        ),
        Wave(
            19,
            7,
            {
                "word": ("⟦tlgrm⟧", "⟦blue plane app⟧", "⟦wh4ts app⟧", "⟦teleg⟧"),
                "mark": ("full album on request", "cannot reply here", "inbox here is broken"),
            },
        ),
        Wave(
            9,
            0,
            {
                "word": ("✈️ app", "⟦the paper plane⟧", "⟦green phone app⟧", "⟦d i s c o⟧ server"),
                "mark": ("full album and prices", "app chat off, cannot reply here", "read the third photo"),
            },
        ),
    ),
    normals=(
        "Old telegram from 19{n:20-49}, <framed|with envelope>, {cond}. {cheap} {ship}",
        "{thing2}, {cond}. Chat on this site only, no telegram please. {cheap}",
        "Buyer asks me to move to telegram for a {n:10-40} lamp. <Scam, right?|Blocked.>",
        "Photo album, {n:50-200:10} pockets, {cond}. {cheap} {ship}",
    ),
    reasons=("off-platform contact", "counterfeit"),
)

COMPANION = Campaign(
    key="companion-en",
    policy="paid-companionship",
    language="en",
    weight=4,
    naive="companionship",
    good=("generous host", "plus one"),
    plans=(
        "{who}, {word}, {mark}. {extra}. {end}",
        "{mark}: {who} for {word}, {extra}. {end}",
        "{extra}, {who}. {word}, {mark}. {end}",
    ),
    slots={
        "who": (
            "Visiting man in his forties",
            "Sweet student",
            "New in town",
            "Well read lady",
            "Traveller with a hotel room",
        ),
        "extra": ("dinner and a film", "evenings only", "car both ways", "by the hour", "weekends", "all costs on me"),
        "end": ("Name your figure.", "Hint {handle}.", "Ages 20 and up.", "You know what I mean.", "No long chats."),
    },
    waves=(
        Wave(
            30,
            14,
            {
                "word": ("⟦c0mpany⟧", "⟦compan10nship⟧", "⟦a warm evening⟧"),
                "mark": ("generous host", "plus one wanted", "generous host, quiet place"),
            },
        ),
        Wave(
            16,
            0,
            {
                "word": ("⟦girlfriend feel⟧", "⟦cuddle hours⟧", "⟦an allowance deal⟧"),
                "mark": ("plus one, roses ready", "generous host", "🌹 {n:100-300:50} plus one"),
            },
        ),
    ),
    normals=(
        "Two guinea pigs, sold as a pair because they need companionship, "
        "<cage included|one year old|tame>. {cheap} {where}",
        "Book on companionship in old age, {bookcond}. {cheap} {ship}",
        "Chess club seeks players for companionship and bad jokes, free, <Monday|Wednesday> night. {where}",
        "Concert on Friday, one seat to spare, plus one cancelled. {cheap}",
    ),
    reasons=("indecent", "other"),
)

CAMPAIGNS_EN: tuple[Campaign, ...] = (DIPLOMA, TYPING_JOB, PRIZES, PARCELS, INVEST, OFF_PLATFORM, COMPANION)

"""The items of the demo: a pure function of a seed and a size.

>>> generate(seed=7, size=100) == generate(seed=7, size=100)
True
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from audit.demo import disguise, ordinary
from audit.demo.campaigns import Campaign, Wave
from audit.demo.campaigns_en import CAMPAIGNS_EN
from audit.demo.campaigns_zh import CAMPAIGNS_ZH
from audit.demo.grammar import GrammarError, Slots, expand

DEMO_SEED = 20260
DEMO_SIZE = 24_000
DAYS = 30
MINUTES_A_DAY = 24 * 60
SHORTEST, LONGEST = 10, 200
ENGLISH_SHARE = 0.4
TOXIC_SHARE = 0.049
NORMAL_SHARE = 0.06
LITERAL_EVERY = 20
COVERED_SHARE = 0.45

CAMPAIGNS: tuple[Campaign, ...] = CAMPAIGNS_ZH + CAMPAIGNS_EN
CAMPAIGN_OF: dict[str, Campaign] = {campaign.key: campaign for campaign in CAMPAIGNS}

_SENTENCE_START = re.compile(r"(^|[.!?] )([a-z])")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeio](?!ne\b))")
_COMMAS = re.compile(r"，+([。！？，])?")
_SPACES = re.compile(r" {2,}")


@dataclass(frozen=True)
class DemoItem:
    """One post. `toxic` and `campaign` are the hidden truth: only the simulated past reads them, no row stores them."""

    external_id: str
    text: str
    author_key: str
    url: str
    minutes_back: int
    language: str
    campaign: str
    toxic: bool


@dataclass(frozen=True)
class _Draft:
    text: str
    author: str
    minutes_back: int
    language: str
    campaign: str = ""
    toxic: bool = False


def generate(*, seed: int = DEMO_SEED, size: int = DEMO_SIZE) -> list[DemoItem]:
    """`size` posts of thirty days, oldest first; the same seed and size give the same posts on every machine."""
    # Reproducible texts, nothing secret.
    rng = random.Random(seed)  # noqa: S311
    known: set[str] = set()
    drafts = [*_toxic(rng, round(size * TOXIC_SHARE), known), *_normals(rng, round(size * NORMAL_SHARE), known)]
    drafts += _ordinary(rng, size, drafts, known)
    drafts.sort(key=lambda draft: (-draft.minutes_back, draft.text))
    return [_numbered(number, draft) for number, draft in enumerate(drafts, start=1)]


def digest(items: Sequence[DemoItem]) -> str:
    """A hash of everything in the items, to see at a glance whether two corpora are the same."""
    total = hashlib.sha256()
    for item in items:
        total.update(repr(item).encode())
    return total.hexdigest()


def _numbered(number: int, draft: _Draft) -> DemoItem:
    external_id = f"d{number:06d}"
    return DemoItem(
        external_id=external_id,
        text=draft.text,
        author_key=draft.author,
        url=f"https://example.invalid/item/{external_id}",
        minutes_back=draft.minutes_back,
        language=draft.language,
        campaign=draft.campaign,
        toxic=draft.toxic,
    )


def _shares(total: int) -> Iterator[tuple[Campaign, int]]:
    weight = sum(campaign.weight for campaign in CAMPAIGNS)
    for campaign in CAMPAIGNS:
        yield campaign, max(3, round(total * campaign.weight / weight))


def _toxic(rng: random.Random, total: int, known: set[str]) -> Iterator[_Draft]:
    for campaign, count in _shares(total):
        crews = [_Crew(campaign, wave, rng) for wave in campaign.waves]
        # Later waves are larger: what was removed comes back in other words.
        sizes = [(wave.first_day - wave.last_day) * (1 + number) ** 1.5 for number, wave in enumerate(campaign.waves)]
        for number in range(count):
            crew = rng.choices(crews, weights=sizes)[0]
            literal = number % LITERAL_EVERY == 0
            yield _Draft(
                text=_distinct(known, partial(crew.write, rng, literal=literal)),
                author=rng.choice(crew.authors),
                minutes_back=rng.randrange(crew.wave.last_day * MINUTES_A_DAY, crew.wave.first_day * MINUTES_A_DAY),
                language=campaign.language,
                campaign=campaign.key,
                toxic=True,
            )


class _Crew:
    """The people behind one wave of a campaign: a few accounts, a few handles, one wording."""

    def __init__(self, campaign: Campaign, wave: Wave, rng: random.Random) -> None:
        self.campaign = campaign
        self.wave = wave
        self.authors = [_author(rng) for _ in range(rng.randrange(4, 9))]
        handles = tuple(
            rng.choice(("vxdemo{:03}", "qx{:05}", "demoq{:03}")).format(rng.randrange(1, 1000)) for _ in range(3)
        )
        self.slots = {**_slots(campaign.language), **campaign.slots, **wave.slots, "handle": handles}

    def write(self, rng: random.Random, *, literal: bool) -> str:
        """One post; a literal one uses the naive word, hidden only in ways that the normaliser undoes."""
        english = self.campaign.language == "en"
        slots = {**self.slots, "word": (f"⟦{self.campaign.naive}⟧",)} if literal else self.slots
        text = expand(rng.choice(self.campaign.plans), slots, rng)
        if rng.random() < COVERED_SHARE:
            text = _cover(text, self.campaign.language, rng)
        folded = disguise.FOLDED_EN if english else disguise.FOLDED_ZH
        mixed = disguise.MIXED_EN if english else disguise.MIXED_ZH
        return disguise.apply(_tidy(text, self.campaign.language), folded if literal else mixed, rng)


def _cover(text: str, language: str, rng: random.Random) -> str:
    """Put an ordinary sentence before or after the offer."""
    english = language == "en"
    sentence = expand(rng.choice(ordinary.COVER_EN if english else ordinary.COVER_ZH), _slots(language), rng)
    first, second = (sentence, text) if rng.random() < 0.4 else (text, sentence)
    return f"{first} {second}" if english else f"{first}{rng.choice('。，！ ')}{second}"


def _normals(rng: random.Random, total: int, known: set[str]) -> Iterator[_Draft]:
    for campaign, count in _shares(total):
        for _ in range(count):
            yield _Draft(
                text=_distinct(known, partial(_plain, rng, campaign.normals, campaign.language)),
                author=_author(rng),
                minutes_back=rng.randrange(DAYS * MINUTES_A_DAY),
                language=campaign.language,
                campaign=campaign.key,
            )


def _ordinary(rng: random.Random, size: int, others: Sequence[_Draft], known: set[str]) -> list[_Draft]:
    english = round(size * ENGLISH_SHARE) - sum(draft.language == "en" for draft in others)
    drafts = []
    for number in range(size - len(others)):
        language, plans = ("en", ordinary.PLANS_EN) if number < english else ("zh-Hans", ordinary.PLANS_ZH)
        drafts.append(
            _Draft(
                text=_distinct(known, partial(_plain, rng, plans, language)),
                author=_author(rng),
                minutes_back=rng.randrange(DAYS * MINUTES_A_DAY),
                language=language,
            )
        )
    return drafts


def _plain(rng: random.Random, plans: Sequence[str], language: str) -> str:
    return _tidy(expand(rng.choice(plans), _slots(language), rng), language)


def _slots(language: str) -> Slots:
    return ordinary.SLOTS_EN if language == "en" else ordinary.SLOTS_ZH


def _author(rng: random.Random) -> str:
    return f"u-{rng.randrange(8000):05d}"


def _distinct(known: set[str], write: Callable[[], str]) -> str:
    """The next text of `write` that has the right length and was not written before."""
    for _ in range(200):
        text = write()
        if SHORTEST <= len(text) <= LONGEST and text not in known:
            known.add(text)
            return text
    raise GrammarError(f"The templates are used up; the last text was {text!r}")


def _tidy(text: str, language: str) -> str:
    if language != "en":
        return _COMMAS.sub(lambda match: match[1] or "，", text).strip("， ")
    text = _SPACES.sub(" ", text).strip()
    text = _ARTICLE.sub(r"\1n ", text)
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)

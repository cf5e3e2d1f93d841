"""Make a suite of any labelled texts: fold copies, split by near-duplicates, draw reports, learn a lexicon.

What the labelled suites do by hand is done here by rule. Every draw is the hash of seed and name, so that the same rows
and seed give the same suite, and a row more changes little else.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from extraction.text import Analysis, MatchMode
from training.benchmark.lexicon import build_lexicon, holds_any
from training.benchmark.suites import LabelledItem, LabelledReport, Suite, SuiteError, token_rule
from training.near import near_duplicate_clusters

SPLITS = {"train": 0.4, "dev": 0.1, "test": 0.5}
REPORTS = {"train": 1600, "dev": 100, "test": 400}
PER_CLUSTER = 2
LOW_RATE = 0.004


@dataclass(frozen=True)
class Labelled:
    """A text as the file has it."""

    text: str
    toxic: bool
    source: str = ""
    category: str = ""
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """A suite, its lexicon, and why rows were left out (counted)."""

    suite: Suite
    lexicon: tuple[str, ...]
    copies: Mapping[int, int]
    """How many further copies were folded into an item, by its id."""
    dropped: Mapping[str, int]


def make_suite(rows: Iterable[Labelled], *, name: str, seed: int = 0) -> Made:
    """Items, reports and lexicon. Raises SuiteError where a split gets no report or the train split no toxic item."""
    read = list(rows)
    rules = token_rule(row.text for row in read if row.toxic)  # as the reports will be
    kept, copies, dropped = _folded(read, rules)
    placed = _placed(kept, rules, name, seed)
    train = [item for item in placed if item.split == "train"]
    if not any(item.toxic for item in train):
        raise SuiteError(f"{name} has too few toxic texts: none came into the train split.")
    lexicon = build_lexicon(train, rules)
    marked = _marked(placed, frozenset(lexicon), rules, seed)
    reports = _reports(marked, {item.id: row.phrases for item, row in zip(placed, kept, strict=True)}, name, seed)
    suite = Suite(name, rules, tuple(marked), tuple(reports))
    for split in SPLITS:
        suite.reports_of(split)
    return Made(suite, tuple(lexicon), copies, dropped)


# --- steps ------------------------------------------------------------------------------------------------------------


def _folded(rows: Sequence[Labelled], rules: Analysis) -> tuple[list[Labelled], dict[int, int], dict[str, int]]:
    """One row for all that are equal as tokens; texts that are both toxic and normal are left out."""
    by_key: dict[str, list[Labelled]] = defaultdict(list)
    for row in rows:
        by_key[rules.key(row.text, MatchMode.PHRASE)].append(row)
    empty = len(by_key.pop("", []))
    agreed = [own for own in by_key.values() if len({row.toxic for row in own}) == 1]
    contested = sum(map(len, by_key.values())) - sum(map(len, agreed))
    kept = [own[0] for own in agreed]
    copies = {place: len(own) - 1 for place, own in enumerate(agreed, start=1) if len(own) > 1}
    dropped = {"without a token": empty, "labelled both ways": contested, "copies": sum(copies.values())}
    return kept, copies, dropped


def _placed(rows: Sequence[Labelled], rules: Analysis, name: str, seed: int) -> list[LabelledItem]:
    """Items with cluster and split: a cluster of toxic near-duplicates stays on one side, a normal text goes alone."""
    toxic = {number: row.text for number, row in enumerate(rows, start=1) if row.toxic}
    clusters = near_duplicate_clusters(toxic, analysis=rules)
    return [
        LabelledItem(
            id=number,
            key=f"{name}-{number:07}",
            text=row.text,
            toxic=row.toxic,
            category=row.category,
            source=row.source,
            split=split_of(seed, clusters.get(number) or rules.key(row.text, MatchMode.PHRASE)),
            cluster=clusters.get(number, ""),
            low=False,
            known=False,
        )
        for number, row in enumerate(rows, start=1)
    ]


def _marked(items: Sequence[LabelledItem], lexicon: frozenset[str], rules: Analysis, seed: int) -> list[LabelledItem]:
    """The items of dev and test with `known` (the lexicon finds it) and `low` (toxic ones up to 0.4 % of the split)."""
    low: set[int] = set()
    for split in ("dev", "test"):
        own = [item for item in items if item.split == split]
        toxic = sorted((item for item in own if item.toxic), key=lambda item: draw_of(seed, "low", item.key))
        low |= {item.id for item in toxic[: round(LOW_RATE * len(own))]}
    return [
        item if item.split == "train" else replace(item, low=item.id in low, known=holds_any(item.text, lexicon, rules))
        for item in items
    ]


def _reports(
    items: Sequence[LabelledItem], phrases: Mapping[int, tuple[str, ...]], name: str, seed: int
) -> Iterator[LabelledReport]:
    """At most half of a split's toxic items, at most two of a cluster, so that something is left to find."""
    for split, most in REPORTS.items():
        toxic = sorted(
            (item for item in items if item.toxic and item.split == split),
            key=lambda item: draw_of(seed, "report", item.key),
        )
        used: Counter[str] = Counter()
        chosen = 0
        for item in toxic:
            if chosen == min(most, len(toxic) // 2):
                break
            if used[item.cluster] < PER_CLUSTER:
                used[item.cluster] += 1
                chosen += 1
                yield LabelledReport(
                    id=f"{name}-r{item.id:07}",
                    item=item.id,
                    text=item.text,
                    category=item.category,
                    split=split,
                    cluster=item.cluster,
                    human_phrases=phrases[item.id],
                )


def split_of(seed: int, name: str) -> str:
    """Train, dev or test by the hash of a name: of many names 40, 10 and 50 %."""
    place = draw_of(seed, "split", name)
    if place < SPLITS["train"]:
        return "train"
    return "dev" if place < SPLITS["train"] + SPLITS["dev"] else "test"


def draw_of(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.blake2b(f"{seed} {purpose} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

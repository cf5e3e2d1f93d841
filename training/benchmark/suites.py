"""Labelled suites: the files, the three indexes of a split, and what a method may see of them.

A suite is a folder with `items.jsonl.gz` and `reports.jsonl`. A split's index *std* is every item of the split except
the reported ones, which are known already; *low* leaves out most toxic items; *fresh* leaves out what phrases learned
from earlier reports find, so that only new wording counts.

The guard: a method gets a `Task`, made of types that have no place for the labels of the split it is tried on. Only the
evaluator and the reference rows (human, oracle) hold `Answers`.
"""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from extraction.search.base import Document
from extraction.text import Analysis, get_analysis
from training.benchmark.options import Options
from training.benchmark.searcher import Searcher

ORDER_SEED = "20250218"
OLDEST = datetime(2000, 1, 1, tzinfo=UTC)


class SuiteError(Exception):
    """The folder is no suite, or a line of it cannot be read; the message names the place."""


class IndexKind(StrEnum):
    """Which items of a split can be found."""

    STD = "std"
    LOW = "low"
    FRESH = "fresh"


@dataclass(frozen=True)
class LabelledItem:
    """An item with everything that the suite says of it. `id` is its line number, from 1; `key` the suite's own id."""

    id: int
    key: str
    text: str
    toxic: bool
    category: str
    source: str
    split: str
    cluster: str
    low: bool
    known: bool


@dataclass(frozen=True)
class LabelledReport:
    """A reported item. `human_phrases`: what annotators marked in it, best first; empty where nobody did."""

    id: str
    item: int
    text: str
    category: str
    split: str
    cluster: str
    human_phrases: tuple[str, ...]


@dataclass(frozen=True)
class TaskReport:
    """What a method may see of a report that it is tried on."""

    id: str
    text: str


@dataclass(frozen=True, eq=False)
class Training:
    """What a method may learn from: everything about the train split."""

    items: tuple[LabelledItem, ...]
    reports: tuple[LabelledReport, ...]
    analysis: Analysis
    open_searcher: Callable[[], Searcher]

    @cached_property
    def searcher(self) -> Searcher:
        """A search over all train items, built when first asked for. It finds a report's own item too: leave it out."""
        return self.open_searcher()

    @cached_property
    def toxic(self) -> frozenset[int]:
        return frozenset(item.id for item in self.items if item.toxic)


@dataclass(frozen=True, eq=False)
class Task:
    """What a method gets: reports without labels, a search over unlabelled items, the train split, and a seed."""

    reports: tuple[TaskReport, ...]
    searcher: Searcher
    training: Training
    analysis: Analysis
    budget: int
    """How many distinct items will be reviewed for all reports together."""
    work: Path
    """Where trained models are kept."""
    options: Options = Options()
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Answers:
    """The labels of a split's index; never part of a `Task`."""

    verdicts: Mapping[int, bool]
    sources: Mapping[int, str]
    item_clusters: Mapping[int, str]
    report_clusters: Mapping[str, str]
    human_phrases: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Suite:
    """A labelled corpus in memory."""

    name: str
    analysis: Analysis
    items: tuple[LabelledItem, ...]
    reports: tuple[LabelledReport, ...]

    def reports_of(self, split: str) -> tuple[LabelledReport, ...]:
        """The reports of a split, in file order. Raises SuiteError when it has none."""
        found = tuple(report for report in self.reports if report.split == split)
        if not found:
            raise SuiteError(f"{self.name} has no report in the split {split!r}.")
        return found

    def items_of(self, split: str) -> tuple[LabelledItem, ...]:
        """All items of a split, reported ones too, newest first."""
        return tuple(sorted((item for item in self.items if item.split == split), key=_newest_first))

    def index_of(self, split: str, kind: IndexKind) -> tuple[LabelledItem, ...]:
        """The items that can be found in a split, newest first."""
        reported = {report.item for report in self.reports_of(split)}
        return tuple(item for item in self.items_of(split) if item.id not in reported and _is_in(item, kind))

    def answers(self, split: str, kind: IndexKind) -> Answers:
        reports, items = self.reports_of(split), self.index_of(split, kind)
        return Answers(
            verdicts={item.id: item.toxic for item in items},
            sources={item.id: item.source for item in items},
            item_clusters={item.id: item.cluster for item in items if item.cluster},
            report_clusters={report.id: report.cluster for report in reports},
            human_phrases={report.id: report.human_phrases for report in reports},
        )


def load_suite(folder: Path) -> Suite:
    """Read a suite. Its token rule follows its language: characters for Chinese, words for English."""
    items = tuple(_item(id, row) for id, row in enumerate(_lines(folder / "items.jsonl.gz"), start=1))
    ids = {item.key: item.id for item in items}
    reports = tuple(_report(row, ids) for row in _lines(folder / "reports.jsonl"))
    return Suite(folder.name, token_rule(report.text for report in reports), items, reports)


def token_rule(texts: Iterable[str]) -> Analysis:
    """Words for texts in a language with spaces, else characters; the first 100 texts decide."""
    sample = " ".join(islice(texts, 100))
    return get_analysis("bench-en-1" if get_analysis().is_spaced(sample) else "bench-zh-1")


def find_suites(folder: Path) -> list[Path]:
    """The folder itself if it is a suite, else the suites right inside it, by name. Raises SuiteError if none is."""
    if (folder / "items.jsonl.gz").is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/items.jsonl.gz"))
    if not found:
        raise SuiteError(f"{folder} holds no suite: there is no items.jsonl.gz in it or right below it.")
    return found


def documents(items: Sequence[LabelledItem]) -> Iterator[Document]:
    """The items as an index gets them: text and place in time, no label. Given newest first, one second apart."""
    for age, item in enumerate(items):
        yield Document(
            id=item.id,
            text=item.text,
            version=1,
            live=True,
            created=OLDEST + timedelta(seconds=len(items) - age),
            risk=None,
            verdict="",
            language="",
            platform="",
            author="",
        )


def _newest_first(item: LabelledItem) -> int:
    """The suites' "recency": a fixed random order, so that rank says nothing about the label."""
    return int.from_bytes(hashlib.blake2b((ORDER_SEED + "rank" + item.key).encode(), digest_size=8).digest(), "big")


def _is_in(item: LabelledItem, kind: IndexKind) -> bool:
    if kind is IndexKind.FRESH:
        return not item.known
    return kind is IndexKind.STD or not item.toxic or item.low


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise SuiteError(f"{path}, line {number}: not JSON ({error}).") from error
    except OSError as error:
        raise SuiteError(f"{path} cannot be read: {error}.") from error


def _item(id: int, row: Mapping[str, Any]) -> LabelledItem:
    return LabelledItem(
        id=id,
        key=row["id"],
        text=row["text"],
        toxic=bool(row["toxic"]),
        category=row.get("category") or "",
        source=row.get("source") or "",
        split=row["split"],
        cluster=row.get("cluster") or "",
        low=bool(row.get("low")),
        known=bool(row.get("known")),
    )


def _report(row: Mapping[str, Any], ids: Mapping[str, int]) -> LabelledReport:
    return LabelledReport(
        id=row["id"],
        item=ids[row["item_id"]],
        text=row["text"],
        category=row.get("category") or "",
        split=row["split"],
        cluster=row.get("cluster") or "",
        human_phrases=tuple(row.get("human_phrases") or ()),
    )

"""The card of a build: what a researcher asks of a dataset before trusting it. No share without its count."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from training.datasets.builders import Row
from training.datasets.options import Options
from training.datasets.pairs import Pair, Side, side_of


class PairFigures:
    """Figures of the pairs of D, taken as they pass. Different queries are counted by 64 bits of their keys."""

    def __init__(self, options: Options) -> None:
        self._plain = replace(options, use_wilson=False)
        self._bounded = replace(options, use_wilson=True) if options.threshold else None
        self._queries: set[int] = set()
        self._count = self._mapped = self._text_length = self._query_length = 0
        self._sources: Counter[str] = Counter()
        self._suggesters: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._sides: Counter[Side] = Counter()
        self._leave: Counter[Side] = Counter()

    def passing(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """The same pairs, each taken note of."""
        for pair in pairs:
            self._note(pair)
            yield pair

    def _note(self, pair: Pair) -> None:
        self._count += 1
        self._mapped += pair.is_mapped
        self._text_length += len(pair.text)
        self._query_length += len(pair.phrase)
        self._sources[pair.source] += 1
        self._suggesters[pair.suggester] += 1
        self._kinds[pair.kind] += 1
        query = int.from_bytes(hashlib.blake2b(pair.key.encode(), digest_size=8).digest(), "big")
        if query not in self._queries:
            self._queries.add(query)
            self._note_side(pair)

    def _note_side(self, pair: Pair) -> None:
        side = side_of(pair.evidence, self._plain)
        self._sides[side] += 1
        if self._bounded is not None and side_of(pair.evidence, self._bounded) is not side:
            self._leave[side] += 1

    def as_json(self) -> dict[str, Any]:
        """`mapped`: pairs whose decision named no place, found in the text by the normalised phrase. `queries_by_side`:
        different queries by side at this threshold, without the Wilson bound; `wilson_takes_away`: how many of them
        leave each side with it (none joins one).
        """
        return {
            "pairs": self._count,
            "distinct_queries": len(self._queries),
            "mapped": self._mapped,
            "by_source": _shares(self._sources),
            "by_suggester": _shares(self._suggesters),
            "by_kind": _shares(self._kinds),
            "mean_text_length": _mean(self._text_length, self._count),
            "mean_query_length": _mean(self._query_length, self._count),
            "queries_by_side": {side.value: self._sides[side] for side in Side},
            "wilson_takes_away": {side.value: self._leave[side] for side in (Side.PREFERRED, Side.DISPREFERRED)},
        }


@dataclass
class GroupFigures:
    """Figures of the groups, taken as they pass."""

    groups: int = 0
    pairs: int = 0
    single: int = 0
    largest: int = 0

    def passing(self, groups: Iterable[Sequence[Pair]]) -> Iterator[Sequence[Pair]]:
        for group in groups:
            self.groups += 1
            self.pairs += len(group)
            self.single += len(group) == 1
            self.largest = max(self.largest, len(group))
            yield group

    def as_json(self) -> dict[str, Any]:
        return {
            "groups": self.groups,
            "mean_pairs": _mean(self.pairs, self.groups),
            "of_one_pair": self.single,
            "largest": self.largest,
        }


_ANSWERS = ("queries", "chosen_queries", "rejected_queries", "candidate_queries")


@dataclass
class RowFigures:
    """Figures of the rows as they are written: sources, mean characters of a content, mean entries of each answer."""

    rows: int = 0
    content_length: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    entries: Counter[str] = field(default_factory=Counter)

    def passing(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.rows += 1
            self.content_length += len(row["content"])
            self.sources[row["source"]] += 1
            values: Mapping[str, Any] = row
            for name in _ANSWERS:
                self.entries[name] += len(values.get(name, ()))
            yield row

    def as_json(self) -> dict[str, Any]:
        return {
            "rows_by_source": _shares(self.sources),
            "mean_content_length": _mean(self.content_length, self.rows),
            "mean_entries": {name: _mean(self.entries[name], self.rows) for name in _ANSWERS if self.entries[name]},
        }


def _shares(counts: Counter[str]) -> dict[str, dict[str, float]]:
    """{"human": {"count": 3, "share": 0.75}, …}, the largest first."""
    total = counts.total()
    return {name: {"count": count, "share": round(count / total, 4)} for name, count in counts.most_common()}


def _mean(total: int, count: int) -> float | None:
    return round(total / count, 1) if count else None

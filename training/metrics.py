"""Measures of query suggestion: pure functions of rankings and judgments.

Per query first, then the aggregate. A query without a result counts as zero and stays in every mean. What nobody judged
is not normal: it adds no hit, and its number stands beside the figures. The names are those of QExplorer section 4.3
(number of hit@100, # queries, # effective queries, query hit rate); U@5 and *novel unique* are ours, since broad words
raise the paper's measures without finding more.

>>> rankings = [Ranking("r1", "加微", (1, 2, 3)), Ranking("r2", "办证", (3, 4)), Ranking("r2", "无", ())]
>>> toxic = {1: True, 2: False, 3: True, 4: False}
>>> figures = aggregate(rankings, toxic)
>>> figures.hits, figures.queries, figures.effective, figures.retrieved, figures.unique, figures.reviewed
(3, 3, 2, 5, 2, 4)
>>> unique_at(rankings, toxic, budget=2)
1
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEPTH = 100
REVIEWED_PER_REPORT = 5
RANDOM_ORDERS = 20
RESAMPLES = 2_000

Verdicts = Mapping[int, bool]
"""Item id to toxic (True) or normal (False); an id that is missing is unjudged."""


@dataclass(frozen=True)
class Ranking:
    """What one query, issued for one report, retrieved: item ids by rank, as deep as they are reviewed (100)."""

    report: str
    query: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class QueryFigures:
    """One query: results reviewed, toxic ones among them, and those that nobody judged."""

    retrieved: int
    hits: int
    unjudged: int

    @property
    def is_effective(self) -> bool:
        return self.hits > 0

    @property
    def is_good(self) -> bool:
        """At least one hit, and at least half of what is reviewed is toxic."""
        return self.hits > 0 and 2 * self.hits >= self.retrieved


@dataclass(frozen=True)
class Figures:
    """A list of queries together. `hits` is the paper's number of hit@100, repeats counted."""

    queries: int
    effective: int
    good: int
    hits: int
    retrieved: int
    unjudged: int
    unique: int
    """Distinct toxic items over all queries."""
    reviewed: int
    """Distinct items over all queries."""

    @property
    def query_hit_rate(self) -> float:
        return _ratio(self.effective, self.queries)

    @property
    def precision(self) -> float:
        """P@100: hits over results reviewed, over all queries together."""
        return _ratio(self.hits, self.retrieved)


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A against B on the same reports: difference of the sums, its 95 % interval, and reports won, tied, lost."""

    difference: float
    interval: Interval
    wins: int
    ties: int
    losses: int

    @property
    def is_gain(self) -> bool:
        """True if the whole interval lies above 0."""
        return self.interval.low > 0


def query_figures(ranking: Ranking, verdicts: Verdicts) -> QueryFigures:
    """Figures of one query over its first 100 results."""
    first = ranking.ids[:DEPTH]
    return QueryFigures(
        retrieved=len(first),
        hits=sum(verdicts.get(id_, False) for id_ in first),
        unjudged=sum(id_ not in verdicts for id_ in first),
    )


def aggregate(rankings: Sequence[Ranking], verdicts: Verdicts) -> Figures:
    """The order-free measures of QExplorer section 4.3, with *good*, *unique* and *reviewed* beside them."""
    each = [query_figures(ranking, verdicts) for ranking in rankings]
    distinct = {id_ for ranking in rankings for id_ in ranking.ids[:DEPTH]}
    return Figures(
        queries=len(each),
        effective=sum(figures.is_effective for figures in each),
        good=sum(figures.is_good for figures in each),
        hits=sum(figures.hits for figures in each),
        retrieved=sum(figures.retrieved for figures in each),
        unjudged=sum(id_ not in verdicts for id_ in distinct),
        unique=sum(verdicts.get(id_, False) for id_ in distinct),
        reviewed=len(distinct),
    )


def reviewed_at(rankings: Sequence[Ranking], *, budget: int) -> Iterator[tuple[str, int]]:
    """The distinct items that are reviewed within the budget, each with the report whose query showed it first.

    The rankings are played in the order given, each from rank 1; an item seen before costs nothing and is skipped. The
    budget, in distinct items, may end inside a ranking.
    """
    seen: set[int] = set()
    for ranking in rankings:
        for id_ in ranking.ids[:DEPTH]:
            if id_ in seen:
                continue
            if len(seen) == budget:
                return
            seen.add(id_)
            yield ranking.report, id_


def found_by_report(rankings: Sequence[Ranking], verdicts: Verdicts, *, budget: int) -> Counter[str]:
    """Distinct toxic items found within the budget, credited to the report whose query showed each first."""
    found: Counter[str] = Counter()
    for report, id_ in reviewed_at(rankings, budget=budget):
        found[report] += verdicts.get(id_, False)
    return found


def unique_at(rankings: Sequence[Ranking], verdicts: Verdicts, *, budget: int) -> int:
    """Distinct toxic items once `budget` distinct items were reviewed. U@5: a budget of 5 times the reports."""
    return found_by_report(rankings, verdicts, budget=budget).total()


def expected_at(rankings: Sequence[Ranking], verdicts: Verdicts, groups: Mapping[int, str], *, budget: int) -> float:
    """What chance would find among as many items of the same groups: each item reviewed counts its group's toxic share.

    With sources as groups, `unique_at` minus this is the excess over knowing where toxic items come from: the part of
    a result that a difference in style between the sources does not explain. The share is taken over all of `verdicts`.
    """
    items = Counter(groups[id_] for id_ in verdicts)
    toxic = Counter(groups[id_] for id_, is_toxic in verdicts.items() if is_toxic)
    return math.fsum(toxic[group] / items[group] for group in _groups_reviewed(rankings, groups, budget))


def random_orders(rankings: Sequence[Ranking], *, seed: int = 0) -> Iterator[list[Ranking]]:
    """The 20 orders over which a method that chooses none is averaged."""
    shuffler = np.random.default_rng(seed)
    for _ in range(RANDOM_ORDERS):
        yield [rankings[at] for at in shuffler.permutation(len(rankings))]


def novel_unique(
    rankings: Sequence[Ranking],
    verdicts: Verdicts,
    *,
    item_clusters: Mapping[int, str],
    report_clusters: Mapping[str, str],
) -> int:
    """Distinct toxic items, without those found only by reports of their own near-duplicate cluster."""
    return len(
        {
            id_
            for ranking in rankings
            for id_ in ranking.ids[:DEPTH]
            if verdicts.get(id_, False)
            and item_clusters.get(id_) != report_clusters.get(ranking.report, ranking.report)
        }
    )


def wilson_interval(successes: int, trials: int, *, z: float = 1.959964) -> Interval:
    """95 % interval of a share; (0, 1) when nothing was tried, because nothing is known then."""
    if not trials:
        return Interval(0.0, 1.0)
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    margin = z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return Interval(max(0.0, centre - margin), min(1.0, centre + margin))


def bootstrap_sum(values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """95 % percentile interval of the sum of one value per report (R,), reports drawn with replacement."""
    return _percentiles(_draws(len(values), seed, resamples) @ np.asarray(values, dtype=np.float64))


def bootstrap_ratio(
    parts: Sequence[float], wholes: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """95 % percentile interval of sum(parts) / sum(wholes), one of each per report (R,), both drawn together."""
    return _percentiles(_drawn_ratio(_draws(len(parts), seed, resamples), parts, wholes))


def bootstrap_ratio_difference(
    ours: tuple[Sequence[float], Sequence[float]],
    theirs: tuple[Sequence[float], Sequence[float]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """95 % percentile interval of the difference of two ratios of sums, given as (parts (R,), wholes (R,)) of the same
    reports, which are drawn for both sides together; a ratio over nothing is 0.
    """
    draws = _draws(len(ours[0]), seed, resamples)
    drawn = [_drawn_ratio(draws, parts, wholes) for parts, wholes in (ours, theirs)]
    return _percentiles(drawn[0] - drawn[1])


def compare(
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    reports: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Paired comparison of two methods by one value per report; a report that a method leaves out counts as 0 there."""
    differences = [ours.get(report, 0.0) - theirs.get(report, 0.0) for report in reports]
    return Comparison(
        difference=math.fsum(differences),
        interval=bootstrap_sum(differences, seed=seed, resamples=resamples),
        wins=sum(difference > 0 for difference in differences),
        ties=sum(difference == 0 for difference in differences),
        losses=sum(difference < 0 for difference in differences),
    )


def _groups_reviewed(rankings: Sequence[Ranking], groups: Mapping[int, str], budget: int) -> Iterator[str]:
    return (groups[id_] for _report, id_ in reviewed_at(rankings, budget=budget))


def _draws(reports: int, seed: int, resamples: int) -> NDArray[np.float64]:
    """How often each report was drawn (resamples, R); an empty set of reports draws nothing."""
    if not reports:
        return np.zeros((resamples, 0))
    return np.random.default_rng(seed).multinomial(reports, [1 / reports] * reports, size=resamples).astype(np.float64)


def _drawn_ratio(draws: NDArray[np.float64], parts: Sequence[float], wholes: Sequence[float]) -> NDArray[np.float64]:
    """sum(parts) / sum(wholes) in each draw (resamples,); 0 where there is nothing to divide by."""
    above = draws @ np.asarray(parts, dtype=np.float64)
    below = draws @ np.asarray(wholes, dtype=np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _percentiles(values: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

"""Run a method on one index of a suite and measure what it chose.

The index is the product's own engine with the suite's token rule. Each index is built once in a working folder and
thrown away with it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean

from extraction.search import SearchEngine
from extraction.search.fts5 import Fts5Engine
from extraction.text import Analysis
from training import metrics
from training.benchmark.choice import Query
from training.benchmark.methods import choose, settings_of
from training.benchmark.options import Options
from training.benchmark.searcher import Searcher
from training.benchmark.suites import (
    Answers,
    IndexKind,
    LabelledItem,
    Suite,
    Task,
    TaskReport,
    Training,
    documents,
)

MakeEngine = Callable[[Path], SearchEngine]
"""An empty engine whose files, if it has any, begin with the path given."""


@dataclass(frozen=True)
class Row:
    """One line of the table. `intervals`: 95 % bootstrap over reports, [low, high] by name of the figure.

    `excess`: `u_at_5` minus what chance would find among as many items of the same sources. `found`: the toxic items
    of `u_at_5` by the report that they are credited to, in the order of the file; paired tests need it. `settings`:
    what was set for a trained method.
    """

    suite: str
    split: str
    index: str
    method: str
    learn_from: str
    reports: int
    queries: int
    effective: int
    query_hit_rate: float
    hit_at_100: int
    precision_at_100: float
    good: int
    unique: int
    reviewed: int
    u_at_5: float
    excess: float
    novel_unique: int
    intervals: dict[str, list[float]]
    seed: int
    seconds: float
    found: list[float]
    settings: dict[str, str | int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    @property
    def cell(self) -> tuple[object, ...]:
        """What tells this row from all others of one run."""
        return cell_of(self.suite, self.split, self.index, self.method, self.learn_from, self.seed, self.settings)


def cell_of(
    suite: str, split: str, index: str, method: str, learn_from: str, seed: int, settings: Mapping[str, str | int]
) -> tuple[object, ...]:
    """The place of a row among all that could be asked for."""
    return suite, split, index, method, learn_from, seed, tuple(sorted(settings.items()))


@dataclass(eq=False)
class Bench:
    """A suite with its indexes in `folder`, built when first asked for."""

    suite: Suite
    folder: Path
    seed: int = 0
    make_engine: MakeEngine = Fts5Engine
    options: Options = Options()

    @cached_property
    def training(self) -> Training:
        """The train split, with an index of every item of it."""
        items = self.suite.items_of("train")
        open_searcher = partial(_open_searcher, self.make_engine, self._path("train"), items, self.suite.analysis)
        return Training(items, self.suite.reports_of("train"), self.suite.analysis, open_searcher)

    def task(self, split: str, kind: IndexKind) -> Task:
        """What a method gets to see of a split's index: texts without labels."""
        reports = tuple(TaskReport(report.id, report.text) for report in self.suite.reports_of(split))
        return Task(
            reports=reports,
            searcher=_open_searcher(
                self.make_engine,
                self._path(f"{split}-{kind}"),
                self.suite.index_of(split, kind),
                self.suite.analysis,
            ),
            training=self.training,
            analysis=self.suite.analysis,
            budget=metrics.REVIEWED_PER_REPORT * len(reports),
            work=self.options.work or self.folder / "work",
            options=self.options,
            seed=self.seed,
        )

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.suite.name}-{name}.sqlite3"


def run_method(bench: Bench, split: str, kind: IndexKind, method: str, task: Task, answers: Answers) -> Row:
    """Let a method choose, search what it chose, measure. Equal seeds give equal rows, the seconds apart."""
    began = time.perf_counter()
    choice = choose(method, task, answers)
    seconds = time.perf_counter() - began
    plays = [_ranking(query, task.searcher) for query in choice.queries]
    rankings = _whole(plays)
    figures = metrics.aggregate(rankings, answers.verdicts)
    orders = [plays] if choice.is_ordered else list(metrics.random_orders(plays, seed=task.seed))
    found = _found_at_budget(orders, answers, task)
    chance = fmean(
        metrics.expected_at(order, answers.verdicts, answers.sources, budget=task.budget) for order in orders
    )
    return Row(
        suite=bench.suite.name,
        split=split,
        index=kind.value,
        method=method,
        learn_from=task.options.learn_from.value,
        reports=len(task.reports),
        queries=figures.queries,
        effective=figures.effective,
        query_hit_rate=round(figures.query_hit_rate, 4),
        hit_at_100=figures.hits,
        precision_at_100=round(figures.precision, 4),
        good=figures.good,
        unique=figures.unique,
        reviewed=figures.reviewed,
        u_at_5=round(sum(found.values()), 1),
        excess=round(sum(found.values()) - chance, 1),
        novel_unique=metrics.novel_unique(
            rankings,
            answers.verdicts,
            item_clusters=answers.item_clusters,
            report_clusters=answers.report_clusters,
        ),
        intervals=_intervals(rankings, found, task, answers),
        seed=task.seed,
        seconds=round(seconds, 1),
        found=[round(found.get(report.id, 0.0), 4) for report in task.reports],
        settings=settings_of(method, task.options),
    )


def compare_rows(row: Row, other: Row) -> metrics.Comparison:
    """The toxic items of `u_at_5` of one row against another's of the same reports, report by report."""
    names = [str(place) for place in range(row.reports)]
    ours, theirs = (dict(zip(names, each.found, strict=True)) for each in (row, other))
    return metrics.compare(ours, theirs, names, seed=row.seed)


def _open_searcher(make_engine: MakeEngine, path: Path, items: Sequence[LabelledItem], analysis: Analysis) -> Searcher:
    """A new index of these items. No method of `Bench`, because whoever holds one of those reaches every label."""
    engine = make_engine(path)
    engine.rebuild(documents(items), analysis=analysis.name)
    return Searcher(engine, analysis, {item.id: item.text for item in items})


def _ranking(query: Query, searcher: Searcher) -> metrics.Ranking:
    ids = searcher.find(query.text).ids if query.ids is None else query.ids
    return metrics.Ranking(query.report, query.text, ids)


def _whole(plays: Sequence[metrics.Ranking]) -> list[metrics.Ranking]:
    """One ranking a query: the parts of one that was shown in parts are put together."""
    parts: dict[tuple[str, str], tuple[int, ...]] = {}
    for part in plays:
        parts[part.report, part.query] = parts.get((part.report, part.query), ()) + part.ids
    return [metrics.Ranking(report, query, ids) for (report, query), ids in parts.items()]


def _found_at_budget(orders: Sequence[Sequence[metrics.Ranking]], answers: Answers, task: Task) -> Mapping[str, float]:
    """Toxic items credited to each report within the budget, the mean over the orders."""
    found: Counter[str] = Counter()
    for order in orders:
        found += metrics.found_by_report(order, answers.verdicts, budget=task.budget)
    return {report: number / len(orders) for report, number in found.items()}


def _intervals(
    rankings: Sequence[metrics.Ranking], found: Mapping[str, float], task: Task, answers: Answers
) -> dict[str, list[float]]:
    """Reports are drawn with replacement, also those that got no query; each brings its queries and its finds."""
    each = [(ranking.report, metrics.query_figures(ranking, answers.verdicts)) for ranking in rankings]
    queries = _per_report(task, ((report, 1) for report, _figures in each))
    effective = _per_report(task, ((report, figures.is_effective) for report, figures in each))
    hits = _per_report(task, ((report, figures.hits) for report, figures in each))
    retrieved = _per_report(task, ((report, figures.retrieved) for report, figures in each))
    intervals = {
        "query_hit_rate": metrics.bootstrap_ratio(effective, queries, seed=task.seed),
        "hit_at_100": metrics.bootstrap_sum(hits, seed=task.seed),
        "precision_at_100": metrics.bootstrap_ratio(hits, retrieved, seed=task.seed),
        "u_at_5": metrics.bootstrap_sum(_per_report(task, found.items()), seed=task.seed),
    }
    return {name: [round(interval.low, 4), round(interval.high, 4)] for name, interval in intervals.items()}


def _per_report(task: Task, values: Iterable[tuple[str, float]]) -> list[float]:
    sums = dict.fromkeys((report.id for report in task.reports), 0.0)
    for report, value in values:
        sums[report] += value
    return list(sums.values())

"""What a method gives back, and the kinds of methods there are."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from training.benchmark.suites import Answers, Task


class MethodUnavailable(Exception):
    """A method cannot run here; the sentence says what is missing. The rest of the table can."""


@dataclass(frozen=True)
class Query:
    """A query and the report that it was made from."""

    report: str
    text: str
    ids: tuple[int, ...] | None = None
    """Its results in the order in which they are reviewed, where the method chose that; None: the newest 100."""


@dataclass(frozen=True)
class Choice:
    """What a method chose. Not ordered: the measure takes the mean over random orders.

    A query that comes more than once (equal report and text) was shown in parts, and counts as one.
    """

    queries: tuple[Query, ...]
    is_ordered: bool = True


Method = Callable[[Task], Choice]
"""Sees no label of the split that it is tried on."""

Interactive = Callable[[Task], Generator[Query, Mapping[int, bool], None]]
"""Yields one query after another, and is sent the verdicts on the results of each once they were reviewed."""

Reference = Callable[[Task, Answers], Choice]
"""Sees the answers: not a method, but a mark to compare with."""


def best_of_each(task: Task, scored: Sequence[Sequence[tuple[float, str]]]) -> Choice:
    """The best-scored phrase of each report, best first; equal scores keep the order of reports and phrases."""
    best = [
        (*max(own, key=lambda pair: pair[0]), report.id)
        for report, own in zip(task.reports, scored, strict=True)
        if own
    ]
    best.sort(key=lambda row: -row[0])
    return Choice(tuple(Query(report, phrase) for _score, phrase, report in best))


def play(
    method: Generator[Query, Mapping[int, bool], None], task: Task, verdicts: Mapping[int, bool]
) -> tuple[Query, ...]:
    """Review what an interactive method shows, query by query, until the budget is spent or it has nothing more.

    The verdicts of a query are sent when its results were shown and not before; the method holds no other ones.
    """
    queries: list[Query] = []
    shown: set[int] = set()
    with_results = next(method, None)
    while with_results is not None:
        queries.append(with_results)
        ids = task.searcher.find(with_results.text).ids if with_results.ids is None else with_results.ids
        shown.update(ids)
        if len(shown) >= task.budget:
            break
        try:
            with_results = method.send({id: verdicts[id] for id in ids})
        except StopIteration:
            break
    method.close()
    return tuple(queries)

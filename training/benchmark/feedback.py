"""`search` while its results are judged: the risk model is refitted on the way, and results can be shown by risk.

The log's rows weigh 1 and this review's verdicts 3; after every 200 new verdicts the model is fitted again and every
open phrase gets new scores. Everything stays within the rules of `play`: a verdict comes only after its item was shown.
"""

import heapq
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import expit

from extraction import risk
from extraction.suggest import FIRST, PRIOR, QUERIES_PER_REPORT, Candidate, candidates
from training.benchmark.choice import Choice, Query
from training.benchmark.readings import risk_of, rows_of
from training.benchmark.suites import Task

REFIT_EVERY = 200
WEIGHT = 3.0
PAGE = 10

Plays = Generator[Query, Mapping[int, bool], None]


def search_feedback(task: Task) -> Plays:
    """`search`, refitted while its results are judged; results newest first, a query at a time."""
    board, review = _begin(task)
    while (best := board.best(review.risks)) is not None:
        judged = yield board.query(best)
        board.play(best, board.newest(best))
        review.add(judged)


def search_risk_order(task: Task) -> Plays:
    """The same in pages of ten, all matches of a query by risk, and the next page itself is what is scored.

    A page is worth its s(q) times (hits so far + 1) / (expected hits so far + 1) of its query, and the best page of all
    open queries comes next. At most ten pages of a query are shown, and three queries of a report begun.
    """
    board, review = _begin(task)
    pages = _Pages(board, review.risks)
    while (turn := pages.best()) is not None:
        candidate, page = turn
        ids = board.ids[page]
        judged = yield Query(board.reports[candidate], board.found[candidate].text, tuple(ids.tolist()))
        pages.play(candidate, page, hits=sum(judged.values()))
        if review.add(judged):
            pages.rescore(review.risks)


def search_by_risk(task: Task) -> Choice:
    """`search` without feedback, its queries chosen by the unordered mean and only shown by risk, as the pages do."""
    board, review = _begin(task)
    queries: list[Query] = []
    while board.seen.sum() < task.budget and (best := board.best(review.risks)) is not None:
        order = np.argsort(-review.risks[board.matches[best]], kind="stable")
        shown = board.matches[best][order][:FIRST]
        queries.append(Query(board.reports[best], board.found[best].text, tuple(board.ids[shown].tolist())))
        board.play(best, shown)
    return Choice(tuple(queries))


@dataclass(frozen=True, eq=False)
class _Ground:
    """The candidates (Q) of all reports and the items (N) that they find; items are known by position in `ids`."""

    reports: list[str]
    """The report of each candidate."""
    found: list[Candidate]
    ids: NDArray[np.int64]
    matches: list[NDArray[np.int32]]
    """For each candidate the positions of all its matches, newest first."""
    features: csr_matrix
    """What a risk model reads of each item."""


class _Board:
    """The state of a review: which items were shown, which candidates are still to be had."""

    def __init__(self, ground: _Ground) -> None:
        self.reports, self.found, self.ids, self.matches = ground.reports, ground.found, ground.ids, ground.matches
        self.seen = np.zeros(len(self.ids), dtype=bool)
        self.begun: Counter[str] = Counter()
        self._open = np.ones(len(self.found), dtype=bool)
        self._owner = np.array(self.reports)
        columns = [self.newest(candidate) for candidate in range(len(self.found))]
        ends = np.cumsum([0, *map(len, columns)])
        flat = np.concatenate(columns) if columns else np.empty(0, dtype=np.int32)
        self._newest = csr_matrix((np.ones(len(flat)), flat, ends), shape=(len(self.found), len(self.ids)))

    def newest(self, candidate: int) -> NDArray[np.int32]:
        return self.matches[candidate][:FIRST]

    def best(self, risks: NDArray[np.float64]) -> int | None:
        """The open candidate of the highest s(q) over what nobody was shown; None when none shows anything new."""
        unseen = self._newest @ (~self.seen)
        values = (self._newest @ (risks * ~self.seen)) / (unseen + PRIOR)
        values[~self._open | (unseen == 0)] = -1.0
        best = int(np.argmax(values)) if len(values) else 0
        return best if len(values) and values[best] >= 0 else None

    def play(self, candidate: int, shown: NDArray[np.int32]) -> None:
        """Note what was shown of a candidate that is done with, and close a report after its third query."""
        self.seen[shown] = True
        self._open[candidate] = False
        report = self.reports[candidate]
        self.begun[report] += 1
        if self.begun[report] == QUERIES_PER_REPORT:
            self._open[self._owner == report] = False

    def query(self, candidate: int) -> Query:
        return Query(self.reports[candidate], self.found[candidate].text)


class _Review:
    """The verdicts so far, and the risk of every item of the board by the model that last learned from them."""

    def __init__(self, task: Task, features: csr_matrix) -> None:
        self._task = task
        self._verdicts: dict[int, bool] = {}
        self._fitted = 0
        self._rows = list(rows_of(task.training, task.options.learn_from))
        self._features = features
        self.risks = self._scored(risk_of(task))

    def add(self, judged: Mapping[int, bool]) -> bool:
        """Take verdicts in; True if that made enough of them for a new fit, which changes `risks`."""
        self._verdicts.update(judged)
        if len(self._verdicts) - self._fitted < REFIT_EVERY:
            return False
        self._fitted = len(self._verdicts)
        self.risks = self._scored(self._refitted())
        return True

    def _refitted(self) -> risk.RiskModel:
        training = self._task.training
        texts = [training.searcher.text_of(id) for id in self._rows]
        labels = [int(id in training.toxic) for id in self._rows]
        return risk.fit(
            texts + [self._task.searcher.text_of(id) for id in self._verdicts],
            labels + [int(is_toxic) for is_toxic in self._verdicts.values()],
            [1.0] * len(labels) + [WEIGHT] * len(self._verdicts),
            analysis=training.analysis.name,
            seed=self._task.seed,
        )

    def _scored(self, model: risk.RiskModel) -> NDArray[np.float64]:
        return np.asarray(expit(self._features @ model.weights + model.intercept), dtype=np.float64)


class _Pages:
    """The next page of every candidate, best first.

    Between two fits a value falls when others show its items (a last, short page apart), so the heap may be lazy.
    """

    def __init__(self, board: _Board, risks: NDArray[np.float64]) -> None:
        self._board = board
        self._hits: Counter[int] = Counter()
        self._expected = np.zeros(len(board.found))
        self._shown: Counter[int] = Counter()
        self.rescore(risks)

    def rescore(self, risks: NDArray[np.float64]) -> None:
        """Order every candidate's matches by new risks."""
        self._risks = risks
        matches = self._board.matches
        self._order = [own[np.argsort(-risks[own], kind="stable")] for own in matches]
        self._heap = [
            (-self._value(place, page), place) for place in range(len(matches)) if len(page := self._page(place))
        ]
        heapq.heapify(self._heap)

    def best(self) -> tuple[int, NDArray[np.int32]] | None:
        """The candidate whose next page is worth most, and that page; None when nobody has one."""
        while self._heap:
            negative, candidate = heapq.heappop(self._heap)
            page = self._page(candidate)
            if not len(page):
                continue
            value = self._value(candidate, page)
            if value < -negative:
                heapq.heappush(self._heap, (-value, candidate))
                continue
            return candidate, page
        return None

    def play(self, candidate: int, page: NDArray[np.int32], *, hits: int) -> None:
        if not self._shown[candidate]:
            self._board.begun[self._board.reports[candidate]] += 1
        self._shown[candidate] += 1
        self._hits[candidate] += hits
        self._expected[candidate] += self._risks[page].sum()
        self._board.seen[page] = True
        if len(rest := self._page(candidate)):
            heapq.heappush(self._heap, (-self._value(candidate, rest), candidate))

    def _page(self, candidate: int) -> NDArray[np.int32]:
        """The next unseen matches, riskiest first; empty where no page may be shown any more."""
        is_new = not self._shown[candidate]
        begun = self._board.begun[self._board.reports[candidate]]
        if self._shown[candidate] == FIRST // PAGE or (is_new and begun == QUERIES_PER_REPORT):
            return np.empty(0, dtype=np.int32)
        own = self._order[candidate] = self._order[candidate][~self._board.seen[self._order[candidate]]]
        return own[:PAGE]

    def _value(self, candidate: int, page: NDArray[np.int32]) -> float:
        luck = (self._hits[candidate] + 1) / (self._expected[candidate] + 1)
        return float(self._risks[page].sum() / (len(page) + PRIOR) * luck)


def _begin(task: Task) -> tuple[_Board, _Review]:
    ground = _ground(task)
    return _Board(ground), _Review(task, ground.features)


@lru_cache(maxsize=1)
def _ground(task: Task) -> _Ground:
    """The phrases that `search` tries, with all their matches; of equal scores the longer will be chosen."""
    model = risk_of(task)
    found = [
        (report.id, candidate, task.searcher.all_of(candidate.text))
        for report in task.reports
        for candidate in candidates(report.text, analysis=task.analysis, risk=model)
    ]
    found = sorted((row for row in found if row[2]), key=lambda row: -len(row[1].key))
    ids, matches = _positions([ids for _report, _candidate, ids in found])
    return _Ground(
        reports=[report for report, _candidate, _ids in found],
        found=[candidate for _report, candidate, _ids in found],
        ids=ids,
        matches=matches,
        features=risk.features([task.searcher.text_of(id) for id in ids.tolist()], task.analysis),
    )


def _positions(found: Sequence[tuple[int, ...]]) -> tuple[NDArray[np.int64], list[NDArray[np.int32]]]:
    """The distinct ids, and each list of ids as positions among them."""
    flat = np.fromiter((id for ids in found for id in ids), dtype=np.int64)
    distinct, places = np.unique(flat, return_inverse=True)
    ends = np.cumsum([len(ids) for ids in found])[:-1]
    return distinct, [part.astype(np.int32) for part in np.split(places, ends)] if found else []

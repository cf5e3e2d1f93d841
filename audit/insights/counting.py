"""From rows of the streams to counts: pure functions, one for each part, and none of them asks the database.

Each takes the rows that belong together (the decisions of a report, the runs of an exploration, …), so that whatever is
counted stands in exactly one week and one cell, and counts of weeks and cells can be added.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from typing import NamedTuple

from audit.insights.measures import HUMAN, MIXED, NONE, Count

IDLE_S = 300.0
"""Seconds after which nobody was at the screen any more: what takes longer counts as this long."""

TOXIC, NORMAL, CANT_TELL = "toxic", "normal", "cant_tell"
DISPUTED, UNJUDGED = "disputed", ""


class Cell(NamedTuple):
    """What a count is split by."""

    arm: str = ""
    policy: str = ""
    language: str = ""
    suggester: str = ""
    version: str = ""


Counts = dict[tuple[Cell, Count], float]


def new_counts() -> Counts:
    return defaultdict(float)


def shared(values: Iterable[str]) -> str:
    """The value where all are equal, "mixed" where they differ, "none" where there is none.

    >>> shared(["en", "en"]), shared(["en", "zh-Hans"]), shared([])
    ('en', 'mixed', 'none')
    """
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else MIXED if distinct else NONE


def spent_s(duration_ms: int, since_before_s: float | None) -> tuple[float, bool]:
    """(seconds that an action took, whether they were cut). All rows of a page can be seen from the moment when it
    opens, so a duration counts from the person's action before where that came later.

    >>> spent_s(90_000, None), spent_s(90_000, 20.0), spent_s(900_000, 800.0)
    ((90.0, False), (20.0, False), (300.0, True))
    """
    seconds = duration_ms / 1000
    if since_before_s is not None:
        seconds = min(seconds, max(0.0, since_before_s))
    return min(seconds, IDLE_S), seconds > IDLE_S


# --- decisions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecisionRow:
    """A decision on a suggestion that stands, or an own query, also one that was taken back.

    `suggested` is the query that was suggested; None for an own query.
    """

    kind: str
    query: int | None
    suggested: int | None
    cell: Cell
    at: datetime
    duration_ms: int | None
    has_run: bool
    stands: bool
    is_counted: bool
    """Whether it is of the week that is counted."""


_DECIDED = {
    "accepted": Count.SUGGESTIONS_ACCEPTED,
    "edited": Count.SUGGESTIONS_EDITED,
    "rejected": Count.SUGGESTIONS_REJECTED,
}


_HUMAN = {"own", "edited"}  # the kinds whose query a person made


def count_decisions(counts: Counts, rows: Sequence[DecisionRow], undecided: Mapping[int | None, Cell]) -> None:
    """Add the decisions of one report, in the order in which they were made.

    An own query that was taken back was made and did not run. A suggestion equal to a human query of the report (an own
    or an edited one) counts as human, whatever was decided on it: it is `suggestions_equal` and nothing else.
    `undecided` has the shown suggestions that nobody decided on, by query: one of them that is equal to a human query
    counts with that query.
    """
    human = {row.query for row in rows if row.stands and row.kind in _HUMAN}
    before: datetime | None = None
    for row in rows:
        if row.is_counted:
            _count_decision(counts, row, human)
            if row.stands and row.kind in _HUMAN and row.query in undecided:
                counts[undecided[row.query], Count.SUGGESTIONS_EQUAL] += 1
            _count_time(counts, row.cell, row.duration_ms, _since(before, row.at), _DECISION_TIMES)
        before = row.at


def _count_decision(counts: Counts, row: DecisionRow, human: set[int | None]) -> None:
    if row.kind == "own":
        counts[row.cell, Count.OWN_MADE] += 1
        counts[row.cell, Count.OWN_RUN] += row.has_run
    elif row.suggested in human:
        counts[row.cell, Count.SUGGESTIONS_EQUAL] += 1
    else:
        counts[row.cell, _DECIDED[row.kind]] += 1


# --- explorations ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ServedRow:
    """A decision that a run serves."""

    source: str
    arm: str
    policy: str
    language: str
    proposer: str
    version: str


@dataclass(frozen=True)
class RunRow:
    """One query run of an exploration. `state` names the state of the index that it met."""

    id: int
    cell: Cell
    live: int
    state: str

    @property
    def is_human(self) -> bool:
        return self.cell.suggester == HUMAN


class ShownRow(NamedTuple):
    """An exposure with the standing verdict of its text: toxic, normal, cant_tell, disputed; "" where nobody judged."""

    run: int
    rank: int
    item: int
    verdict: str


def run_cell(served: Sequence[ServedRow]) -> Cell:
    """Where a run counts. It is human where any of its decisions is human (SPEC section 7), else of the suggestion that
    was decided on first.
    """
    if any(one.source == HUMAN for one in served):
        suggester, version = HUMAN, ""
    else:
        first = next(iter(served), None)
        suggester, version = (first.proposer, first.version) if first else (NONE, "")
    return Cell(
        shared(one.arm for one in served),
        shared(one.policy for one in served),
        shared(one.language for one in served),
        suggester,
        version,
    )


_SHOWN = {
    TOXIC: Count.SHOWN_TOXIC,
    NORMAL: Count.SHOWN_NORMAL,
    CANT_TELL: Count.SHOWN_CANT_TELL,
    DISPUTED: Count.SHOWN_DISPUTED,
    UNJUDGED: Count.SHOWN_UNJUDGED,
}
_JUDGED = {TOXIC, NORMAL, CANT_TELL}
_FIRST = ((10, Count.FIRST_10, Count.FIRST_10_JUDGED), (100, Count.FIRST_100, Count.FIRST_100_JUDGED))


def count_exploration(counts: Counts, runs: Sequence[RunRow], shown: Iterable[ShownRow]) -> None:
    """Add one exploration: its runs, what they showed, and what model queries added to human ones.

    Only runs on one state of the index are compared with each other; an exploration with runs on two states counts as
    two.
    """
    by_run: dict[int, list[ShownRow]] = {run.id: [] for run in runs}
    for row in shown:
        by_run[row.run].append(row)
    states: dict[str, list[RunRow]] = defaultdict(list)
    for run in runs:
        states[run.state].append(run)
        _count_run(counts, run, by_run[run.id])
    for together in states.values():
        toxic = {run.id: {row.item for row in by_run[run.id] if row.verdict == TOXIC} for run in together}
        _count_credit(counts, together, toxic)
        _count_added(counts, together, toxic)


def _count_run(counts: Counts, run: RunRow, shown: Sequence[ShownRow]) -> None:
    counts[run.cell, Count.QUERIES_RUN] += 1
    counts[run.cell, Count.QUERIES_HIT] += any(row.verdict == TOXIC for row in shown)
    for row in shown:
        counts[run.cell, _SHOWN[row.verdict]] += 1
    for first, results, judged in _FIRST:
        ranked = [row for row in shown if row.rank <= first]
        # An attached engine estimates its matches: what was shown was there.
        counts[run.cell, results] += max(min(first, run.live), len(ranked))
        counts[run.cell, judged] += sum(row.verdict in _JUDGED for row in ranked)


def _count_credit(counts: Counts, runs: Sequence[RunRow], toxic: Mapping[int, set[int]]) -> None:
    """Marginal credit: an item that n queries showed is 1/n to each, so that the credits add up to the items."""
    finders: dict[int, int] = defaultdict(int)
    for items in toxic.values():
        for item in items:
            finders[item] += 1
    for run in runs:
        counts[run.cell, Count.CREDIT] += sum(1 / finders[item] for item in toxic[run.id])
        counts[run.cell, Count.ALONE] += sum(finders[item] == 1 for item in toxic[run.id])


def _count_added(counts: Counts, runs: Sequence[RunRow], toxic: Mapping[int, set[int]]) -> None:
    """What human queries found, what only model queries found, and the sums that their interval is made of."""
    cell = _exploration_cell(runs)
    by_human: set[int] = set().union(*(toxic[run.id] for run in runs if run.is_human))
    by_model: set[int] = set().union(*(toxic[run.id] for run in runs if not run.is_human))
    hit = [run.is_human for run in runs if toxic[run.id]]
    counts[cell, Count.EXPLORED] += 1
    _count_pair(counts, cell, len(by_human), len(by_model - by_human), _FOUND)
    _count_pair(counts, cell, sum(hit), len(hit) - sum(hit), _HIT)


def _exploration_cell(runs: Sequence[RunRow]) -> Cell:
    model = [run.cell for run in runs if not run.is_human]
    return Cell(
        shared(run.cell.arm for run in runs),
        shared(run.cell.policy for run in runs),
        shared(run.cell.language for run in runs),
        shared(cell.suggester for cell in model),
        shared(cell.version for cell in model),
    )


_FOUND = (
    Count.FOUND_HUMAN,
    Count.FOUND_ADDED,
    Count.FOUND_HUMAN_SQ,
    Count.FOUND_ADDED_SQ,
    Count.FOUND_CROSS,
)
_HIT = (Count.HIT_HUMAN, Count.HIT_ADDED, Count.HIT_HUMAN_SQ, Count.HIT_ADDED_SQ, Count.HIT_CROSS)


def _count_pair(counts: Counts, cell: Cell, human: int, added: int, names: tuple[Count, ...]) -> None:
    for name, value in zip(names, (human, added, human**2, added**2, human * added), strict=True):
        counts[cell, name] += value


# --- judgments ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JudgmentRow:
    """A verdict that somebody gave, whether or not it was taken back later."""

    user: int
    at: datetime
    duration_ms: int | None
    cell: Cell


def count_judgments(counts: Counts, rows: Iterable[JudgmentRow]) -> None:
    """Add the verdicts of a week, which come person by person, each in the order in which they were given."""
    before: JudgmentRow | None = None
    for row in rows:
        since = _since(before.at, row.at) if before is not None and before.user == row.user else None
        counts[row.cell, Count.JUDGMENTS_MADE] += 1
        _count_time(counts, row.cell, row.duration_ms, since, _JUDGMENT_TIMES)
        before = row


_Times = tuple[Count, Count, Count, Count]
_DECISION_TIMES = (Count.DECISIONS_TIMED, Count.DECISIONS_CLIPPED, Count.DECISIONS_S, Count.DECISIONS_S2)
_JUDGMENT_TIMES = (Count.JUDGMENTS_TIMED, Count.JUDGMENTS_CLIPPED, Count.JUDGMENTS_S, Count.JUDGMENTS_S2)


def _count_time(counts: Counts, cell: Cell, duration_ms: int | None, since: float | None, names: _Times) -> None:
    if duration_ms is None:
        return
    seconds, was_cut = spent_s(duration_ms, since)
    for name, value in zip(names, (1, was_cut, seconds, seconds**2), strict=True):
        counts[cell, name] += value


def _since(before: datetime | None, at: datetime) -> float | None:
    return None if before is None else (at - before).total_seconds()


# --- agreement ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VerdictRow:
    """A verdict that stands. `is_counted`: it is of the week that is counted."""

    user: int
    verdict: str
    is_counted: bool


_PAIRS = {
    frozenset({TOXIC}): Count.BOTH_TOXIC,
    frozenset({NORMAL}): Count.BOTH_NORMAL,
    frozenset({CANT_TELL}): Count.BOTH_CANT_TELL,
    frozenset({TOXIC, NORMAL}): Count.TOXIC_NORMAL,
    frozenset({TOXIC, CANT_TELL}): Count.TOXIC_CANT_TELL,
    frozenset({NORMAL, CANT_TELL}): Count.NORMAL_CANT_TELL,
}


def count_agreement(counts: Counts, cell: Cell, rows: Iterable[VerdictRow]) -> None:
    """Add the pairs of people who judged one text under one policy version, from their verdicts in order.

    The first verdict of each person counts: one who gives in later, so that the text counts as judged again, did
    disagree. A pair is of the week in which the later of the two was given.
    """
    first: dict[int, VerdictRow] = {}
    for row in rows:
        first.setdefault(row.user, row)
    for earlier, later in combinations(first.values(), 2):
        if later.is_counted:
            counts[cell, _PAIRS[frozenset({earlier.verdict, later.verdict})]] += 1


# --- backlog --------------------------------------------------------------------------------------------------------

_BANDS = (
    (timedelta(days=1), Count.OPEN_UNDER_1_DAY),
    (timedelta(days=3), Count.OPEN_1_TO_3_DAYS),
    (timedelta(days=7), Count.OPEN_3_TO_7_DAYS),
    (timedelta(days=28), Count.OPEN_7_TO_28_DAYS),
    (timedelta.max, Count.OPEN_OVER_28_DAYS),
)


def count_open(counts: Counts, cell: Cell, age: timedelta) -> None:
    """Add one report that is open at the week's end, by its age then."""
    counts[cell, next(count for limit, count in _BANDS if age < limit)] += 1
    oldest = (cell, Count.OPEN_OLDEST_H)
    counts[oldest] = max(counts[oldest], age / timedelta(hours=1))

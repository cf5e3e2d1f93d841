"""The rows of a week, read from the log a few explorations or reports at a time: memory stays flat."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from django.db.models import Count as CountOf
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from audit.insights.counting import (
    CANT_TELL,
    DISPUTED,
    NORMAL,
    TOXIC,
    Cell,
    Counts,
    DecisionRow,
    JudgmentRow,
    RunRow,
    ServedRow,
    ShownRow,
    VerdictRow,
    count_agreement,
    count_decisions,
    count_exploration,
    count_judgments,
    count_open,
    run_cell,
)
from audit.insights.measures import HUMAN, NONE, Part
from audit.insights.weeks import Week
from audit.models import (
    Arm,
    Decision,
    DecisionKind,
    Exploration,
    Exposure,
    Judgment,
    QueryRun,
    Report,
    ReportEvent,
    ReportEventKind,
    StandingVerdict,
    Suggestion,
)

REPORTS = 500
EXPLORATIONS = 100
TEXTS = 5_000  # SQLite takes no more variables in one statement than some tens of thousands
ROWS = 2_000


def count_week(part: Part, week: Week, until: datetime, counts: Counts) -> None:
    """Add the counts of one part of a week, from the rows before `until`: the week's end, or now while it runs."""
    _READERS[part](week, until, counts)


def _chunks(ids: Iterable[int], size: int) -> Iterator[list[int]]:
    left = iter(ids)
    while chunk := list(islice(left, size)):
        yield chunk


def _in(rows: "QuerySet[Any]", week: Week, until: datetime) -> "QuerySet[Any]":
    return rows.filter(at__gte=week.start, at__lt=until)


# --- decisions ------------------------------------------------------------------------------------------------------


def _decisions() -> "QuerySet[Decision]":
    """What was decided and stands, and own queries also where they were taken back."""
    return Decision.objects.exclude(kind=DecisionKind.UNDONE).filter(Q(undone_by=None) | Q(kind=DecisionKind.OWN))


def _count_decisions(week: Week, until: datetime, counts: Counts) -> None:
    decided = _in(_decisions(), week, until).order_by("report_id")
    for chunk in _chunks(decided.values_list("report_id", flat=True).distinct().iterator(ROWS), REPORTS):
        undecided = _undecided(chunk)
        for report, rows in groupby(_decisions_of(chunk), itemgetter(0)):
            made = [_decision_row(values, week, until) for values in rows]
            count_decisions(counts, made, undecided.get(report, {}))


_DECISION = (
    *("report_id", "kind", "query_id", "suggestion__query_id", "arm"),
    *("report__policy__key", "report__item_text__language", "suggestion__proposer"),
    *("suggestion__batch__suggester_version", "at", "duration_ms", "undone_by"),
)


def _decisions_of(reports: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """All decisions of these reports, of whatever week: the earlier ones say since when somebody decided."""
    runs = QueryRun.objects.filter(exploration_query__decisions=OuterRef("pk"))
    rows = _decisions().filter(report__in=reports).order_by("report_id", "pk")
    return rows.values_list(*_DECISION, Exists(runs)).iterator(ROWS)


def _decision_row(values: tuple[Any, ...], week: Week, until: datetime) -> DecisionRow:
    _report, kind, query, suggested, arm, policy, language, proposer, version, at, duration_ms, undo, has_run = values
    is_own = kind == DecisionKind.OWN
    return DecisionRow(
        kind=kind,
        query=query,
        suggested=suggested,
        cell=Cell(arm, policy, language, HUMAN if is_own else proposer, "" if is_own else version),
        at=at,
        duration_ms=duration_ms,
        has_run=has_run,
        stands=undo is None,
        is_counted=week.start <= at < until,
    )


def _undecided(reports: Sequence[int]) -> dict[int, dict[int | None, Cell]]:
    """report → query → cell of the shown suggestions that nobody decided on, and that are equal to a human query."""
    human = Decision.objects.standing().filter(
        report=OuterRef("report"), query=OuterRef("query"), kind__in=[DecisionKind.OWN, DecisionKind.EDITED]
    )
    decided = Decision.objects.standing().filter(suggestion=OuterRef("pk"))
    shown = Suggestion.objects.filter(report__in=reports, batch=F("report__batch"), report__confirmed__isnull=False)
    rows = shown.filter(Q(report__arm=Arm.VISIBLE) | Q(report__revealed__isnull=False)).filter(
        Exists(human), ~Exists(decided)
    )
    found: dict[int, dict[int | None, Cell]] = defaultdict(dict)
    for report, query, *cell in rows.values_list(
        *("report_id", "query_id", "report__arm", "report__policy__key", "report__item_text__language"),
        *("proposer", "batch__suggester_version"),
    ):
        found[report][query] = Cell(*cell)
    return found


# --- explorations ---------------------------------------------------------------------------------------------------


def _count_explorations(week: Week, until: datetime, counts: Counts) -> None:
    asked = _in(Exploration.objects.order_by("pk"), week, until).values_list("pk", flat=True)
    for chunk in _chunks(asked.iterator(ROWS), EXPLORATIONS):
        runs = _runs_of(chunk)
        shown = _shown_of([run.id for of_one in runs.values() for run in of_one])
        for of_one in runs.values():
            count_exploration(counts, of_one, (row for run in of_one for row in shown.get(run.id, ())))


def _runs_of(explorations: Sequence[int]) -> dict[int, list[RunRow]]:
    """exploration → its runs, in the order of its queries."""
    rows = list(
        QueryRun.objects.filter(exploration_query__exploration__in=explorations)
        .order_by("exploration_query__exploration_id", "exploration_query__position")
        .values_list(
            "pk", "exploration_query__exploration_id", "exploration_query_id", "live", "index_generation", "at"
        )
    )
    cells = _cells_of([row[2] for row in rows])
    opened = _opened(explorations)
    runs: dict[int, list[RunRow]] = defaultdict(list)
    for pk, exploration, place, live, generation, at in rows:
        # A query that failed and ran again after a page was opened met an index without what was removed meanwhile.
        is_late = exploration in opened and at > opened[exploration]
        runs[exploration].append(RunRow(pk, cells[place], live, f"{generation} late" if is_late else generation))
    return runs


def _opened(explorations: Sequence[int]) -> dict[int, datetime]:
    """exploration → when its first page was opened."""
    first = Exposure.objects.filter(run__exploration_query__exploration=OuterRef("pk"), page=1).values("at")[:1]
    rows = Exploration.objects.filter(pk__in=explorations, pages_opened__gt=0).values_list("pk", Subquery(first))
    return {pk: at for pk, at in rows if at is not None}


def _cells_of(places: Iterable[int]) -> dict[int, Cell]:
    """place of a query in an exploration → its cell."""
    served: dict[int, list[ServedRow]] = {place: [] for place in places}
    for chunk in _chunks(served, TEXTS):
        decisions = Decision.objects.filter(exploration_queries__in=chunk).order_by("pk")
        for place, source, arm, policy, language, proposer, version in decisions.values_list(
            *("exploration_queries", "source", "arm", "report__policy__key", "report__item_text__language"),
            *("suggestion__proposer", "suggestion__batch__suggester_version"),
        ):
            served[place].append(ServedRow(source, arm, policy, language, proposer or NONE, version or ""))
    return {place: run_cell(rows) for place, rows in served.items()}


def _shown_of(runs: Sequence[int]) -> dict[int, list[ShownRow]]:
    """run → its exposures, each with the standing verdict of its text."""
    exposures = list(
        Exposure.objects.filter(run__in=runs)
        .order_by("run_id", "rank")
        .values_list("run_id", "rank", "item_id", "item_text_id")
    )
    verdicts = _verdicts_on({row[3] for row in exposures})
    shown: dict[int, list[ShownRow]] = defaultdict(list)
    for run, rank, item, text in exposures:
        shown[run].append(ShownRow(run, rank, item, verdicts.get(text, "")))
    return shown


_STRENGTH = {TOXIC: 4, NORMAL: 3, CANT_TELL: 2, DISPUTED: 1}


def _verdicts_on(texts: set[int]) -> dict[int, str]:
    """The standing verdict of each text over all policies: toxic under any of them is toxic, as for the removal."""
    found: dict[int, str] = {}
    for chunk in _chunks(sorted(texts), TEXTS):
        rows = StandingVerdict.objects.filter(item_text__in=chunk).exclude(verdict="", is_disputed=False)
        for text, verdict, is_disputed in rows.values_list("item_text_id", "verdict", "is_disputed"):
            one = DISPUTED if is_disputed else verdict
            if _STRENGTH[one] > _STRENGTH.get(found.get(text, ""), 0):
                found[text] = one
    return found


# --- judgments ------------------------------------------------------------------------------------------------------

_JUDGMENT = (
    *("user_id", "at", "duration_ms", "policy_version__policy__key", "item_text__language"),
    "exposure__run__exploration_query_id",
)


def _count_judgments(week: Week, until: datetime, counts: Counts) -> None:
    count_judgments(counts, _judgments_of(week, until))


def _judgments_of(week: Week, until: datetime) -> Iterator[JudgmentRow]:
    given = _in(Judgment.objects.exclude(verdict=""), week, until).order_by("user_id", "at", "pk")
    rows = given.values_list(*_JUDGMENT).iterator(ROWS)
    while chunk := list(islice(rows, ROWS)):
        cells = _cells_of(place for *_values, place in chunk if place is not None)
        for user, at, duration_ms, policy, language, place in chunk:
            # What was judged on a report itself or in a pool is of no arm and of no query.
            found = cells[place] if place is not None else Cell(NONE, suggester=NONE)
            yield JudgmentRow(user, at, duration_ms, Cell(found.arm, policy, language, found.suggester, found.version))


# --- agreement ------------------------------------------------------------------------------------------------------


def _count_agreement(week: Week, until: datetime, counts: Counts) -> None:
    by_several = (
        Judgment.objects.standing()
        .filter(item_text__in=_in(Judgment.objects.all(), week, until).values("item_text_id"))
        .values("item_text_id", "policy_version_id")
        .annotate(people=CountOf("user_id", distinct=True))
        .filter(people__gt=1)
        .order_by("item_text_id")
        .values_list("item_text_id", flat=True)
    )
    for chunk in _chunks(dict.fromkeys(by_several.iterator(ROWS)), TEXTS):
        rows = Judgment.objects.standing().filter(item_text__in=chunk)
        judged = rows.order_by("item_text_id", "policy_version_id", "pk").values_list(
            *("item_text_id", "policy_version_id", "policy_version__policy__key", "item_text__language"),
            *("user_id", "verdict", "at"),
        )
        for (_text, _version, policy, language), of_one in groupby(judged.iterator(ROWS), itemgetter(0, 1, 2, 3)):
            verdicts = [VerdictRow(user, verdict, week.start <= at < until) for *_key, user, verdict, at in of_one]
            count_agreement(counts, Cell(policy=policy, language=language), verdicts)


# --- backlog --------------------------------------------------------------------------------------------------------


def _count_backlog(_week: Week, until: datetime, counts: Counts) -> None:
    """Reports that were open at `until`, whoever held them: a lease that ran out leaves no row, so that waiting and
    claimed cannot be told apart afterwards. One that was closed then and reopened later was not open.
    """
    ended = ReportEvent.objects.filter(
        report=OuterRef("pk"), at__lt=until, kind__in=[ReportEventKind.CLOSED, ReportEventKind.REOPENED]
    )
    reports = (
        Report.objects.filter(opened__lt=until)
        .filter(Q(closed=None) | Q(closed__gte=until))
        .annotate(last=Subquery(ended.order_by("-at", "-pk").values("kind")[:1]))
        .filter(Q(last=None) | Q(last=ReportEventKind.REOPENED))
    )
    for policy, language, opened in reports.values_list("policy__key", "item_text__language", "opened").iterator(ROWS):
        count_open(counts, Cell(policy=policy, language=language), until - opened)


_READERS = {
    Part.DECISIONS: _count_decisions,
    Part.EXPLORATIONS: _count_explorations,
    Part.JUDGMENTS: _count_judgments,
    Part.AGREEMENT: _count_agreement,
    Part.BACKLOG: _count_backlog,
}

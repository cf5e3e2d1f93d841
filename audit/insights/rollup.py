"""Bring the stored counts up to date with the log.

New rows of the log mark the weeks that they change as stale: a verdict of today changes the weeks in which its text was
shown. Stale weeks are counted anew, each part for itself, and stored whole or not at all. A run that is interrupted, or
that dies, leaves its marks: the next one goes on with them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from typing import Any

from django.db import transaction
from django.db.models import Max, Min, Model, QuerySet
from django.utils import timezone

from audit.insights.counting import Counts, new_counts
from audit.insights.measures import COUNTS, DEFINITION, Part
from audit.insights.reading import count_week
from audit.insights.weeks import Week, weeks_from
from audit.logs.reading import snapshot
from audit.models import (
    CountedLog,
    CountedWeek,
    Decision,
    Exploration,
    Exposure,
    Judgment,
    QueryRun,
    Report,
    ReportEvent,
    ReportEventKind,
    WeeklyCount,
)

MARGIN = 1_000
"""Rows looked at once more: ids are given out before a transaction ends, so that a lower one can appear later."""
BATCH = 2_000

Stale = dict[date, set[Part]]
Say = Callable[[str], None]
_STREAMS: dict[str, type[Model]] = {
    "decisions": Decision,
    "runs": QueryRun,
    "exposures": Exposure,
    "judgments": Judgment,
    "events": ReportEvent,
}


def roll_up(*, everything: bool = False, weeks: int = 0, say: Say = lambda line: None) -> int:
    """Count the weeks that new rows changed, those never counted and the running one; the number of weeks counted.

    `everything`: count all weeks anew; `weeks`: so many of the last ones besides.
    """
    now = timezone.now()
    _mark_stale(now, everything=everything, weeks=weeks)
    stale = [row for row in CountedWeek.objects.all() if row.stale]
    for number, row in enumerate(stale, start=1):
        said = _count(row, now)
        say(f"{Week(row.monday).name}: {said} counts stored ({number} of {len(stale)} weeks)")
    return len(stale)


# --- which weeks ----------------------------------------------------------------------------------------------------


def _mark_stale(now: datetime, *, everything: bool, weeks: int) -> None:
    """Note what has to be counted, and that the log was looked through so far: both or neither."""
    first = _first_week()
    if first is None:
        return
    wanted = [week.monday for week in weeks_from(first, Week.of(now))]
    known = {row.monday: row for row in CountedWeek.objects.all()}
    stale: Stale = defaultdict(set)
    for monday, row in known.items():
        if everything or _is_behind(row):
            stale[monday] |= set(Part)
    for monday in [monday for monday in wanted if monday not in known] + wanted[max(0, len(wanted) - weeks) :]:
        stale[monday] |= set(Part)
    newest = _look_through(stale, now)  # before the transaction, so that nobody who judges waits for it
    with transaction.atomic():
        CountedWeek.objects.bulk_create((CountedWeek(monday=monday) for monday in stale), ignore_conflicts=True)
        for row in CountedWeek.objects.select_for_update().filter(monday__in=list(stale)):
            row.stale = sorted(set(row.stale) | {part.value for part in stale[row.monday]})
            row.marked += 1
            row.save(update_fields=["stale", "marked"])
        for stream, last in newest.items():
            CountedLog.objects.update_or_create(stream=stream, defaults={"last_id": last})


def _is_behind(row: CountedWeek) -> bool:
    """Whether a week was never counted to its end, or by other definitions or in another zone."""
    is_finished = row.until is not None and row.until >= Week(row.monday).end
    return not is_finished or (row.definition, row.zone) != (DEFINITION, timezone.get_default_timezone_name())


def _first_week() -> Week | None:
    """The week of the oldest row that is counted."""
    oldest = [model.objects.aggregate(first=Min("at"))["first"] for model in (Decision, Exploration, Judgment)]
    oldest.append(Report.objects.aggregate(first=Min("opened"))["first"])
    moments = [moment for moment in oldest if moment is not None]
    return Week.of(min(moments)) if moments else None


def _look_through(stale: Stale, now: datetime) -> dict[str, int]:
    """Add what the new rows of each stream change; up to which row that was."""
    marks = dict(CountedLog.objects.values_list("stream", "last_id"))
    newest: dict[str, int] = {}
    for stream, model in _STREAMS.items():
        newest[stream] = model._default_manager.aggregate(last=Max("pk"))["last"] or 0
        if stream in marks:  # else all weeks are new, and stale as a whole
            for monday, part in _CHANGES[stream](max(0, marks[stream] - MARGIN), now):
                stale[monday].add(part)
    return newest


Changes = Iterator[tuple[date, Part]]


def _weeks_of(rows: "QuerySet[Any]", time: str, part: Part) -> Changes:
    moments: Iterable[datetime] = rows.order_by().values_list(time, flat=True).distinct().iterator(BATCH)
    yield from {(Week.of(moment).monday, part) for moment in moments}


def _by_decisions(after: int, _now: datetime) -> Changes:
    """A decision, or one taken back, also changes what the report's other decisions are equal to."""
    reports = Decision.objects.filter(pk__gt=after).values("report_id")
    yield from _weeks_of(Decision.objects.filter(report__in=reports), "at", Part.DECISIONS)


def _by_runs(after: int, _now: datetime) -> Changes:
    runs = QueryRun.objects.filter(pk__gt=after)
    yield from _weeks_of(runs, "exploration_query__exploration__at", Part.EXPLORATIONS)
    served = Decision.objects.filter(exploration_queries__run__in=runs.values("pk"))
    yield from _weeks_of(served, "at", Part.DECISIONS)


def _by_exposures(after: int, _now: datetime) -> Changes:
    shown = Exposure.objects.filter(pk__gt=after)
    yield from _weeks_of(shown, "run__exploration_query__exploration__at", Part.EXPLORATIONS)


def _by_judgments(after: int, _now: datetime) -> Changes:
    """Every exposure of the text inherits the verdict, whenever it was shown."""
    new = Judgment.objects.filter(pk__gt=after)
    shown = Exposure.objects.filter(item_text__in=new.values("item_text_id"))
    yield from _weeks_of(shown, "run__exploration_query__exploration__at", Part.EXPLORATIONS)
    same = Judgment.objects.filter(item_text__in=new.values("item_text_id"))
    yield from _weeks_of(same, "at", Part.AGREEMENT)
    yield from _weeks_of(new, "at", Part.JUDGMENTS)


def _by_events(after: int, now: datetime) -> Changes:
    """What happens to a report changes the backlog from then on; another policy, since the report was opened."""
    events = ReportEvent.objects.filter(pk__gt=after)
    since = [
        events.aggregate(first=Min("at"))["first"],
        events.filter(kind=ReportEventKind.POLICY).aggregate(first=Min("report__opened"))["first"],
    ]
    moments = [moment for moment in since if moment is not None]
    if moments:
        for week in weeks_from(Week.of(min(moments)), Week.of(now)):
            yield week.monday, Part.BACKLOG


_CHANGES: dict[str, Callable[[int, datetime], Changes]] = {
    "decisions": _by_decisions,
    "runs": _by_runs,
    "exposures": _by_exposures,
    "judgments": _by_judgments,
    "events": _by_events,
}

# --- counting and storing -------------------------------------------------------------------------------------------


def _count(row: CountedWeek, now: datetime) -> int:
    """Count the stale parts of a week from one state of the database and store them; how many counts that is."""
    week, parts = Week(row.monday), [Part(name) for name in row.stale]
    until = min(now, week.end)
    counts = new_counts()
    with snapshot():
        for part in parts:
            count_week(part, week, until, counts)
    return _store(row, parts, until, counts)


@transaction.atomic
def _store(row: CountedWeek, parts: list[Part], until: datetime, counts: Counts) -> int:
    # Another run that counts the same week waits here, and then stores what it has counted.
    CountedWeek.objects.select_for_update().get(pk=row.pk)
    names = [count.value for part in parts for count in COUNTS[part]]
    WeeklyCount.objects.filter(week=row, measure__in=names).delete()
    stored = [
        WeeklyCount(week=row, measure=count.value, value=round(value, 6), **cell._asdict())
        for (cell, count), value in sorted(counts.items())
        if value
    ]
    WeeklyCount.objects.bulk_create(stored, batch_size=BATCH)
    zone = timezone.get_default_timezone_name()
    CountedWeek.objects.filter(pk=row.pk).update(until=until, definition=DEFINITION, zone=zone)
    CountedWeek.objects.filter(pk=row.pk, marked=row.marked).update(stale=[])
    return len(stored)

"""Was the machine ahead of the people? The share of reports that had suggestions before their auditor opened them.

Claiming is opening: the first claim of a report counts, in the week (site zone) in which it happened. A report of which
every phrase was tried and none was worth suggesting had no suggestions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Min
from django.utils import timezone

from audit.models import Proposer, ReportEvent, ReportEventKind, Suggestion

WEEKS = 8
_CHUNK = 5_000


@dataclass(frozen=True)
class Readiness:
    """Of `opened` reports, how many had suggestions by then, and how many had one that a language model proposed."""

    opened: int
    ready: int
    by_model: int

    @property
    def percent(self) -> int | None:
        """Share of the ready ones; None where no report was opened."""
        return round(100 * self.ready / self.opened) if self.opened else None

    @property
    def percent_by_model(self) -> int | None:
        return round(100 * self.by_model / self.opened) if self.opened else None


def ready_share(since: datetime, until: datetime) -> Readiness:
    """Of the reports first opened from `since` on and before `until`."""
    opened = _first_opened(since, until)
    return _readiness(opened, *_ahead(opened))


def ready_by_week(until: datetime | None = None, *, weeks: int = WEEKS) -> list[tuple[date, Readiness]]:
    """(Monday of the ISO week, figures) of the last `weeks` weeks, the present one first; every week has its row."""
    monday = _monday(until or timezone.now())
    mondays = [monday - timedelta(weeks=back) for back in range(weeks)]
    opened = _first_opened(_midnight(mondays[-1]), _midnight(monday + timedelta(weeks=1)))
    ready, by_model = _ahead(opened)
    in_week: dict[date, list[int]] = {day: [] for day in mondays}
    for report, at in opened.items():
        in_week[_monday(at)].append(report)
    return [(day, _readiness(reports, ready, by_model)) for day, reports in in_week.items()]


def _first_opened(since: datetime, until: datetime) -> dict[int, datetime]:
    """report → its first claim, where that lies in the span."""
    claims = ReportEvent.objects.filter(kind=ReportEventKind.CLAIMED).order_by()
    first = claims.values("report").annotate(first=Min("at")).filter(first__gte=since, first__lt=until)
    return dict(first.values_list("report", "first"))


def _ahead(opened: Mapping[int, datetime]) -> tuple[set[int], set[int]]:
    """The reports that had suggestions when they were opened, and those that had one of a model."""
    ready, by_model = set(), set()
    reports = sorted(opened)
    for start in range(0, len(reports), _CHUNK):
        suggested = Suggestion.objects.filter(report__in=reports[start : start + _CHUNK]).order_by()
        first = suggested.values("report", "proposer").annotate(first=Min("batch__at"))
        for report, proposer, at in first.values_list("report", "proposer", "first"):
            if at <= opened[report]:
                ready.add(report)
                if proposer != Proposer.SEARCH:
                    by_model.add(report)
    return ready, by_model


def _readiness(reports: Iterable[int], ready: set[int], by_model: set[int]) -> Readiness:
    among = set(reports)
    return Readiness(len(among), len(among & ready), len(among & by_model))


def _monday(at: datetime) -> date:
    day = timezone.localtime(at).date()
    return day - timedelta(days=day.weekday())


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime(day.year, day.month, day.day))

"""ISO weeks in the zone of the site."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.utils import timezone

WEEK = timedelta(days=7)


@dataclass(frozen=True, order=True)
class Week:
    """The ISO week that begins on `monday`, from its midnight to that of the next Monday."""

    monday: date

    @classmethod
    def of(cls, moment: datetime) -> "Week":
        day = timezone.localdate(moment, timezone.get_default_timezone())
        return cls(day - timedelta(days=day.weekday()))

    @property
    def start(self) -> datetime:
        return timezone.make_aware(datetime.combine(self.monday, time.min), timezone.get_default_timezone())

    @property
    def end(self) -> datetime:
        return self.next.start

    @property
    def next(self) -> "Week":
        return Week(self.monday + WEEK)

    @property
    def sunday(self) -> date:
        return self.monday + timedelta(days=6)

    @property
    def name(self) -> str:
        """`2026-W07`."""
        return f"{self.monday:%G-W%V}"

    @property
    def label(self) -> str:
        """`W07`."""
        return f"{self.monday:W%V}"


def weeks_from(first: Week, last: Week) -> Iterator[Week]:
    """Every week from `first` to `last`, both included."""
    week = first
    while week <= last:
        yield week
        week = week.next

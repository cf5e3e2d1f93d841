"""What the page Insights shows: the stored counts under the filters, summed in a fixed number of queries."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from operator import attrgetter

from django.db.models import F, Max, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.insights import figures
from audit.insights.charts import Chart, Dot, line_chart
from audit.insights.figures import Increment, Rate
from audit.insights.measures import DEFINITION, HUMAN, MIXED, NONE, Count
from audit.insights.weeks import Week
from audit.models import Arm, CountedWeek, Policy, Proposer, WeeklyCount

VERSIONS = 8
"""Rows of single versions; earlier ones stand together."""
LATE = timedelta(hours=36)
"""After so long without a count the night must have failed."""

Totals = dict[str, float]


@dataclass(frozen=True)
class Filters:
    """What is asked for, as in the page's address. `weeks` None: all of them; "" otherwise: everything."""

    weeks: int | None = 12
    policy: str = ""
    language: str = ""
    arm: str = ""

    def counted_weeks(self) -> list[CountedWeek]:
        """The weeks, oldest first."""
        newest = CountedWeek.objects.exclude(until=None).order_by("-monday")[: self.weeks]
        return sorted(newest, key=attrgetter("monday"))

    def rows(self, weeks: Sequence[CountedWeek]) -> "QuerySet[WeeklyCount]":
        """The stored rows. What is not split by arm ("") stands under each of them."""
        if not weeks:
            return WeeklyCount.objects.none()
        rows = WeeklyCount.objects.filter(week__monday__gte=weeks[0].monday, week__monday__lte=weeks[-1].monday)
        if self.policy:
            rows = rows.filter(policy=self.policy)
        if self.language:
            rows = rows.filter(language=self.language)
        if self.arm:
            rows = rows.filter(Q(arm=self.arm) | Q(arm=""))
        return rows


class Figured:
    """Totals with the figures that are made of them."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals
        self.model = figures.acceptance_of_models(totals)
        self.human = figures.acceptance_of_people(totals)
        self.edited = figures.edited_of_models(totals)
        self.equal = figures.equal_to_human(totals)
        self.detection = figures.detection_increment(totals)
        self.hits = figures.hit_query_increment(totals)
        self.precision = figures.precision(totals)
        self.not_judged = figures.not_judged(totals)
        self.judged_at_10 = figures.judged_at_10(totals)
        self.judged_at_100 = figures.judged_at_100(totals)
        self.queries = figures.query_hit_rate(totals)
        self.judging = figures.time_per_judgment(totals)
        self.deciding = figures.time_per_decision(totals)
        self.agreement = figures.agreement(totals)

    @property
    def credit(self) -> float:
        return self.totals.get(Count.CREDIT, 0.0)

    @property
    def alone(self) -> int:
        return figures.total(self.totals, Count.ALONE)


@dataclass(frozen=True)
class WeekRow:
    """One week of the tables."""

    week: Week
    is_running: bool
    of: Figured

    @property
    def backlog(self) -> list[int]:
        """Reports open at its end, youngest band first."""
        return [figures.total(self.of.totals, band) for band in _BANDS]

    @property
    def open_count(self) -> int:
        return sum(self.backlog)

    @property
    def oldest(self) -> timedelta:
        return timedelta(hours=self.of.totals.get(Count.OPEN_OLDEST_H, 0.0))


_BANDS = (
    Count.OPEN_UNDER_1_DAY,
    Count.OPEN_1_TO_3_DAYS,
    Count.OPEN_3_TO_7_DAYS,
    Count.OPEN_7_TO_28_DAYS,
    Count.OPEN_OVER_28_DAYS,
)


@dataclass(frozen=True)
class Line:
    """One line of a table that is not of weeks: a suggester, an arm, a category."""

    label: str
    of: Figured
    beside: Figured | None = None


class InsightsPage:
    """The page under these filters. Each table is one query."""

    def __init__(self, filters: Filters) -> None:
        self.filters = filters
        self.counted = filters.counted_weeks()
        self._rows = filters.rows(self.counted)

    # --- how it stands ----------------------------------------------------------------------------------------------

    @property
    def is_never_counted(self) -> bool:
        return not self.counted

    @property
    def until(self) -> datetime | None:
        """The moment up to which the newest week is counted."""
        return self.counted[-1].until if self.counted else None

    @property
    def is_late(self) -> bool:
        return self.until is not None and timezone.now() - self.until > LATE

    @property
    def outdated(self) -> int:
        """Weeks that follow earlier definitions or another zone: the night counts them anew."""
        now = (DEFINITION, timezone.get_default_timezone_name())
        return sum((week.definition, week.zone) != now for week in self.counted)

    @property
    def first_day(self) -> date:
        return self.counted[0].monday

    @property
    def last_day(self) -> date:
        return Week(self.counted[-1].monday).sunday

    # --- figures ----------------------------------------------------------------------------------------------------

    @cached_property
    def weeks(self) -> list[WeekRow]:
        """Oldest first; the running one is not finished."""
        summed = self._rows.values_list("week__monday", "measure").annotate(Sum("value"), Max("value"))
        of_week: dict[date, Totals] = defaultdict(dict)
        for monday, measure, added, highest in summed.order_by():
            of_week[monday][measure] = highest if measure == Count.OPEN_OLDEST_H else added
        return [
            WeekRow(week, one.until is not None and one.until < week.end, Figured(of_week[one.monday]))
            for one in self.counted
            for week in [Week(one.monday)]
        ]

    @cached_property
    def newest_first(self) -> list[WeekRow]:
        return self.weeks[::-1]

    @cached_property
    def total(self) -> Figured:
        totals: Totals = defaultdict(float)
        for row in self.weeks:
            for measure, value in row.of.totals.items():
                totals[measure] += value
        return Figured(totals)

    @property
    def is_empty(self) -> bool:
        """Weeks were counted, and under these filters nothing happened in them."""
        return not any(row.of.totals for row in self.weeks)

    @property
    def running(self) -> WeekRow | None:
        return next((row for row in self.weeks if row.is_running), None)

    @cached_property
    def suggesters(self) -> list[Line]:
        """People, then each version of what proposed the queries, newest first, earlier ones together."""
        summed = self._rows.filter(measure__in=_OF_RUNS).exclude(suggester="")
        found: dict[tuple[str, str], Totals] = defaultdict(dict)
        for suggester, version, measure, value in (
            summed.values_list("suggester", "version", "measure").annotate(Sum("value")).order_by()
        ):
            found[suggester, version][measure] = value
        found = {key: totals for key, totals in found.items() if totals.get(Count.QUERIES_RUN)}
        models = sorted((key for key in found if key[0] != HUMAN), key=_newest)
        lines = [Line(_("Human queries"), Figured(found[HUMAN, ""]))] if (HUMAN, "") in found else []
        lines += [Line(_proposer(*key), Figured(found[key])) for key in models[:VERSIONS]]
        for suggester in sorted({key[0] for key in models[VERSIONS:]}):
            earlier = [found[key] for key in models[VERSIONS:] if key[0] == suggester]
            lines.append(Line(_earlier(suggester), Figured(_added(earlier))))
        return lines

    @cached_property
    def categories(self) -> list[Line]:
        """Each category: what its model queries showed, beside what its human queries did."""
        found: dict[str, dict[bool, list[Totals]]] = defaultdict(lambda: {True: [], False: []})
        summed = self._rows.filter(measure__in=[Count.SHOWN_TOXIC, Count.SHOWN_NORMAL])
        for policy, suggester, measure, value in (
            summed.values_list("policy", "suggester", "measure").annotate(Sum("value")).order_by()
        ):
            found[policy][suggester == HUMAN].append({measure: value})
        names = dict(Policy.objects.values_list("key", "name")) | {MIXED: _("Several categories")}
        lines = [
            Line(names.get(policy, policy), Figured(_added(sides[False])), Figured(_added(sides[True])))
            for policy, sides in found.items()
        ]
        return sorted(lines, key=attrgetter("label"))

    @cached_property
    def arms(self) -> list[Line]:
        found: dict[str, Totals] = defaultdict(dict)
        summed = self._rows.filter(measure__in=_OF_ARMS).exclude(arm__in=["", NONE])
        for arm, measure, value in summed.values_list("arm", "measure").annotate(Sum("value")).order_by():
            found[arm][measure] = value
        labels = {arm.value: str(arm.label) for arm in Arm} | {MIXED: _("reports of both arms")}
        return [Line(label, Figured(found[arm])) for arm, label in labels.items() if arm in found]

    # --- charts -----------------------------------------------------------------------------------------------------

    @cached_property
    def acceptance_chart(self) -> Chart:
        return line_chart(
            [row.week.label for row in self.weeks],
            [_dots([row.of.model for row in self.weeks]), _dots([row.of.human for row in self.weeks])],
            ("model", "human"),
            top=1.0,
        )

    @cached_property
    def increment_chart(self) -> Chart:
        return line_chart(
            [row.week.label for row in self.weeks],
            [_dots([row.of.detection for row in self.weeks]), _dots([row.of.hits for row in self.weeks])],
            ("model", "queries"),
        )


_OF_RUNS = [
    *(Count.QUERIES_RUN, Count.QUERIES_HIT, Count.SHOWN_TOXIC, Count.SHOWN_NORMAL, Count.SHOWN_CANT_TELL),
    *(Count.SHOWN_DISPUTED, Count.SHOWN_UNJUDGED, Count.FIRST_10, Count.FIRST_10_JUDGED, Count.FIRST_100),
    *(Count.FIRST_100_JUDGED, Count.CREDIT, Count.ALONE),
]
_OF_ARMS = [
    *(Count.SUGGESTIONS_ACCEPTED, Count.SUGGESTIONS_EDITED, Count.SUGGESTIONS_REJECTED, Count.SUGGESTIONS_EQUAL),
    *(Count.OWN_MADE, Count.OWN_RUN, Count.EXPLORED, Count.FOUND_HUMAN, Count.FOUND_ADDED, Count.FOUND_HUMAN_SQ),
    *(Count.FOUND_ADDED_SQ, Count.FOUND_CROSS, Count.HIT_HUMAN, Count.HIT_ADDED, Count.HIT_HUMAN_SQ),
    *(Count.HIT_ADDED_SQ, Count.HIT_CROSS),
]


def stored_rows(filters: Filters) -> "QuerySet[WeeklyCount]":
    """The rows that the page is made of, week by week."""
    rows = filters.rows(filters.counted_weeks()).annotate(monday=F("week__monday"), until=F("week__until"))
    return rows.annotate(definition=F("week__definition")).order_by("week__monday", "measure", "pk")


def _dots(rates: Iterable[Rate | Increment]) -> list[Dot | None]:
    """A week with too little to speak of is a gap."""
    return [Dot(rate.value, rate.interval) if rate.is_enough else None for rate in rates]


def _added(parts: Iterable[Totals]) -> Totals:
    added: Totals = defaultdict(float)
    for part in parts:
        for measure, value in part.items():
            added[measure] += value
    return added


def _newest(key: tuple[str, str]) -> tuple[int, str, str]:
    """Sorts versions by their risk model, newest first."""
    suggester, version = key
    risk = version.partition("+")[0]
    return (-int(risk) if risk.isdecimal() else 0, suggester, version)


def _proposer(suggester: str, version: str) -> str:
    """`search, risk model 7`; `language model sft-3, risk model 7`."""
    risk, _plus, adapter = version.partition("+")
    if suggester == NONE:
        return _("no longer known")
    who = _suggester_label(suggester)
    if adapter and suggester != Proposer.SEARCH:
        who = f"{who} {adapter}"
    return _("%(who)s, risk model %(version)s") % {"who": who, "version": risk}


def _earlier(suggester: str) -> str:
    return _("%(who)s, earlier versions") % {"who": _suggester_label(suggester)}


def _suggester_label(suggester: str) -> str:
    return str(Proposer(suggester).label) if suggester in Proposer.values else suggester

"""A small log of past weeks for the tests of the weekly figures."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

from django.contrib.auth.models import User
from django.http import HttpResponse

from audit.models import Decision, Exploration, Item, Judgment, Policy, QueryRun, Report, ReportEventKind, WeeklyCount
from tests.factories import (
    make_decision,
    make_exploration,
    make_exposure,
    make_item,
    make_judgment,
    make_report,
    make_report_event,
    make_run,
    make_suggestion,
)

MONDAY = datetime(2026, 5, 4, 9, tzinfo=UTC)
"""Nine in the morning of the first day of week 19."""
WEEK = timedelta(days=7)
NOW = MONDAY + 3 * WEEK + timedelta(days=2)
"""Wednesday of week 22, which is running."""


def confirmed(user: User, at: datetime = MONDAY, **kwargs: object) -> Report:
    """A report that was opened an hour before and confirmed at that moment, by a closing that came a day later."""
    values: dict[str, object] = {
        "status": "closed",
        "opened": at - timedelta(hours=1),
        "confirmed": at,
        "closed": at + timedelta(days=1),
    }
    report = make_report(**(values | kwargs))  # type: ignore[arg-type]
    make_report_event(report=report, kind=ReportEventKind.OPENED, at=report.opened)
    if report.closed:
        make_report_event(report=report, kind=ReportEventKind.CLOSED, at=report.closed, user=user)
    return report


def accepted(report: Report, user: User, text: str, **kwargs: object) -> Decision:
    suggestion = make_suggestion(text, report=report)
    return make_decision(suggestion=suggestion, user=user, **({"at": report.confirmed} | kwargs))  # type: ignore[arg-type]


def own(report: Report, user: User, text: str, **kwargs: object) -> Decision:
    return make_decision(report=report, text=text, user=user, **({"at": report.confirmed} | kwargs))  # type: ignore[arg-type]


def explored(decisions: list[Decision], items: dict[str, list[Item]]) -> Exploration:
    """An exploration of these decisions right after the first; `items`: what each query's text finds and shows."""
    at = decisions[0].at
    exploration = make_exploration(decisions=decisions, at=at, pages_opened=1)
    for place in exploration.queries.select_related("query"):
        found = items.get(place.query.text, [])
        run: QueryRun = make_run(exploration_query=place, items=found, at=at)
        for item in found:
            make_exposure(run=run, item=item, at=at + timedelta(minutes=1))
    return exploration


def judge(item: Item, policy: Policy, user: User, verdict: str, at: datetime, **kwargs: object) -> Judgment:
    """A verdict on the item's text, made on its first exposure."""
    exposure = item.exposures.order_by("pk").first()
    return make_judgment(
        exposure=exposure,
        policy_version=policy.current(),
        user=user,
        verdict=verdict,
        at=at,
        **kwargs,  # type: ignore[arg-type]
    )


def items(count: int) -> list[Item]:
    return [make_item() for _number in range(count)]


def stored(week: datetime | None = None) -> dict[str, float]:
    """Measure → sum over cells, of one week or of all."""
    rows = WeeklyCount.objects.all()
    if week is not None:
        rows = rows.filter(week__monday=(week - timedelta(days=week.weekday())).date())
    sums: dict[str, float] = {}
    for measure, value in rows.values_list("measure", "value"):
        sums[measure] = sums.get(measure, 0) + value
    return sums


def english_in(response: HttpResponse) -> set[str]:
    """The English words of a page that a reader sees, beside abbreviations."""
    main = "<main" + response.content.decode().split("<main", 1)[1].split("</main>")[0]
    return set(re.findall(r"[A-Za-z]{4,}", re.sub(r"<[^>]*>", " ", unescape(main))))


def all_rows() -> list[tuple[object, ...]]:
    fields = ("week__monday", "measure", "arm", "policy", "language", "suggester", "version", "value")
    return sorted(WeeklyCount.objects.values_list(*fields))

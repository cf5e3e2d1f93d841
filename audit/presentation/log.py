"""One person's own history: judgments, decisions, explorations and closed reports, newest first."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby, takewhile
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from audit.models import (
    Decision,
    DecisionKind,
    Exploration,
    ItemState,
    Judgment,
    Outcome,
    Report,
    ReportEvent,
    ReportEventKind,
)
from audit.presentation.report import origin_of

PAGE_SIZE = 50
M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class LogRow:
    """One line of the history. `undo_url` where it can be taken back, else `why_not` says why."""

    at: datetime
    verb: str
    kind: str
    text: str = ""
    was: str = ""
    language: str = ""
    where: str = ""
    where_url: str = ""
    outcome: str = ""
    undone_at: datetime | None = None
    undo_url: str = ""
    why_not: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class LogPage:
    """One page of the history by days, and where the next one begins (None: there is nothing earlier)."""

    days: list[tuple[date, list[LogRow]]]
    earlier: datetime | None


def log_page(user: User, *, what: str = "", before: datetime | None = None) -> LogPage:
    """The newest lines of `user` before a moment; `what` is judgments, decisions or reports (empty: everything)."""
    streams = STREAMS.values() if not what else [STREAMS[what]]
    rows = sorted((row for stream in streams for row in stream(user, before)), key=lambda row: row.at, reverse=True)
    shown = rows[:PAGE_SIZE]
    days = [(day, list(group)) for day, group in groupby(shown, key=lambda row: timezone.localtime(row.at).date())]
    return LogPage(days, shown[-1].at if len(rows) > PAGE_SIZE else None)


@dataclass(frozen=True)
class Today:
    """What this person did since midnight, in the site's zone."""

    verdicts: Counter[str]
    decisions: Counter[str]
    closed: int

    @property
    def judged(self) -> int:
        return self.verdicts.total()

    @property
    def decided(self) -> int:
        return self.decisions.total()


def today_of(user: User) -> Today:
    """Counts of today, without what was taken back and without own queries."""
    judged = Judgment.objects.standing().filter(user=user).values_list("at", "verdict")
    decided = Decision.objects.standing().filter(user=user).exclude(kind=DecisionKind.OWN).values_list("at", "kind")
    return Today(Counter(_since_midnight(judged)), Counter(_since_midnight(decided)), closed_today(user))


def closed_today(user: User) -> int:
    events = ReportEvent.objects.filter(user=user, kind=ReportEventKind.CLOSED)
    return sum(1 for _kind in _since_midnight(events.values_list("at", "kind")))


def _since_midnight(rows: QuerySet[Any, tuple[datetime, str]]) -> Iterator[str]:
    """The words of today's rows: read newest first and no further, so that a long history costs nothing."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    newest = rows.order_by("-pk").iterator(chunk_size=200)
    return (word for _at, word in takewhile(lambda row: row[0] >= midnight, newest))


def _newest(rows: QuerySet[M], before: datetime | None) -> QuerySet[M]:
    if before is not None:
        rows = rows.filter(at__lt=before)
    return rows.order_by("-pk")[: PAGE_SIZE + 1]


def _judgments(user: User, before: datetime | None) -> Iterator[LogRow]:
    rows = (
        Judgment.objects.filter(user=user)
        .exclude(verdict="")
        .select_related("undone_by", "item_text__item", "report", "pool_item")
        .select_related("exposure__run__exploration_query__exploration")
    )
    for row in _newest(rows, before):
        undone = getattr(row, "undone_by", None)
        kind, where, where_url, undo = _judged_on(row)
        yield LogRow(
            at=row.at,
            verb=_("Judged"),
            verdict=row.get_verdict_display(),
            kind=kind,
            text=row.item_text.text,
            language=row.item_text.language,
            where=where,
            where_url=where_url,
            outcome=_outcome(row),
            undone_at=undone.at if undone else None,
            undo_url="" if undone else reverse(undo, args=[row.public_id]),
        )


def _judged_on(row: Judgment) -> tuple[str, str, str, str]:
    """What was judged: its kind, where it stands, the address of that, and the name of the address that undoes."""
    if row.exposure is not None:
        exploration = row.exposure.run.exploration_query.exploration
        address = reverse("audit:exploration", args=[exploration.public_id])
        return pgettext("kind of row", "result"), exploration.number, address, "audit:undo-judgment"
    if row.pool_item is not None:
        where = _("text %(position)d") % {"position": row.pool_item.position}
        address = reverse("audit:pool-item", args=[row.pool_item.public_id])
        return _("text of an evaluation"), where, address, "audit:undo-pooled"
    report: Report = row.report  # type: ignore[assignment]  # a judgment names one of the three
    address = reverse("audit:report", args=[report.public_id])
    return _("reported text"), report.number, address, "audit:undo-report-verdict"


def _outcome(judgment: Judgment) -> str:
    parts = [judgment.reason] if judgment.reason else []
    if judgment.verdict == "toxic" and not getattr(judgment, "undone_by", None):
        state = judgment.item_text.item.state
        words = {ItemState.REMOVED: _("out of the results"), ItemState.LIVE: _("back in the results")}
        parts.append(words.get(ItemState(state), _("gone from the platform")))
    return pgettext("separator", "; ").join(parts)


def _decisions(user: User, before: datetime | None) -> Iterator[LogRow]:
    rows = (
        Decision.objects.filter(user=user)
        .exclude(kind=DecisionKind.UNDONE)
        .select_related("undone_by", "report__item_text", "suggestion__batch__adapter", "query")
        .prefetch_related("exploration_queries")
    )
    verbs = {
        DecisionKind.ACCEPTED: _("Accepted"),
        DecisionKind.EDITED: _("Edited"),
        DecisionKind.REJECTED: _("Rejected"),
        DecisionKind.OWN: _("Added"),
    }
    for row in _newest(rows, before):
        undone = getattr(row, "undone_by", None)
        has_run = bool(row.exploration_queries.all())
        yield LogRow(
            at=row.at,
            verb=verbs[DecisionKind(row.kind)],
            kind=pgettext("kind of row", "suggestion") if row.suggestion else _("own query"),
            text=row.text,
            was=row.suggestion.text if row.suggestion and row.kind == DecisionKind.EDITED else "",
            language=row.report.item_text.language,
            where=row.report.number,
            where_url=reverse("audit:report", args=[row.report.public_id]),
            outcome=origin_of(row.suggestion) if row.suggestion else "",
            undone_at=undone.at if undone else None,
            undo_url="" if undone or has_run else reverse("audit:undo-decision", args=[row.public_id]),
            why_not=_("has run") if has_run else "",
        )


def _explorations(user: User, before: datetime | None) -> Iterator[LogRow]:
    rows = Exploration.objects.filter(created_by=user).prefetch_related("queries__query")
    for row in _newest(rows, before):
        queries = [query.query.text for query in row.queries.all()]
        yield LogRow(
            at=row.at,
            verb=_("Ran"),
            kind=_("exploration"),
            text=pgettext("between things of a list", ", ").join(queries),
            where=row.number,
            where_url=reverse("audit:exploration", args=[row.public_id]),
            outcome=ngettext("%(count)d query", "%(count)d queries", len(queries)) % {"count": len(queries)},
        )


def _reports(user: User, before: datetime | None) -> Iterator[LogRow]:
    rows = ReportEvent.objects.filter(user=user, kind=ReportEventKind.CLOSED).select_related("report__item_text")
    for row in _newest(rows, before):
        yield LogRow(
            at=row.at,
            verb=_("Closed"),
            kind=_("report, %(outcome)s") % {"outcome": Outcome(row.outcome).label if row.outcome else ""},
            text=row.report.item_text.text,
            language=row.report.item_text.language,
            where=row.report.number,
            where_url=reverse("audit:report", args=[row.report.public_id]),
            outcome=row.reason,
        )


Stream = Callable[[User, datetime | None], Iterator[LogRow]]
STREAMS: dict[str, Stream] = {
    "judgments": _judgments,
    "decisions": _decisions,
    "explorations": _explorations,
    "reports": _reports,
}

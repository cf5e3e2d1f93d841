"""Decide on suggestions, make queries of one's own, take a decision back."""

import uuid
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.forecasts import ForecastFigures, forecast_query
from audit.models import Decision, DecisionKind, Query, QuerySource, Report, ReportStatus, Suggestion
from audit.services.errors import Conflict, Invalid
from audit.services.once import record_request
from audit.services.reports import hold
from extraction.errors import SearchError
from extraction.search import get_engine
from extraction.text import MatchMode, clean_text, get_analysis

MAX_LENGTH = 200
FORECAST_FIELDS = ("matches", "is_about", "unseen", "overlap", "past_toxic", "past_judged")


def forecast(*, text: str, mode: MatchMode, report: Report | None = None) -> ForecastFigures:
    """What a phrase would find; stores nothing. Raises Invalid for a phrase that cannot be searched."""
    checked_key(text, mode)
    return forecast_query(text=text, mode=mode, report=report)


def decide(
    *,
    suggestion: Suggestion,
    user: User,
    kind: DecisionKind,
    key: uuid.UUID,
    text: str = "",
    duration_ms: int | None = None,
    at: datetime | None = None,
) -> Decision:
    """Accept, edit (`text` is the new phrase) or reject a suggestion.

    Raises NotHeld, Conflict where it was decided before, Invalid for an edit that cannot be searched.
    """
    tried = None
    if kind == DecisionKind.EDITED:
        text = clean_text(text).strip()
        checked_key(text, MatchMode(suggestion.query.mode))
        tried = forecast_query(text=text, mode=MatchMode(suggestion.query.mode), report=suggestion.report)
    with transaction.atomic():
        record_request(key=key, user=user, action="decide", at=at)
        report = _exploring(suggestion.report, user)
        if not report.shows_suggestions:
            raise Conflict(_("The suggestions of this report are not shown yet. Mark your own queries first."))
        if suggestion.decisions.standing().exists():
            raise Conflict(_("This suggestion was already decided. Here is how it stands now."))
        query, source = _decided_query(suggestion, kind, text)
        return Decision.objects.create(
            report=report,
            suggestion=suggestion,
            kind=kind,
            query=query,
            source=source,
            text=text if kind == DecisionKind.EDITED else suggestion.text,
            **_span(report, suggestion, kind, text),
            shown_rank=suggestion.rank,
            **_figures(tried or suggestion),
            arm=report.arm,
            user=user,
            at=at or timezone.now(),
            duration_ms=duration_ms,
        )


def add_own_query(
    *,
    report: Report,
    user: User,
    text: str,
    mode: MatchMode,
    key: uuid.UUID,
    span: tuple[int, int] | None = None,
    duration_ms: int | None = None,
    at: datetime | None = None,
) -> Decision:
    """Make a query of one's own, typed or marked in the text (`span`, code points of the reported text).

    Raises NotHeld; Invalid for a phrase that cannot be searched, is already a query, or does not stand at `span`.
    """
    text = clean_text(text).strip()
    checked_key(text, mode)
    tried = forecast_query(text=text, mode=mode, report=report)
    with transaction.atomic():
        record_request(key=key, user=user, action="own query", at=at)
        report = _exploring(report, user)
        if span is not None and report.item_text.text[span[0] : span[1]] != text:
            raise Invalid(_("The marked phrase does not stand there in the text. Mark it again."))
        query = query_of(text, mode)
        _refuse_twice(report, query)
        place = span or place_in(report.item_text.text, text)
        return Decision.objects.create(
            report=report,
            kind=DecisionKind.OWN,
            query=query,
            source=QuerySource.HUMAN,
            text=text,
            span_start=place[0] if place else None,
            span_end=place[1] if place else None,
            **_figures(tried),
            arm=report.arm,
            user=user,
            at=at or timezone.now(),
            duration_ms=duration_ms,
        )


@transaction.atomic
def undo_decision(*, decision: Decision, user: User, key: uuid.UUID, at: datetime | None = None) -> Decision:
    """Take a decision back by a row that undoes it. Raises Conflict where it already ran or was taken back."""
    record_request(key=key, user=user, action="undo decision", at=at)
    report = _exploring(decision.report, user)
    if decision.kind == DecisionKind.UNDONE or Decision.objects.filter(undoes=decision).exists():
        raise Conflict(_("This was already taken back."))
    if decision.exploration_queries.exists():
        raise Conflict(_("This query already ran. What it found can be judged; the run stays in the log."))
    return Decision.objects.create(
        report=report,
        suggestion=decision.suggestion,
        kind=DecisionKind.UNDONE,
        undoes=decision,
        arm=report.arm,
        user=user,
        at=at or timezone.now(),
    )


def checked_key(text: str, mode: MatchMode) -> str:
    """The canonical key of a phrase. Raises Invalid where nothing searchable, or too little or too much, remains."""
    cleaned = clean_text(text).strip()
    if len(cleaned) > MAX_LENGTH:
        raise Invalid(
            _("A query has at most %(count)d characters. Take the part that is special.") % {"count": MAX_LENGTH}
        )
    found = get_analysis(index_analysis()).key(cleaned, mode)
    if len(found.replace(" ", "")) < 2:
        raise Invalid(_("Too short to search: take two characters or more, not counting spaces and punctuation."))
    return found


def index_analysis() -> str:
    """The analysis that the index was built with; the present one where the engine cannot say."""
    try:
        return get_engine().analysis
    except SearchError:
        return get_analysis().name


def query_of(text: str, mode: MatchMode) -> Query:
    """The query row of a phrase; equal phrases (after normalisation) share one."""
    query, _created = Query.objects.get_or_create(
        analysis=index_analysis(), mode=mode.value, key=checked_key(text, mode), defaults={"text": text}
    )
    return query


def place_in(text: str, phrase: str) -> tuple[int, int] | None:
    """Where `phrase` stands verbatim in `text`, first place."""
    start = text.find(phrase)
    return None if start < 0 else (start, start + len(phrase))


def _exploring(report: Report, user: User) -> Report:
    hold(report, user)
    if report.status != ReportStatus.EXPLORING:
        raise Conflict(_("Judge the reported text first; then decide on queries."))
    return report


def _decided_query(suggestion: Suggestion, kind: DecisionKind, text: str) -> tuple[Query | None, str]:
    """The query that would run and its source. A suggestion equal to a human query counts as human (paper §3.3)."""
    if kind == DecisionKind.REJECTED:
        return None, ""
    if kind == DecisionKind.ACCEPTED:
        by_human = suggestion.report.decisions.standing().filter(query=suggestion.query, source=QuerySource.HUMAN)
        return suggestion.query, QuerySource.HUMAN if by_human.exists() else QuerySource.MODEL
    if kind == DecisionKind.EDITED:
        query = query_of(text, MatchMode(suggestion.query.mode))
        if query == suggestion.query:
            raise Invalid(_("The phrase is the same as the suggestion. Accept it, or change it."))
        _refuse_twice(suggestion.report, query)
        return query, QuerySource.HUMAN
    raise Invalid(_("Accept, edit or reject."))


def _refuse_twice(report: Report, query: Query) -> None:
    if report.decisions.standing().filter(query=query).exists():
        raise Invalid(_("“%(text)s” is already among the queries of this report.") % {"text": query.text})


def _span(report: Report, suggestion: Suggestion, kind: DecisionKind, text: str) -> dict[str, int | None]:
    if kind != DecisionKind.EDITED:
        return {"span_start": suggestion.span_start, "span_end": suggestion.span_end}
    place = place_in(report.item_text.text, text)
    return {"span_start": place[0] if place else None, "span_end": place[1] if place else None}


def _figures(source: ForecastFigures | Suggestion) -> dict[str, Any]:
    return {name: getattr(source, name) for name in FORECAST_FIELDS}

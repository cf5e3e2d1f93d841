"""Short ways to write a log by hand: a confirmed report, a phrase marked in it, what the phrase exposed."""

from datetime import UTC, datetime
from typing import Any

from audit.models import Decision, DecisionKind, Item, Judgment, QueryRun, Report, Verdict
from tests.factories import (
    make_decision,
    make_exploration,
    make_exposure,
    make_item,
    make_judgment,
    make_report,
    make_run,
    make_suggestion,
)

MARCH, APRIL, MAY, JUNE = (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4, 5, 6))
"""Reports are of March, what is done with them of April, unless a test says otherwise; builds read until May."""


def confirmed(text: str, **kwargs: Any) -> Report:
    """A report whose text was judged toxic."""
    report = make_report(text=text, status="exploring", confirmed=MARCH, opened=MARCH, **kwargs)
    make_judgment(report=report, at=MARCH)
    return report


def own(report: Report, phrase: str, **kwargs: Any) -> Decision:
    """A phrase that a person marked in the text."""
    start = report.item_text.text.find(phrase)
    span = {} if start < 0 else {"span_start": start, "span_end": start + len(phrase)}
    return make_decision(report=report, text=phrase, **{"at": APRIL} | span | kwargs)


def accepted(report: Report, phrase: str, **kwargs: Any) -> Decision:
    """A suggestion of the suggester `search` that somebody accepted."""
    return decided(report, phrase, DecisionKind.ACCEPTED, **kwargs)


def decided(report: Report, phrase: str, kind: DecisionKind, *, suggested: str = "", **kwargs: Any) -> Decision:
    """A decision of this kind on the suggestion `suggested` (none: the phrase itself)."""
    suggestion = make_suggestion(suggested or phrase, report=report)
    text = {"text": phrase} if kind == DecisionKind.EDITED else {}
    start = report.item_text.text.find(phrase)
    span = {} if start < 0 else {"span_start": start, "span_end": start + len(phrase)}
    return make_decision(suggestion=suggestion, kind=kind, **{"at": APRIL} | text | span | kwargs)


def run_of(decision: Decision) -> QueryRun:
    """A run of the decision's query."""
    return make_run(exploration_query=make_exploration(decisions=[decision]).queries.get())


def exposed(run: QueryRun, *texts: str, verdict: str = "") -> list[Item]:
    """Items that the run exposed in April, each judged so where a verdict is given."""
    items = [make_item(text) for text in texts]
    for item in items:
        show(run, item, verdict)
    return items


def show(run: QueryRun, item: Item, verdict: str = "", **kwargs: Any) -> Judgment | None:
    """One item exposed by the run, and judged where a verdict is given."""
    exposure = make_exposure(run=run, item=item, at=APRIL)
    if not verdict:
        return None
    values: dict[str, Any] = {"verdict": Verdict(verdict), "at": APRIL}
    return make_judgment(exposure=exposure, **(values | kwargs))

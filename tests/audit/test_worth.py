"""How many suggestions are shown follows from what was decided on earlier ones, once that is enough."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.models import Decision, SuggestionsState
from audit.risk_training import refit
from audit.suggesting import suggest
from audit.worth import _learn, worth
from extraction.models import Adapter
from extraction.search.base import Counts
from extraction.suggest import Candidate, Proposal
from extraction.text import MatchMode
from tests.audit.loop import make_indexed
from tests.factories import (
    make_adapter,
    make_batch,
    make_decision,
    make_exploration,
    make_exposure,
    make_item,
    make_judgment,
    make_report,
    make_run,
    make_suggestion,
    make_user,
)

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _nothing_learnt_elsewhere() -> Iterator[None]:
    _learn.cache_clear()
    yield
    _learn.cache_clear()


def decided(kind: str, count: int, *, adapter: Adapter | None = None, **suggested: Any) -> list[Decision]:
    """So many decisions of this kind, each on a report of its own and ten seconds long."""
    user = make_user()
    return [
        make_decision(
            suggestion=make_suggestion(
                batch=make_batch(report=make_report(), adapter=adapter),
                proposer="both" if adapter else "search",
                **suggested,
            ),
            kind=kind,
            user=user,
            duration_ms=10_000,
        )
        for _number in range(count)
    ]


def found_something(decision: Decision, seconds: float = 100.0) -> None:
    """The decision's query ran and showed something toxic; judging that took so long."""
    place = make_exploration(decisions=[decision]).queries.get()
    make_judgment(exposure=make_exposure(run=make_run(exploration_query=place)), duration_ms=int(1000 * seconds))


def proposal(score: float, *, unseen: int = 50, confidence: float | None = None) -> Proposal:
    candidate = Candidate("phrase", 0, 6, "phrase", MatchMode.PHRASE, 0.0, confidence=confidence)
    return Proposal(candidate, Counts(unseen, 0, 0, 0), 1, score, 1.0, unseen, 0, ())


def test_before_there_are_decisions_nothing_is_learnt():
    assert worth() is None


def test_a_few_decisions_teach_nothing():
    found_something(decided("accepted", 19, estimate=0.8)[0])
    decided("rejected", 30, estimate=0.2)
    assert worth() is None


def test_without_a_query_that_found_something_a_reading_has_no_price():
    decided("accepted", 30, estimate=0.8)
    decided("rejected", 30, estimate=0.2)
    assert worth() is None


def test_the_price_of_a_reading_is_its_share_of_the_time_for_an_effective_query():
    accepted = decided("accepted", 30, estimate=0.8)
    decided("rejected", 30, estimate=0.2)
    for decision in accepted[:2]:
        found_something(decision, seconds=700)
    learnt = worth()
    assert learnt is not None
    assert learnt.cost == pytest.approx(10 / ((60 * 10 + 2 * 700) / 2))


def test_a_duration_counts_from_the_decision_before_it():
    report, user, now = make_report(), make_user(), timezone.now()
    accepted = decided("accepted", 30, estimate=0.8)
    found_something(accepted[0], seconds=0)
    decided("rejected", 29, estimate=0.2)
    batch = make_batch(report=report)
    for seconds in (10, 16):  # both could be seen from the beginning
        make_decision(
            suggestion=make_suggestion(batch=batch, estimate=0.2),
            kind="rejected",
            user=user,
            duration_ms=1000 * seconds,
            at=now + seconds * SECOND,
        )
    learnt = worth()
    assert learnt is not None
    assert learnt.cost == pytest.approx(10 / (60 * 10 + 6))


def test_what_is_probably_accepted_is_shown_and_what_is_not_worth_its_reading_is_not():
    found_something(decided("accepted", 60, estimate=0.8)[0], seconds=0)
    decided("rejected", 60, estimate=0.1)
    learnt = worth()
    assert learnt is not None
    assert learnt.count([proposal(0.8), proposal(0.7), proposal(0.1, unseen=1)], None) == 2


def test_an_adapters_confidence_counts_once_it_was_decided_on_often_enough():
    adapter, young = make_adapter(), make_adapter()
    found_something(decided("accepted", 40, adapter=adapter, estimate=0.5, confidence=-0.2)[0], seconds=0)
    decided("rejected", 40, adapter=adapter, estimate=0.5, confidence=-3.0)
    decided("accepted", 5, adapter=young, estimate=0.5, confidence=-0.2)
    learnt = worth()
    assert learnt is not None
    assert set(learnt.by_confidence) == {adapter.pk}
    sure, unsure = proposal(0.5, confidence=-0.2), proposal(0.5, confidence=-3.0)
    own = learnt.by_confidence[adapter.pk]
    assert own.probability(-0.2) > 0.8
    assert own.probability(-3.0) < 0.2
    assert learnt.count([unsure, sure], young) == learnt.count([sure, unsure], young) == 2


def test_it_is_learnt_anew_after_more_decisions():
    assert worth() is None
    found_something(decided("accepted", 30, estimate=0.8)[0])
    decided("rejected", 200, estimate=0.2)
    assert worth() is not None


def test_suggestions_like_those_that_were_rejected_are_not_shown(engine_file, auditor):
    make_indexed(*(f"formal certifcate with steel stamp, offer {word}" for word in ("one", "two", "three", "four")))
    make_judgment(item_text=make_item("formal certifcate with steel stamp, last week").text)
    make_judgment(item_text=make_item("used bicycle with a bell, last week").text, verdict="normal")
    refit()
    report = make_report(text="formal certifcate with steel stamp")
    shown = suggest(report)
    assert shown is not None
    estimates = [suggestion.estimate for suggestion in shown.suggestions.all()]
    for decision in decided("accepted", 40, estimate=max(estimates) + 5):
        found_something(decision, seconds=0)
    decided("rejected", 160, estimate=max(estimates))
    suggest(report)
    report.refresh_from_db()
    assert estimates
    assert report.suggestions_state == SuggestionsState.NONE

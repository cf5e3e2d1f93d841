"""A shadow's queries scored later, and a challenger's arm beside the champion's."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit.models import DecisionKind, Generation, Outcome, Proposer, ReportStatus, Verdict
from extraction.models import AdapterRole
from tests.audit.loop import index, make_indexed
from tests.factories import (
    make_adapter,
    make_batch,
    make_decision,
    make_exploration,
    make_exposure,
    make_item,
    make_judgment,
    make_pool_item,
    make_removal,
    make_report,
    make_run,
    make_suggestion,
)
from training.shadow import arms, score_shadow, what_is_missing

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]
TEXT = "forged diploma with hologram"


@pytest.fixture
def engine_file(settings, tmp_path):
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"
    make_indexed("an item, so that there is an index")


def generated(adapter, report, *phrases):
    text = report.item_text.text
    spans = [[text.index(phrase), text.index(phrase) + len(phrase), -0.1 * n] for n, phrase in enumerate(phrases)]
    Generation.objects.create(item_text=report.item_text, adapter=adapter, spans=spans, took_ms=1.0)


def confirmed(text=TEXT, **kwargs):
    return make_report(text=text, status=ReportStatus.CLOSED, **kwargs)


def judged(item, verdict=Verdict.TOXIC):
    make_judgment(pool_item=make_pool_item(item=item), verdict=verdict)


# --- a shadow -------------------------------------------------------------------------------------------------------


def test_both_are_measured_on_the_same_reports_by_what_is_judged_now():
    shadow, serving = make_adapter("shadow"), make_adapter("serving")
    report = confirmed()
    index([report.item])
    toxic, normal, _unknown = make_indexed("a forged diploma", "diploma frame", "diploma of nobody")
    judged(toxic)
    judged(normal, Verdict.NORMAL)
    generated(shadow, report, "forged diploma")
    generated(serving, report, "diploma", "hologram")
    found = score_shadow(shadow, serving)
    assert (found.ours.reports, found.ours.queries, found.ours.hits, found.ours.precision) == (1, 1, 1, 1.0)
    assert (found.theirs.queries, found.theirs.hits, found.theirs.precision) == (2, 1, 1 / 2)
    assert (found.theirs.texts, found.theirs.texts_judged) == (3, 2)
    assert found.comparison["hits"]["ties"] == 1


def test_what_was_removed_meanwhile_is_found_too():
    shadow, serving = make_adapter(), make_adapter()
    report = confirmed()
    (toxic,) = make_indexed("a forged diploma")
    judged(toxic)
    make_removal(item=toxic)
    index([toxic])
    for adapter in (shadow, serving):
        generated(adapter, report, "forged diploma")
    assert score_shadow(shadow, serving).ours.hits == 1


def test_reports_that_only_one_of_them_saw_or_that_are_not_confirmed_are_left_out():
    shadow, serving = make_adapter(), make_adapter()
    one, both, unfounded = confirmed(), confirmed(), confirmed(outcome=Outcome.UNFOUNDED)
    generated(shadow, one, "diploma")
    for report in (both, unfounded):
        generated(shadow, report, "diploma")
        generated(serving, report, "hologram")
    assert score_shadow(shadow, serving).ours.reports == 1


def test_no_report_in_common_has_no_figures():
    assert score_shadow(make_adapter(), make_adapter()) is None


def test_the_newest_reports_are_taken():
    shadow, serving = make_adapter(), make_adapter()
    now = timezone.now()
    for hours in range(3):
        report = confirmed(opened=now - timedelta(hours=hours))
        generated(shadow, report, "diploma", "hologram")
        generated(serving, report, *(["diploma"] if hours else []))
    found = score_shadow(shadow, serving, most=2)
    assert (found.ours.queries, found.theirs.queries) == (4, 1)


def test_a_shadow_and_a_challenger_can_be_scored_while_another_serves():
    one, other = make_adapter(), make_adapter()
    for role in (AdapterRole.SHADOW, AdapterRole.CHALLENGER):
        assert what_is_missing(one, {AdapterRole.SERVING: other, role: one}) == ""
        assert "No adapter serves" in what_is_missing(one, {role: one})
        assert "It serves" in what_is_missing(one, {AdapterRole.SERVING: one, role: one})
    assert "propose unseen" in what_is_missing(one, {AdapterRole.SERVING: other})


# --- champion and challenger ----------------------------------------------------------------------------------------


def suggestion(adapter, role, text, **kwargs):
    report = make_report()
    batch = make_batch(report=report, adapter=adapter, adapter_role=role)
    return make_suggestion(text, batch=batch, **({"proposer": Proposer.MODEL} | kwargs))


def exposing(decision, *items):
    run = make_run(exploration_query=make_exploration(decisions=[decision]).queries.get())
    for item in items:
        make_exposure(run=run, item=item)


def test_each_arm_counts_its_own_decisions_and_what_they_exposed():
    champion, challenger = make_adapter("dpo-1"), make_adapter("dpo-2")
    toxic, normal, unjudged = make_item(), make_item(), make_item()
    judged(toxic)
    judged(normal, Verdict.NORMAL)
    exposing(make_decision(suggestion=suggestion(champion, "serving", "one")), toxic, normal)
    make_decision(suggestion=suggestion(champion, "serving", "two"), kind=DecisionKind.REJECTED)
    edited = make_decision(
        suggestion=suggestion(challenger, "challenger", "three"), kind=DecisionKind.EDITED, text="three four"
    )
    exposing(edited, toxic, unjudged)
    first, second = arms()
    assert (first.role, first.adapter, second.role, second.adapter) == (
        AdapterRole.SERVING,
        "dpo-1",
        AdapterRole.CHALLENGER,
        "dpo-2",
    )
    assert (first.reports, first.decided, first.accepted, first.edited) == (2, 2, 1, 0)
    assert first.acceptance_rate == 1 / 2
    assert (first.texts, first.judged, first.toxic) == (2, 2, 1)
    assert (second.decided, second.edited, second.acceptance_rate) == (1, 1, 1.0)
    assert (second.texts, second.judged, second.toxic) == (2, 1, 1)


def test_queries_of_search_and_decisions_taken_back_do_not_count():
    adapter = make_adapter()
    make_decision(suggestion=suggestion(adapter, "serving", "one", proposer=Proposer.SEARCH))
    taken_back = make_decision(suggestion=suggestion(adapter, "serving", "two"))
    make_decision(undoes=taken_back)
    assert arms() == []


def test_only_the_adapters_asked_for_are_compared():
    one, other = make_adapter("dpo-1"), make_adapter("dpo-2")
    for adapter in (one, other):
        make_decision(suggestion=suggestion(adapter, "serving", f"of {adapter}"))
    assert [arm.adapter for arm in arms(adapters=[other])] == ["dpo-2"]


def test_what_was_decided_before_does_not_count():
    adapter = make_adapter()
    began = timezone.now() - timedelta(hours=1)
    make_decision(suggestion=suggestion(adapter, "serving", "one"), at=began - timedelta(hours=1))
    make_decision(suggestion=suggestion(adapter, "serving", "two"))
    assert [arm.decided for arm in arms(since=began)] == [1]

import pytest

from audit.models import Arm, Decision, DecisionKind, QuerySource
from audit.services import (
    AlreadyRecorded,
    Conflict,
    Invalid,
    NotHeld,
    add_own_query,
    decide,
    explore,
    forecast,
    undo_decision,
)
from extraction.text import MatchMode
from tests.audit.loop import confirm, confirmed_report, key, make_indexed, own
from tests.factories import make_report, make_suggestion

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]


def suggested(auditor, text="forged diploma"):
    report = confirmed_report(auditor)
    return make_suggestion(report=report, text=text)


def test_accepting_keeps_what_was_on_the_screen(auditor):
    suggestion = suggested(auditor)
    decision = decide(suggestion=suggestion, user=auditor, kind=DecisionKind.ACCEPTED, key=key(), duration_ms=900)
    assert decision.query == suggestion.query
    assert decision.source == QuerySource.MODEL
    assert (decision.shown_rank, decision.matches, decision.duration_ms) == (suggestion.rank, suggestion.matches, 900)
    assert decision.arm == Arm.VISIBLE


def test_a_rejection_has_no_query_to_run(auditor):
    decision = decide(suggestion=suggested(auditor), user=auditor, kind=DecisionKind.REJECTED, key=key())
    assert decision.query is None
    assert not Decision.objects.to_run().exists()


def test_an_edit_is_a_human_query_with_its_own_forecast(auditor):
    make_indexed("a diploma with stamp for sale", "another diploma with stamp")
    suggestion = suggested(auditor)
    decision = decide(
        suggestion=suggestion, user=auditor, kind=DecisionKind.EDITED, text="diploma with stamp", key=key()
    )
    assert decision.source == QuerySource.HUMAN
    assert decision.query != suggestion.query
    assert decision.matches == 2
    assert (decision.span_start, decision.span_end) == (7, 25)


def test_an_edit_to_the_same_phrase_is_refused(auditor):
    suggestion = suggested(auditor)
    with pytest.raises(Invalid):
        decide(suggestion=suggestion, user=auditor, kind=DecisionKind.EDITED, text="FORGED  diploma!", key=key())


def test_a_suggestion_is_decided_once(auditor):
    suggestion = suggested(auditor)
    decide(suggestion=suggestion, user=auditor, kind=DecisionKind.ACCEPTED, key=key())
    with pytest.raises(Conflict):
        decide(suggestion=suggestion, user=auditor, kind=DecisionKind.REJECTED, key=key())


def test_a_double_click_records_once(auditor):
    suggestion, request = suggested(auditor), key()
    decide(suggestion=suggestion, user=auditor, kind=DecisionKind.ACCEPTED, key=request)
    with pytest.raises(AlreadyRecorded):
        decide(suggestion=suggestion, user=auditor, kind=DecisionKind.ACCEPTED, key=request)
    assert Decision.objects.count() == 1


def test_another_auditor_cannot_decide(auditor, second_auditor):
    with pytest.raises(NotHeld):
        decide(suggestion=suggested(auditor), user=second_auditor, kind=DecisionKind.ACCEPTED, key=key())


def test_nothing_is_decided_before_the_text_is_judged(auditor):
    report = make_report(claimed_by=auditor, status="claimed")
    with pytest.raises(Conflict):
        own(report, auditor, "forged diploma")


def test_an_own_query_keeps_its_span(auditor):
    report = confirmed_report(auditor)
    decision = add_own_query(
        report=report, user=auditor, text="diploma with", mode=MatchMode.PHRASE, key=key(), span=(7, 19)
    )
    assert (decision.kind, decision.source) == (DecisionKind.OWN, QuerySource.HUMAN)
    assert (decision.span_start, decision.span_end) == (7, 19)


def test_a_span_that_does_not_hold_the_phrase_is_refused(auditor):
    report = confirmed_report(auditor)
    with pytest.raises(Invalid):
        add_own_query(report=report, user=auditor, text="diploma", mode=MatchMode.PHRASE, key=key(), span=(0, 7))


def test_a_typed_query_that_is_not_in_the_text_has_no_span(auditor):
    assert own(confirmed_report(auditor), auditor, "licence points").span_start is None


@pytest.mark.parametrize("text", ["", "  ", "。", "a", "!!", "a" * 201, "\x00"])
def test_what_cannot_be_searched_is_refused(auditor, text):
    with pytest.raises(Invalid):
        own(confirmed_report(auditor), auditor, text)


def test_the_same_query_is_not_added_twice(auditor):
    report = confirmed_report(auditor)
    own(report, auditor, "Forged Diploma")
    with pytest.raises(Invalid):
        own(report, auditor, "forged, diploma")


def test_accepting_what_a_human_already_made_counts_as_human(auditor):
    suggestion = suggested(auditor, text="forged diploma")
    own(suggestion.report, auditor, "forged diploma")
    decision = decide(suggestion=suggestion, user=auditor, kind=DecisionKind.ACCEPTED, key=key())
    assert decision.source == QuerySource.HUMAN


def test_an_undone_decision_can_be_made_anew(auditor):
    suggestion = suggested(auditor)
    decision = decide(suggestion=suggestion, user=auditor, kind=DecisionKind.REJECTED, key=key())
    undo = undo_decision(decision=decision, user=auditor, key=key())
    assert undo.undoes == decision
    again = decide(suggestion=suggestion, user=auditor, kind=DecisionKind.ACCEPTED, key=key())
    assert list(Decision.objects.standing()) == [again]


def test_a_decision_is_undone_once(auditor):
    decision = own(confirmed_report(auditor), auditor, "forged diploma")
    undo_decision(decision=decision, user=auditor, key=key())
    with pytest.raises(Conflict):
        undo_decision(decision=decision, user=auditor, key=key())


def test_what_ran_cannot_be_undone(auditor):
    report = confirmed_report(auditor)
    decision = own(report, auditor, "forged diploma")
    explore(reports=[report], user=auditor, key=key())
    with pytest.raises(Conflict):
        undo_decision(decision=decision, user=auditor, key=key())


def test_a_forecast_counts_matches_unseen_and_overlap(auditor):
    make_indexed("forged diploma cheap", "forged diploma fast", "a forged licence")
    report = confirm(make_report(text="forged diploma now"), auditor)
    own(report, auditor, "diploma fast")
    found = forecast(text="forged diploma", mode=MatchMode.PHRASE, report=report)
    assert (found.matches, found.unseen, found.overlap, found.past_judged) == (2, 2, 1, 0)


def test_a_forecast_without_an_engine_has_no_figures(auditor, settings, tmp_path):
    settings.SEARCH_FILE = tmp_path / "nowhere" / "search.sqlite3"
    assert forecast(text="forged diploma", mode=MatchMode.PHRASE).matches is None


def test_a_decision_without_an_engine_is_kept(auditor, settings, tmp_path):
    report = confirmed_report(auditor)
    settings.SEARCH_FILE = tmp_path / "nowhere" / "search.sqlite3"
    assert own(report, auditor, "forged diploma").matches is None

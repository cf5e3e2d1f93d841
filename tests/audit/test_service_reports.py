from datetime import timedelta

import pytest
from django.utils import timezone
from django_rq import get_queue

from audit.models import (
    Arm,
    ItemState,
    Outcome,
    Report,
    ReportEvent,
    ReportEventKind,
    ReportStatus,
    SiteSettings,
    Verdict,
)
from audit.services import (
    AlreadyRecorded,
    Conflict,
    Invalid,
    NotHeld,
    claim,
    close,
    heartbeat,
    judge_report,
    release,
    reveal_suggestions,
    take_next,
)
from tests.audit.loop import confirm, key
from tests.factories import make_policy, make_report

pytestmark = pytest.mark.django_db


def let_lease_run_out(report):
    Report.objects.filter(pk=report.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def test_a_claimed_report_has_a_lease(auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    assert report.status == ReportStatus.CLAIMED
    assert report.is_held_by(auditor.pk)


def test_a_claimed_report_cannot_be_claimed_by_another(auditor, second_auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    with pytest.raises(Conflict):
        claim(report=report, user=second_auditor, key=key())
    report.refresh_from_db()
    assert report.claimed_by == auditor


def test_an_expired_lease_frees_the_report(auditor, second_auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    let_lease_run_out(report)
    claim(report=report, user=second_auditor, key=key())
    report.refresh_from_db()
    assert report.claimed_by == second_auditor


def test_a_closed_report_cannot_be_claimed(auditor):
    report = make_report(status=ReportStatus.CLOSED)
    with pytest.raises(Conflict):
        claim(report=report, user=auditor, key=key())


def test_the_same_request_is_recorded_once(auditor):
    report, request = make_report(), key()
    claim(report=report, user=auditor, key=request)
    with pytest.raises(AlreadyRecorded):
        claim(report=report, user=auditor, key=request)
    assert ReportEvent.objects.filter(report=report, kind=ReportEventKind.CLAIMED).count() == 1


def test_a_refused_request_leaves_its_key_free(auditor, second_auditor):
    report, request = claim(report=make_report(), user=auditor, key=key()), key()
    with pytest.raises(Conflict):
        claim(report=report, user=second_auditor, key=request)
    release(report=report, user=auditor, key=key())
    assert claim(report=report, user=second_auditor, key=request).claimed_by == second_auditor


def test_take_next_takes_what_is_due_first(auditor):
    make_report(due=timezone.now() + timedelta(hours=2))
    urgent = make_report(due=timezone.now() + timedelta(hours=1))
    assert take_next(user=auditor, key=key()) == urgent


def test_take_next_passes_over_what_somebody_holds(auditor, second_auditor):
    first, second = make_report(), make_report()
    claim(report=first, user=second_auditor, key=key())
    assert take_next(user=auditor, key=key()) == second


def test_take_next_returns_to_the_report_in_hand(auditor):
    held = claim(report=make_report(), user=auditor, key=key())
    make_report(due=timezone.now() - timedelta(hours=1))
    assert take_next(user=auditor, key=key()) == held


def test_take_next_of_an_empty_queue_is_none(auditor):
    assert take_next(user=auditor, key=key()) is None


def test_a_heartbeat_extends_the_lease(auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    let_lease_run_out(report)
    assert heartbeat(report=report, user=auditor).is_held_by(auditor.pk)


def test_a_heartbeat_after_losing_the_report_says_so(auditor, second_auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    let_lease_run_out(report)
    claim(report=report, user=second_auditor, key=key())
    with pytest.raises(NotHeld):
        heartbeat(report=report, user=auditor)


def test_work_goes_on_after_an_expired_lease_that_nobody_used(auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    let_lease_run_out(report)
    judge_report(report=report, user=auditor, verdict=Verdict.TOXIC, policy=report.policy, key=key())
    assert report.status == ReportStatus.EXPLORING


def test_a_toxic_verdict_confirms_and_removes_the_item(auditor):
    report = confirm(make_report(), auditor)
    assert report.status == ReportStatus.EXPLORING
    assert report.confirmed is not None
    report.item.refresh_from_db()
    assert report.item.state == ItemState.REMOVED


def test_a_normal_verdict_closes_as_unfounded(auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    judge_report(report=report, user=auditor, verdict=Verdict.NORMAL, policy=report.policy, key=key())
    assert (report.status, report.outcome) == (ReportStatus.CLOSED, Outcome.UNFOUNDED)
    report.item.refresh_from_db()
    assert report.item.state == ItemState.LIVE


def test_cannot_tell_needs_a_reason_and_escalates(auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    with pytest.raises(Invalid):
        judge_report(report=report, user=auditor, verdict=Verdict.CANT_TELL, policy=report.policy, key=key())
    judge_report(
        report=report,
        user=auditor,
        verdict=Verdict.CANT_TELL,
        policy=report.policy,
        key=key(),
        reason="no photo",
    )
    assert (report.status, report.outcome) == (ReportStatus.CLOSED, Outcome.ESCALATED)


def test_the_policy_can_be_corrected_while_judging(auditor):
    report, other = claim(report=make_report(), user=auditor, key=key()), make_policy()
    judgment = judge_report(report=report, user=auditor, verdict=Verdict.TOXIC, policy=other, key=key())
    report.refresh_from_db()
    assert report.policy == other
    assert judgment.policy_version == other.current()
    assert report.events.filter(kind=ReportEventKind.POLICY, policy=other).exists()


def test_the_reported_text_is_judged_once(auditor):
    report = confirm(make_report(), auditor)
    with pytest.raises(Conflict):
        judge_report(report=report, user=auditor, verdict=Verdict.NORMAL, policy=report.policy, key=key())


def test_a_stranger_to_the_report_cannot_judge_it(auditor, second_auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    with pytest.raises(NotHeld):
        judge_report(report=report, user=second_auditor, verdict=Verdict.TOXIC, policy=report.policy, key=key())


def test_a_released_confirmed_report_goes_on_where_it_stopped(auditor, second_auditor):
    report = confirm(make_report(), auditor)
    release(report=report, user=auditor, key=key())
    assert report.status == ReportStatus.WAITING
    assert claim(report=report, user=second_auditor, key=key()).status == ReportStatus.EXPLORING


@pytest.mark.parametrize("outcome", [Outcome.SKIPPED, Outcome.ESCALATED])
def test_skip_and_escalate_need_a_reason(auditor, outcome):
    report = claim(report=make_report(), user=auditor, key=key())
    with pytest.raises(Invalid):
        close(report=report, user=auditor, outcome=outcome, key=key(), reason="  ")
    assert close(report=report, user=auditor, outcome=outcome, key=key(), reason="no context").outcome == outcome


def test_done_needs_a_judged_text(auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    with pytest.raises(Invalid):
        close(report=report, user=auditor, outcome=Outcome.CONFIRMED, key=key())


def test_the_arm_is_drawn_once_a_report(auditor):
    SiteSettings.objects.create(pk=1, own_first_share=1.0)
    report = claim(report=make_report(), user=auditor, key=key())
    assert report.arm == Arm.OWN_FIRST
    assert report.events.get(kind=ReportEventKind.CLAIMED).arm == Arm.OWN_FIRST


def test_own_first_hides_the_suggestions_until_revealed(auditor):
    SiteSettings.objects.create(pk=1, own_first_share=1.0)
    report = confirm(make_report(), auditor)
    assert not report.shows_suggestions
    assert reveal_suggestions(report=report, user=auditor, key=key()).shows_suggestions


def test_suggestions_are_hidden_before_the_text_is_judged(auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    assert not report.shows_suggestions


def test_a_released_report_gets_fresh_suggestions_where_its_own_are_stale(auditor, django_capture_on_commit_callbacks):
    get_queue("suggest").empty()
    report = confirm(make_report(), auditor)
    with django_capture_on_commit_callbacks(execute=True):
        release(report=report, user=auditor, key=key())
    assert "refresh-suggestions" in get_queue("suggest").job_ids

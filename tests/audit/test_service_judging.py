import pytest
from django.db import IntegrityError

from audit.jobs import sweep_index
from audit.models import (
    Item,
    ItemState,
    Judgment,
    OutboxEvent,
    Removal,
    RemovalKind,
    ReportStatus,
    StandingVerdict,
    Verdict,
)
from audit.services import Conflict, Invalid, NotHeld, claim, forecast, judge, judge_report, reinstate, undo_judgment
from audit.verdicts import record_verdict
from extraction.text import MatchMode
from tests.audit.loop import confirmed_report, explored, exposures_of, key, make_indexed, own
from tests.factories import make_item_text, make_report

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]


@pytest.fixture
def shown(auditor):
    """One exposed item and the item itself."""
    make_indexed("forged diploma cheap")
    exploration = explored(confirmed_report(auditor), auditor, "forged diploma")
    return exposures_of(exploration)[0]


def state(exposure):
    return Item.objects.get(pk=exposure.item_id).state


def test_a_toxic_item_leaves_at_once(auditor, shown):
    judgment = judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    assert state(shown) == ItemState.REMOVED
    assert Removal.objects.filter(item=shown.item, kind=RemovalKind.REMOVED, judgment=judgment).exists()


def test_the_same_query_no_longer_finds_a_removed_item(auditor, shown):
    judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    sweep_index()
    found = forecast(text="forged diploma", mode=MatchMode.PHRASE)
    # The reported text matches too: it was judged toxic and removed when the report was confirmed.
    assert (found.matches, found.past_toxic, found.past_judged) == (0, 2, 2)


def test_a_reinstated_item_is_found_again(auditor, shown):
    judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    sweep_index()
    shown.item.refresh_from_db()
    reinstate(item=shown.item, user=auditor, reason="appeal granted", key=key())
    sweep_index()
    assert forecast(text="forged diploma", mode=MatchMode.PHRASE).matches == 1


def test_reinstating_needs_a_reason(auditor, shown):
    judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    with pytest.raises(Invalid):
        reinstate(item=shown.item, user=auditor, reason=" ", key=key())


def test_only_a_removed_item_is_reinstated(auditor, shown):
    with pytest.raises(Conflict):
        reinstate(item=shown.item, user=auditor, reason="appeal", key=key())


def test_a_normal_item_stays(auditor, shown):
    judge(exposure=shown, user=auditor, verdict=Verdict.NORMAL, key=key())
    assert state(shown) == ItemState.LIVE


def test_a_text_is_judged_once(auditor, shown):
    judge(exposure=shown, user=auditor, verdict=Verdict.NORMAL, key=key())
    with pytest.raises(Conflict):
        judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    assert state(shown) == ItemState.LIVE


def test_a_stranger_to_the_exploration_cannot_judge(second_auditor, shown):
    with pytest.raises(NotHeld):
        judge(exposure=shown, user=second_auditor, verdict=Verdict.TOXIC, key=key())


def test_an_undone_judgment_brings_the_item_back(auditor, shown):
    judgment = judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    undo_judgment(judgment=judgment, user=auditor, key=key())
    assert state(shown) == ItemState.LIVE
    assert StandingVerdict.objects.get(item_text=shown.item_text).verdict == ""
    assert Judgment.objects.filter(undoes=judgment).exists()


def test_after_an_undo_the_text_can_be_judged_anew(auditor, shown):
    judgment = judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    undo_judgment(judgment=judgment, user=auditor, key=key())
    judge(exposure=shown, user=auditor, verdict=Verdict.NORMAL, key=key())
    assert StandingVerdict.objects.get(item_text=shown.item_text).verdict == Verdict.NORMAL


def test_only_the_judge_undoes(auditor, second_auditor, shown):
    judgment = judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    with pytest.raises(Conflict):
        undo_judgment(judgment=judgment, user=second_auditor, key=key())


def test_two_people_who_disagree_leave_the_text_unjudged_and_the_item_as_it_is(auditor, second_auditor, shown):
    judgment = judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    record_verdict(
        item_text=shown.item_text,
        policy_version=judgment.policy_version,
        verdict=Verdict.NORMAL,
        user=second_auditor,
        exposure=shown,
    )
    standing = StandingVerdict.objects.get(item_text=shown.item_text)
    assert (standing.verdict, standing.is_disputed) == ("", True)
    assert state(shown) == ItemState.REMOVED


def test_a_verdict_on_an_older_text_leaves_the_edited_item(auditor, shown):
    item = shown.item
    item.text = make_item_text("bread and butter", item=item)
    item.save(update_fields=["text"])
    judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    assert state(shown) == ItemState.LIVE


def test_every_verdict_is_written_for_the_platform(auditor, shown):
    before = OutboxEvent.objects.filter(item=shown.item).count()
    judge(exposure=shown, user=auditor, verdict=Verdict.TOXIC, key=key())
    kinds = list(OutboxEvent.objects.filter(item=shown.item).values_list("kind", flat=True)[before:])
    assert kinds == ["removed", "verdict"]


def test_undoing_the_verdict_on_the_report_reopens_it(auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    judgment = judge_report(report=report, user=auditor, verdict=Verdict.NORMAL, policy=report.policy, key=key())
    undo_judgment(judgment=judgment, user=auditor, key=key())
    report.refresh_from_db()
    assert (report.status, report.outcome) == (ReportStatus.CLAIMED, "")


def test_a_report_with_decided_queries_keeps_its_verdict(auditor):
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    judgment = Judgment.objects.get(report=report)
    with pytest.raises(Conflict):
        undo_judgment(judgment=judgment, user=auditor, key=key())


def test_a_closed_report_with_a_newer_one_stays_closed(auditor):
    report = claim(report=make_report(), user=auditor, key=key())
    judgment = judge_report(report=report, user=auditor, verdict=Verdict.NORMAL, policy=report.policy, key=key())
    make_report(item=report.item, policy=report.policy)
    with pytest.raises(Conflict):
        undo_judgment(judgment=judgment, user=auditor, key=key())


def test_a_judgment_without_a_report_or_an_exposure_cannot_be_written(auditor):
    report = make_report()
    with pytest.raises(IntegrityError):
        Judgment.objects.create(
            item_text=report.item_text, policy_version=report.policy.current(), verdict=Verdict.TOXIC, user=auditor
        )

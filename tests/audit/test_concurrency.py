"""Two people, two tabs or two workers at the same moment, each with a connection of its own, on either database."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from audit import jobs, verdicts
from audit.intake import ComplaintRow, ItemRow, store_complaints, store_items
from audit.models import (
    Decision,
    DecisionKind,
    Exploration,
    Exposure,
    Item,
    ItemState,
    Judgment,
    OutboxEvent,
    Query,
    QueryRun,
    RecordedRequest,
    Removal,
    Report,
    ReportEvent,
    ReportEventKind,
    ReportStatus,
    RunState,
    StandingVerdict,
    Verdict,
)
from audit.services import (
    AlreadyRecorded,
    Conflict,
    ServiceError,
    add_own_query,
    claim,
    close,
    decide,
    explore,
    judge,
    judge_pool_item,
    judge_report,
    open_page,
    reinstate,
    take_next,
    undo_judgment,
)
from audit.services.queries import query_of
from extraction.models import AdapterPromotion, AdapterRole
from extraction.registry import ServesNoMore, adapter_in, promote_adapter, rollback_adapter
from extraction.text import MatchMode
from tests.audit.loop import confirmed_report, key, make_indexed, own
from tests.extraction.adapters import stored_adapter, stored_base
from tests.factories import (
    make_claimed_report,
    make_decision,
    make_exploration,
    make_exposure,
    make_policy,
    make_pool_item,
    make_report,
    make_run,
    make_suggestion,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engine_file")]

LONGEST_S = 60


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Start these calls at the same moment in threads of their own; what each returned, or the exception it raised."""
    outcomes: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(number: int) -> None:
        connection.ensure_connection()
        gate.wait()
        try:
            outcomes[number] = calls[number]()
        except BaseException as error:  # noqa: BLE001 - the outcome, judged by the test
            outcomes[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST_S)
    assert not any(thread.is_alive() for thread in threads), "the calls lock each other out"
    unexpected = [one for one in outcomes if isinstance(one, BaseException) and not isinstance(one, ServiceError)]
    if unexpected:
        raise unexpected[0]
    return outcomes


def refused(outcomes: list[Any]) -> list[ServiceError]:
    return [one for one in outcomes if isinstance(one, ServiceError)]


@pytest.fixture
def slow_follow(monkeypatch):
    """Between a judgment and the standing verdict that is made from it lies a moment in which others get theirs in."""
    standing_of = verdicts.standing_of

    def slow(*args):
        time.sleep(0.2)
        return standing_of(*args)

    monkeypatch.setattr(verdicts, "standing_of", slow)


# --- claims ---------------------------------------------------------------------------------------------------------


def test_of_two_who_claim_one_report_exactly_one_gets_it(auditor, second_auditor):
    report = make_report()
    outcomes = at_once(
        lambda: claim(report=Report.objects.get(), user=auditor, key=key()),
        lambda: claim(report=Report.objects.get(), user=second_auditor, key=key()),
    )
    assert len(refused(outcomes)) == 1
    report.refresh_from_db()
    assert report.claimed_by in {auditor, second_auditor}
    assert ReportEvent.objects.filter(kind=ReportEventKind.CLAIMED).count() == 1


def test_of_two_who_claim_a_report_whose_lease_ran_out_exactly_one_gets_it(auditor, second_auditor, make_user):
    gone = make_user("gone")
    make_claimed_report(user=gone, lease_until=timezone.now() - timedelta(minutes=1))
    outcomes = at_once(
        lambda: claim(report=Report.objects.get(), user=auditor, key=key()),
        lambda: claim(report=Report.objects.get(), user=second_auditor, key=key()),
    )
    assert len(refused(outcomes)) == 1


def test_eight_who_take_the_next_report_get_eight_different_ones(make_user):
    for _number in range(20):
        make_report()
    users = [make_user(f"auditor{number}") for number in range(8)]
    taken = at_once(*(lambda user=user: take_next(user=user, key=key()) for user in users))
    assert len({report.pk for report in taken}) == 8
    assert Report.objects.filter(status=ReportStatus.CLAIMED).count() == 8


def test_eight_who_want_five_reports_leave_three_without(make_user):
    for _number in range(5):
        make_report()
    users = [make_user(f"auditor{number}") for number in range(8)]
    taken = at_once(*(lambda user=user: take_next(user=user, key=key()) for user in users))
    assert len([report for report in taken if report is None]) == 3
    assert len({report.pk for report in taken if report is not None}) == 5


def test_one_person_who_asks_for_the_next_report_in_two_tabs_holds_one(auditor):
    for _number in range(3):
        make_report()
    first, second = at_once(*[lambda: take_next(user=auditor, key=key())] * 2)
    assert first == second
    assert Report.objects.filter(claimed_by=auditor).count() == 1


def test_a_person_who_lost_the_report_meanwhile_records_nothing(auditor, second_auditor):
    report = make_claimed_report(user=auditor, lease_until=timezone.now() - timedelta(minutes=1))
    at_once(
        lambda: claim(report=Report.objects.get(), user=second_auditor, key=key()),
        lambda: own(Report.objects.get(), auditor, "forged diploma"),
    )
    report.refresh_from_db()
    assert (report.claimed_by == auditor) == Decision.objects.exists()


# --- one request twice ----------------------------------------------------------------------------------------------


def test_one_request_that_arrives_twice_records_once(auditor):
    make_report()
    same = key()
    outcomes = at_once(*[lambda: claim(report=Report.objects.get(), user=auditor, key=same)] * 2)
    assert [type(one) for one in refused(outcomes)] == [AlreadyRecorded]
    assert RecordedRequest.objects.filter(action="claim").count() == 1
    assert ReportEvent.objects.filter(kind=ReportEventKind.CLAIMED).count() == 1


def test_one_suggestion_decided_in_two_tabs_is_decided_once(auditor):
    suggestion = make_suggestion("forged diploma", report=make_claimed_report(user=auditor))
    outcomes = at_once(
        lambda: decide(suggestion=_fresh(suggestion), user=auditor, kind=DecisionKind.ACCEPTED, key=key()),
        lambda: decide(suggestion=_fresh(suggestion), user=auditor, kind=DecisionKind.REJECTED, key=key()),
    )
    assert len(refused(outcomes)) == 1
    assert Decision.objects.count() == 1


def test_one_phrase_added_in_two_tabs_is_one_query_of_the_report(auditor):
    report = make_claimed_report(user=auditor)
    add = {"user": auditor, "text": "forged diploma", "mode": MatchMode.PHRASE}
    outcomes = at_once(*[lambda: add_own_query(report=_fresh(report), key=key(), **add)] * 2)
    assert len(refused(outcomes)) == 1
    assert Decision.objects.count() == 1


def test_one_phrase_of_two_reports_is_one_query(auditor, second_auditor):
    outcomes = at_once(*[lambda: query_of("forged diploma", MatchMode.PHRASE)] * 4)
    assert {query.pk for query in outcomes} == {Query.objects.get().pk}


# --- judging --------------------------------------------------------------------------------------------------------


def test_of_two_tabs_that_judge_one_text_one_is_recorded(auditor, slow_follow):
    exposure = make_exposure(run=_own_run(auditor))
    outcomes = at_once(
        lambda: judge(exposure=_fresh(exposure), user=auditor, verdict=Verdict.TOXIC, key=key()),
        lambda: judge(exposure=_fresh(exposure), user=auditor, verdict=Verdict.NORMAL, key=key()),
    )
    assert [type(one) for one in refused(outcomes)] == [Conflict]
    assert StandingVerdict.objects.get().judgment == Judgment.objects.get()


def test_of_two_people_who_judge_one_text_one_is_recorded(auditor, second_auditor, slow_follow):
    policy = make_policy()
    first = make_exposure(run=_own_run(auditor, policy=policy))
    second = make_exposure(run=_own_run(second_auditor, policy=policy), item=first.item)
    outcomes = at_once(
        lambda: judge(exposure=_fresh(first), user=auditor, verdict=Verdict.TOXIC, key=key()),
        lambda: judge(exposure=_fresh(second), user=second_auditor, verdict=Verdict.NORMAL, key=key()),
    )
    assert [type(one) for one in refused(outcomes)] == [Conflict]
    assert Judgment.objects.count() == 1


def test_a_pooled_text_judged_by_two_at_once_is_judged_once(auditor, second_auditor, slow_follow):
    pooled = make_pool_item()
    outcomes = at_once(
        lambda: judge_pool_item(pool_item=_fresh(pooled), user=auditor, verdict=Verdict.TOXIC, key=key()),
        lambda: judge_pool_item(pool_item=_fresh(pooled), user=second_auditor, verdict=Verdict.NORMAL, key=key()),
    )
    assert [type(one) for one in refused(outcomes)] == [Conflict]
    assert Judgment.objects.count() == 1


def test_the_reported_text_judged_while_somebody_judges_its_exposure_is_seen_as_disputed(
    auditor, second_auditor, slow_follow
):
    """Each of the two must see the other's judgment: whichever comes second, the verdict is in dispute, not theirs."""
    policy = make_policy()
    report = make_claimed_report(user=auditor, policy=policy, status=ReportStatus.CLAIMED, confirmed=None)
    exposure = make_exposure(run=_own_run(second_auditor, policy=policy), item=report.item)
    at_once(
        lambda: judge_report(report=_fresh(report), user=auditor, verdict=Verdict.NORMAL, policy=policy, key=key()),
        lambda: judge(exposure=_fresh(exposure), user=second_auditor, verdict=Verdict.TOXIC, key=key()),
    )
    judged = Judgment.objects.count()
    standing = StandingVerdict.objects.get()
    assert standing.is_disputed == (judged == 2)


def test_a_toxic_item_is_removed_once(auditor, second_auditor, slow_follow):
    first = make_exposure(run=_own_run(auditor))
    second = make_exposure(run=_own_run(second_auditor), item=first.item)  # of another policy
    at_once(
        lambda: judge(exposure=_fresh(first), user=auditor, verdict=Verdict.TOXIC, key=key()),
        lambda: judge(exposure=_fresh(second), user=second_auditor, verdict=Verdict.TOXIC, key=key()),
    )
    assert Judgment.objects.count() == 2
    assert Removal.objects.count() == 1
    assert OutboxEvent.objects.filter(kind="removed").count() == 1


def test_a_judgment_taken_back_in_two_tabs_is_taken_back_once(auditor, slow_follow):
    exposure = make_exposure(run=_own_run(auditor))
    judgment = judge(exposure=exposure, user=auditor, verdict=Verdict.TOXIC, key=key())
    outcomes = at_once(*[lambda: undo_judgment(judgment=_fresh(judgment), user=auditor, key=key())] * 2)
    assert len(refused(outcomes)) == 1
    assert Judgment.objects.filter(undoes=judgment).count() == 1
    assert Item.objects.get(pk=exposure.item_id).state == ItemState.LIVE


def test_an_item_reinstated_by_two_comes_back_once(auditor, admin):
    exposure = make_exposure(run=_own_run(auditor))
    judge(exposure=exposure, user=auditor, verdict=Verdict.TOXIC, key=key())
    outcomes = at_once(
        lambda: reinstate(item=exposure.item, user=auditor, reason="it is fine", key=key()),
        lambda: reinstate(item=exposure.item, user=admin, reason="it is fine", key=key()),
    )
    assert len(refused(outcomes)) == 1
    assert Removal.objects.filter(kind="reinstated").count() == 1


def test_a_verdict_taken_back_while_the_report_is_closed_ends_in_one_of_both(auditor):
    report = confirmed_report(auditor)
    judgment = Judgment.objects.get()
    at_once(
        lambda: undo_judgment(judgment=judgment, user=auditor, key=key()),
        lambda: close(report=_fresh(report), user=auditor, outcome="confirmed", key=key()),
    )
    report.refresh_from_db()
    is_open = report.status != ReportStatus.CLOSED
    assert is_open == (report.outcome == "")
    assert not is_open or report.confirmed is None


# --- explorations ---------------------------------------------------------------------------------------------------


def test_explored_in_two_tabs_a_query_runs_in_one_exploration(auditor):
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    outcomes = at_once(*[lambda: explore(reports=[_fresh(report)], user=auditor, key=key())] * 2)
    assert len(refused(outcomes)) == 1
    assert Exploration.objects.count() == 1


def test_two_reports_explored_in_either_order_do_not_lock_each_other_out(auditor):
    reports = [confirmed_report(auditor), confirmed_report(auditor)]
    for report in reports:
        own(report, auditor, "forged diploma")
    at_once(
        lambda: explore(reports=reports, user=auditor, key=key()),
        lambda: explore(reports=reports[::-1], user=auditor, key=key()),
    )
    assert Exploration.objects.count() == 1


def test_a_page_opened_in_two_tabs_is_logged_once(auditor):
    make_indexed(*(f"forged diploma {number}" for number in range(30)))
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    exploration = explore(reports=[report], user=auditor, key=key())
    jobs.run_exploration(exploration.pk)
    at_once(*[lambda: open_page(exploration=_fresh(exploration), user=auditor, number=1, key=key())] * 2)
    assert Exposure.objects.count() == 30
    assert sorted(Exposure.objects.values_list("position", flat=True)) == list(range(1, 31))


def test_an_exploration_that_two_workers_got_runs_once(auditor):
    make_indexed("forged diploma cheap")
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    exploration = explore(reports=[report], user=auditor, key=key())
    at_once(*[lambda: jobs.run_exploration(exploration.pk)] * 2)
    assert QueryRun.objects.count() == 1
    assert _fresh(exploration).state == RunState.DONE


# --- who serves -----------------------------------------------------------------------------------------------------


def _or_too_late(call):
    """What the call returned, or that it was refused."""
    try:
        return call()
    except ServesNoMore:
        return "too late"


@pytest.fixture
def adapters(settings, tmp_path):
    """Two adapters whose files are there."""
    settings.MEDIA_ROOT, settings.ARTIFACT_CACHE = tmp_path / "media", tmp_path / "cache"
    base = stored_base(tmp_path)
    return [stored_adapter(tmp_path, base=base), stored_adapter(tmp_path, base=base)]


def test_of_two_adapters_promoted_at_once_one_serves_and_the_other_is_refused(adapters):
    outcomes = at_once(
        *(lambda one=one: _or_too_late(lambda: promote_adapter(_fresh(one), seen=None)) for one in adapters)
    )
    assert outcomes.count("too late") == 1
    assert AdapterPromotion.objects.count() == 1


def test_a_rollback_pressed_by_two_at_once_goes_one_step_back(adapters):
    first, second = adapters
    promote_adapter(first, seen=None)
    promote_adapter(second, seen=first)
    outcomes = at_once(*[lambda: _or_too_late(lambda: rollback_adapter(seen=_fresh(second)))] * 2)
    assert outcomes.count("too late") == 1
    assert adapter_in(AdapterRole.SERVING) == first


# --- imports beside people ------------------------------------------------------------------------------------------


def test_complaints_that_arrive_twice_at_once_are_stored_once():
    policy = make_policy()
    items = [make_report(policy=policy).item for _number in range(5)]
    rows = [_complaint(item, policy.key, number) for number, item in enumerate(items)]
    at_once(lambda: store_complaints(rows), lambda: store_complaints(rows[::-1]))
    assert sorted(Report.objects.values_list("complaint_count", flat=True)) == [1] * 5
    assert Report.objects.count() == 5


def test_complaints_about_a_fresh_item_open_one_report():
    policy = make_policy()
    store_items([_item("i1")])
    item = Item.objects.get(external_id="i1")
    at_once(*(lambda number=number: store_complaints([_complaint(item, policy.key, number)]) for number in range(4)))
    assert Report.objects.get().complaint_count == 4


def test_items_that_arrive_twice_at_once_are_stored_once():
    rows = [_item(f"i{number}") for number in range(50)]
    at_once(lambda: store_items(rows), lambda: store_items(rows[::-1]))
    assert Item.objects.count() == 50
    assert set(Item.objects.values_list("version", flat=True)) == {1}


def test_a_complaint_that_arrives_while_its_report_is_judged_locks_nobody_out(auditor, slow_follow):
    policy = make_policy()
    report = make_claimed_report(user=auditor, policy=policy, status=ReportStatus.CLAIMED, confirmed=None)
    for number in range(3):
        at_once(
            lambda: judge_report(report=_fresh(report), user=auditor, verdict=Verdict.TOXIC, policy=policy, key=key()),
            lambda number=number: store_complaints([_complaint(report.item, policy.key, number)]),
        )
        Report.objects.update(status=ReportStatus.CLAIMED, confirmed=None)
    assert _fresh(report).complaint_count == 3


def test_an_import_of_items_that_are_being_shown_locks_nobody_out(auditor):
    items = make_indexed(*(f"forged diploma {number}" for number in range(60)))
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    exploration = explore(reports=[report], user=auditor, key=key())
    jobs.run_exploration(exploration.pk)
    rows = [_item(item.external_id, "another text now") for item in items]
    at_once(
        lambda: open_page(exploration=_fresh(exploration), user=auditor, number=1, key=key()),
        lambda: store_items(rows),
    )
    assert Exposure.objects.exists()


def _fresh(row):
    """The row as a request would read it, on this thread's connection."""
    return type(row).objects.get(pk=row.pk)


def _own_run(user, **kwargs):
    """A run of this person's own exploration, with a report of its own."""
    report = make_claimed_report(user=user, **kwargs)
    exploration = make_exploration(decisions=[make_decision(report=report, user=user, text="forged diploma")])
    return make_run(exploration_query=exploration.queries.get())


def _item(external_id: str, text: str = "forged diploma") -> ItemRow:
    return ItemRow(platform="market", external_id=external_id, text=text, created=timezone.now())


def _complaint(item: Item, policy: str, number: int) -> ComplaintRow:
    return ComplaintRow(
        platform=item.platform,
        external_id=f"complaint{number}",
        item_external_id=item.external_id,
        policy=policy,
        at=timezone.now(),
    )

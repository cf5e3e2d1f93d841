import pytest

from audit.jobs import run_exploration
from audit.models import Exploration, ExplorationQuery, Exposure, Item, ItemState, QueryRun, RunState
from audit.services import Conflict, Invalid, NotHeld, explore, open_page, run_again
from tests.audit.loop import confirmed_report, explored, exposures_of, key, make_indexed, own

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]


def test_nothing_runs_without_an_accepted_query(auditor):
    with pytest.raises(Invalid):
        explore(reports=[confirmed_report(auditor)], user=auditor, key=key())
    assert not Exploration.objects.exists()


def test_a_query_runs_in_one_exploration_only(auditor):
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    explore(reports=[report], user=auditor, key=key())
    with pytest.raises(Invalid):
        explore(reports=[report], user=auditor, key=key())


def test_equal_queries_of_two_reports_run_once_and_credit_both(auditor):
    reports = [confirmed_report(auditor), confirmed_report(auditor)]
    decisions = {own(report, auditor, "forged diploma") for report in reports}
    exploration = explore(reports=reports, user=auditor, key=key())
    row = exploration.queries.get()
    assert set(row.decisions.all()) == decisions


def test_a_run_is_written_once_with_what_it_found(auditor):
    items = make_indexed("forged diploma cheap", "forged diploma fast", "bread")
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    exploration = explore(reports=[report], user=auditor, key=key())
    run_exploration(exploration.pk)
    run_exploration(exploration.pk)
    run = QueryRun.objects.get()
    assert (run.live, run.removed) == (2, 0)
    assert {item_id for item_id, _risk in run.ranking} == {items[0].pk, items[1].pk}
    exploration.refresh_from_db()
    assert exploration.state == RunState.DONE


def test_a_failed_query_says_why_and_can_run_again(auditor, settings, tmp_path):
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    exploration = explore(reports=[report], user=auditor, key=key())
    index, settings.SEARCH_FILE = settings.SEARCH_FILE, tmp_path / "nowhere" / "search.sqlite3"
    run_exploration(exploration.pk)
    row = ExplorationQuery.objects.get()
    assert row.state == RunState.FAILED
    assert row.error
    settings.SEARCH_FILE = index
    make_indexed("forged diploma cheap")
    run_exploration(run_again(exploration=exploration, user=auditor, key=key()).pk)
    assert QueryRun.objects.get().live == 1


def test_running_again_needs_a_failure(auditor):
    make_indexed("forged diploma cheap")
    exploration = explored(confirmed_report(auditor), auditor, "forged diploma")
    with pytest.raises(Conflict):
        run_again(exploration=exploration, user=auditor, key=key())


def test_an_item_found_by_two_queries_is_shown_once_and_logged_for_each(auditor):
    make_indexed("forged diploma cheap", "forged diploma")
    exploration = explored(confirmed_report(auditor), auditor, "forged diploma", "diploma cheap")
    exposures = exposures_of(exploration)
    assert len(exposures) == 3
    assert sorted(exposure.position for exposure in exposures) in ([1, 1, 2], [1, 2, 2])


def test_opening_a_page_again_changes_nothing(auditor):
    make_indexed("forged diploma cheap")
    exploration = explored(confirmed_report(auditor), auditor, "forged diploma")
    assert open_page(exploration=exploration, user=auditor, number=1, key=key()) == 0
    assert Exposure.objects.count() == 1


def test_pages_cover_each_result_once(auditor, settings):
    settings.PAGE_SIZE = 10
    make_indexed(*(f"forged diploma {number}" for number in range(23)))
    exploration = explored(confirmed_report(auditor), auditor, "forged diploma")
    sizes = [open_page(exploration=exploration, user=auditor, number=number, key=key()) for number in (2, 3, 4)]
    assert sizes == [10, 3, 0]
    assert [exposure.position for exposure in exposures_of(exploration)] == list(range(1, 24))


def test_a_page_cannot_be_left_out(auditor):
    make_indexed("forged diploma cheap")
    exploration = explored(confirmed_report(auditor), auditor, "forged diploma")
    with pytest.raises(Conflict):
        open_page(exploration=exploration, user=auditor, number=3, key=key())


def test_a_running_exploration_opens_no_page(auditor):
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    exploration = explore(reports=[report], user=auditor, key=key())
    with pytest.raises(Conflict):
        open_page(exploration=exploration, user=auditor, number=1, key=key())


def test_a_stranger_to_the_exploration_opens_no_page(auditor, second_auditor):
    make_indexed("forged diploma cheap")
    exploration = explored(confirmed_report(auditor), auditor, "forged diploma")
    with pytest.raises(NotHeld):
        open_page(exploration=exploration, user=second_auditor, number=1, key=key())


def test_what_was_removed_since_the_run_is_not_shown(auditor):
    kept, removed = make_indexed("forged diploma cheap", "forged diploma fast")
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    exploration = explore(reports=[report], user=auditor, key=key())
    run_exploration(exploration.pk)
    Item.objects.filter(pk=removed.pk).update(state=ItemState.REMOVED)
    open_page(exploration=exploration, user=auditor, number=1, key=key())
    assert [exposure.item for exposure in exposures_of(exploration)] == [kept]


def test_what_was_judged_before_comes_last(auditor):
    from audit.models import Verdict
    from audit.services import judge

    first, second = make_indexed("forged diploma cheap and fast", "forged diploma")
    earlier = explored(confirmed_report(auditor), auditor, "cheap and fast")
    judge(exposure=exposures_of(earlier)[0], user=auditor, verdict=Verdict.NORMAL, key=key())
    later = explored(confirmed_report(auditor), auditor, "forged diploma")
    assert [exposure.item for exposure in exposures_of(later)] == [second, first]

"""The stored counts follow the log: roll-up against direct computation, late rows, interruptions, zones."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from audit.insights import reading, rollup
from audit.insights.measures import DEFINITION, Part
from audit.insights.reading import count_week
from audit.insights.rollup import roll_up
from audit.models import (
    CountedWeek,
    Decision,
    Exploration,
    Exposure,
    Judgment,
    QueryRun,
    ReportEventKind,
    StandingVerdict,
)
from tests.audit.insights_log import (
    MONDAY,
    NOW,
    WEEK,
    accepted,
    all_rows,
    confirmed,
    explored,
    items,
    judge,
    own,
    stored,
)
from tests.factories import (
    make_decision,
    make_exposure,
    make_judgment,
    make_policy,
    make_pool_item,
    make_report_event,
    make_run,
    make_suggestion,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(monkeypatch):
    """`clock(moment)`: it is that moment now."""

    def set_to(moment):
        monkeypatch.setattr("django.utils.timezone.now", lambda: moment)

    set_to(NOW)
    return set_to


@pytest.fixture(autouse=True)
def _wednesday(clock):
    """Nothing in these tests happens at the real now."""


@pytest.fixture
def exact(monkeypatch):
    """Rows that were looked at before are not looked at once more."""
    monkeypatch.setattr(rollup, "MARGIN", 0)


@pytest.fixture
def worked(auditor):
    """Two weeks: in the first the model finds 3 of 4 toxic items, 2 of them alone; in the second nothing is judged."""
    report = confirmed(auditor)
    pool = items(5)
    explored(
        [own(report, auditor, "stamp"), accepted(report, auditor, "diploma")],
        {"stamp": pool[:2], "diploma": pool[1:5]},
    )
    for item, verdict in zip(pool, ["toxic", "toxic", "toxic", "toxic", "normal"], strict=True):
        judge(item, report.policy, auditor, verdict, MONDAY + timedelta(minutes=5))
    later = confirmed(auditor, MONDAY + WEEK)
    explored([accepted(later, auditor, "licence")], {"licence": items(2)})
    return report


# --- counting -------------------------------------------------------------------------------------------------------


def test_an_empty_log_has_no_weeks():
    assert roll_up() == 0
    assert not CountedWeek.objects.exists()


def test_every_week_since_the_first_row_is_there_also_an_empty_one(worked):
    roll_up()
    weeks = CountedWeek.objects.all()
    assert [f"{week.monday:%V}" for week in weeks] == ["19", "20", "21", "22"]
    assert [week.until == rollup.Week(week.monday).end for week in weeks] == [True, True, True, False]
    assert weeks.latest("monday").until == NOW


def test_counts_stand_in_the_week_of_their_exploration(worked):
    roll_up()
    first, second = stored(MONDAY), stored(MONDAY + WEEK)
    assert (first["found_human"], first["found_added"]) == (2, 2)
    assert (first["shown_toxic"], first["shown_normal"]) == (5, 1)
    assert (first["suggestions_accepted"], first["own_made"], first["own_run"]) == (1, 1, 1)
    assert (second["shown_unjudged"], second["explored"]) == (2, 1)
    assert "found_human" not in second


def test_the_roll_up_is_what_counting_the_log_directly_gives(auditor, second_auditor):
    """A mixed log of three weeks, counted here in another way: with sets over all exposures at once."""
    for number in range(9):
        report = confirmed(auditor, MONDAY + number % 3 * WEEK, text="卖证的" if number % 2 else "")
        shared = items(4)
        made = [own(report, auditor, f"own {number}"), accepted(report, auditor, f"model {number}")]
        explored(made, {f"own {number}": shared[:2], f"model {number}": shared[number % 3 :]})
        for place, item in enumerate(shared):
            if place != number % 4 and item.exposures.exists():
                judge(item, report.policy, auditor, "toxic" if place % 2 else "normal", report.confirmed)
    disputed = Exposure.objects.filter(judgments__verdict="toxic").first()
    judge(disputed.item, disputed.judgments.get().policy_version.policy, second_auditor, "normal", MONDAY)
    roll_up()
    assert stored()["found_human"] == len(_toxic("human"))
    assert stored()["found_added"] == len(_toxic("model") - _toxic("human"))
    verdicts = dict(StandingVerdict.objects.values_list("item_text_id", "verdict"))
    shown = Counter(verdicts.get(text, "") for text in Exposure.objects.values_list("item_text_id", flat=True))
    told = stored()
    assert (told["shown_toxic"], told["shown_normal"]) == (shown["toxic"], shown["normal"])
    assert told["shown_disputed"] + told["shown_unjudged"] == shown[""]
    assert told["queries_run"] == QueryRun.objects.count()
    assert told["explored"] == Exploration.objects.count()
    assert told["judgments_made"] == Judgment.objects.exclude(verdict="").count()
    assert told["own_made"] + told["suggestions_accepted"] == Decision.objects.count()
    assert told["toxic_normal"] == 1


def _toxic(source):
    rows = Exposure.objects.filter(
        run__exploration_query__decisions__source=source,
        item_text__standing_verdicts__verdict="toxic",
        item_text__standing_verdicts__is_disputed=False,
    )
    return set(rows.values_list("run__exploration_query__exploration_id", "item_id"))


def test_each_count_stands_in_its_cell(worked):
    roll_up()
    rows = {row[1:7]: row[7] for row in all_rows() if row[0] == MONDAY.date()}
    policy = worked.policy.key
    assert rows["shown_toxic", "visible", policy, "en", "human", ""] == 2
    assert rows["shown_toxic", "visible", policy, "en", "search", "1/r1"] == 3
    assert rows["found_added", "visible", policy, "en", "search", "1/r1"] == 2
    assert rows["own_made", "visible", policy, "en", "human", ""] == 1
    assert rows["judgments_made", "visible", policy, "en", "human", ""] == 2


def test_an_undecided_suggestion_equal_to_an_own_query_counts_if_it_was_shown(auditor):
    report = confirmed(auditor, arm="own_first")
    accepted(report, auditor, "diploma", kind="rejected")
    own(report, auditor, "stamp")
    make_suggestion("stamp", report=report)
    roll_up()
    assert "suggestions_equal" not in stored()
    report.revealed = MONDAY
    report.save()
    roll_up(everything=True)
    assert stored()["suggestions_equal"] == 1


def test_a_query_that_ran_again_after_a_page_was_opened_met_another_state(auditor):
    report = confirmed(auditor)
    first, late = own(report, auditor, "stamp"), accepted(report, auditor, "diploma")
    found = items(2)
    exploration = explored([first], {"stamp": found})
    place = exploration.queries.create(query=late.query, position=2, state="done")
    place.decisions.add(late)
    run = make_run(exploration_query=place, items=found, at=MONDAY + timedelta(minutes=9))
    for item in found:
        make_exposure(run=run, item=item, at=MONDAY + timedelta(minutes=10), page=2)
        judge(item, report.policy, auditor, "toxic", MONDAY)
    roll_up()
    assert (stored()["explored"], stored()["found_human"], stored()["found_added"]) == (2, 2, 2)


def test_judgments_of_reports_and_pools_are_of_no_arm(auditor):
    make_judgment(report=confirmed(auditor), user=auditor, at=MONDAY)
    make_judgment(pool_item=make_pool_item(), user=auditor, at=MONDAY)
    roll_up()
    assert {row[2] for row in all_rows() if row[1] == "judgments_made"} == {"none"}


# --- two people -----------------------------------------------------------------------------------------------------


def test_a_disagreement_is_unjudged_until_settled_and_stays_a_disagreement(worked, auditor, second_auditor):
    item = Exposure.objects.filter(judgments__verdict="toxic").earliest("pk").item
    judge(item, worked.policy, second_auditor, "normal", MONDAY + timedelta(hours=1))
    roll_up()
    assert (stored()["shown_disputed"], stored()["found_human"], stored()["toxic_normal"]) == (1, 1, 1)
    judge(item, worked.policy, second_auditor, "toxic", MONDAY + timedelta(hours=2))
    roll_up()
    assert "shown_disputed" not in stored()
    assert (stored()["found_human"], stored()["toxic_normal"]) == (2, 1)


def test_a_verdict_that_was_taken_back_agrees_with_nobody(worked, auditor, second_auditor):
    item = Exposure.objects.filter(judgments__verdict="toxic").earliest("pk").item
    slip = judge(item, worked.policy, second_auditor, "normal", MONDAY + timedelta(hours=1))
    make_judgment(undoes=slip, at=MONDAY + timedelta(hours=2))
    roll_up()
    assert "toxic_normal" not in stored()
    assert stored()["judgments_made"] == 6


# --- what changes a week --------------------------------------------------------------------------------------------


def test_counting_again_gives_equal_rows(worked):
    roll_up()
    before = all_rows()
    roll_up(everything=True)
    assert all_rows() == before
    assert not [week for week in CountedWeek.objects.all() if week.stale]


@pytest.mark.usefixtures("exact")
def test_a_night_without_news_counts_the_running_week_alone(worked):
    roll_up()
    assert roll_up() == 1


@pytest.mark.usefixtures("exact")
def test_a_late_verdict_changes_the_week_in_which_the_text_was_shown(worked, auditor):
    roll_up()
    unjudged = Exposure.objects.filter(judgments=None).earliest("-pk").item
    judge(unjudged, worked.policy, auditor, "toxic", NOW - timedelta(hours=1))
    lines = []
    roll_up(say=lines.append)
    assert [line[:8] for line in lines] == ["2026-W20", "2026-W22"]
    assert (stored(MONDAY + WEEK)["found_added"], stored(MONDAY + WEEK)["shown_unjudged"]) == (1, 1)
    assert stored(NOW)["judgments_made"] == 1


@pytest.mark.usefixtures("exact")
def test_a_verdict_taken_back_late_changes_that_week_too(worked, auditor):
    roll_up()
    make_judgment(undoes=Judgment.objects.filter(verdict="normal").get(), at=NOW)
    roll_up()
    assert stored(MONDAY)["shown_unjudged"] == 1
    assert "shown_normal" not in stored(MONDAY)


@pytest.mark.usefixtures("exact")
def test_an_own_query_that_runs_a_week_later_counts_where_it_was_made(auditor):
    report = confirmed(auditor)
    decision = own(report, auditor, "stamp")
    roll_up()
    assert "own_run" not in stored(MONDAY)
    exploration = explored([decision], {})
    Exploration.objects.filter(pk=exploration.pk).update(at=MONDAY + WEEK)
    roll_up()
    assert stored(MONDAY)["own_run"] == 1
    assert stored(MONDAY + WEEK)["queries_run"] == 1


@pytest.mark.usefixtures("exact")
def test_a_decision_taken_back_leaves_the_week_in_which_it_was_made(auditor):
    report = confirmed(auditor)
    decision = accepted(report, auditor, "diploma")
    roll_up()
    make_decision(undoes=decision, at=NOW)
    roll_up()
    assert "suggestions_accepted" not in stored()


@pytest.mark.usefixtures("exact")
def test_a_page_opened_in_a_later_week_counts_with_its_exploration(worked):
    roll_up()
    before = stored(MONDAY).get("shown_unjudged", 0)
    run = QueryRun.objects.earliest("pk")
    make_exposure(run=run, item=items(1)[0], at=NOW, page=2)
    roll_up()
    assert stored(MONDAY)["shown_unjudged"] == before + 1


def test_a_row_with_a_lower_id_that_appears_later_is_not_missed(worked, monkeypatch):
    """Ids are given out before a transaction ends: the mark is set back by some rows."""
    roll_up()
    asked = []
    monkeypatch.setitem(rollup._CHANGES, "judgments", lambda after, _now: asked.append(after) or iter(()))
    roll_up()
    assert asked == [max(0, Judgment.objects.latest("pk").pk - rollup.MARGIN)]


# --- the backlog ----------------------------------------------------------------------------------------------------


def test_the_backlog_of_a_past_week_is_as_it_was_at_its_end(auditor):
    """One closed within the week, one a week later, one still open: 2 open at the end of week 19, 1 of week 20."""
    policy = make_policy()
    confirmed(auditor, policy=policy)
    confirmed(auditor, policy=policy, closed=MONDAY + WEEK)
    confirmed(auditor, policy=policy, status="waiting", closed=None)
    roll_up()
    assert _open(stored(MONDAY)) == 2
    assert _open(stored(MONDAY + WEEK)) == 1
    assert round(stored(MONDAY)["open_oldest_h"]) == 6 * 24 + 16


def test_a_report_closed_then_and_reopened_later_was_not_open(auditor):
    report = confirmed(auditor, status="claimed", closed=None)
    make_report_event(report=report, kind=ReportEventKind.CLOSED, at=MONDAY + timedelta(days=1))
    make_report_event(report=report, kind=ReportEventKind.REOPENED, at=MONDAY + WEEK)
    roll_up()
    assert _open(stored(MONDAY)) == 0
    assert _open(stored(MONDAY + WEEK)) == 1


@pytest.mark.usefixtures("exact")
def test_a_corrected_policy_moves_the_backlog_of_the_weeks_before(auditor, worked):
    report = confirmed(auditor, status="waiting", closed=None)
    roll_up()
    report.policy = worked.policy
    report.save()
    make_report_event(report=report, kind=ReportEventKind.POLICY, at=NOW)
    roll_up()
    corrected = all_rows()
    roll_up(everything=True)
    assert all_rows() == corrected


def _open(sums):
    return sum(value for name, value in sums.items() if name.startswith("open_") and name != "open_oldest_h")


# --- weeks ----------------------------------------------------------------------------------------------------------


def test_a_week_is_finished_by_the_first_night_after_it(worked, clock):
    roll_up()
    clock(NOW + WEEK)
    roll_up()
    assert CountedWeek.objects.get(monday=datetime(2026, 5, 25, tzinfo=UTC).date()).until == datetime(
        2026, 6, 1, tzinfo=UTC
    )


def test_weeks_go_by_the_zone_of_the_site(auditor, settings):
    sunday = datetime(2026, 5, 3, 20, tzinfo=UTC)  # Monday at four in Shanghai
    report = confirmed(auditor, sunday)
    own(report, auditor, "stamp")
    roll_up()
    assert stored(sunday)["own_made"] == 1
    settings.TIME_ZONE = "Asia/Shanghai"
    roll_up()
    assert stored(MONDAY)["own_made"] == 1
    assert "own_made" not in stored(sunday)


def test_another_definition_counts_all_weeks_anew(worked, monkeypatch):
    roll_up()
    monkeypatch.setattr(rollup, "DEFINITION", DEFINITION + 1)
    assert roll_up() == 4
    assert set(CountedWeek.objects.values_list("definition", flat=True)) == {DEFINITION + 1}


# --- interruptions --------------------------------------------------------------------------------------------------


def _dies_in(week, monkeypatch):
    def count(part, wanted, until, counts):
        if wanted.name == week:
            raise KeyboardInterrupt
        count_week(part, wanted, until, counts)

    monkeypatch.setattr(rollup, "count_week", count)


@pytest.mark.usefixtures("exact")
def test_an_interrupted_roll_up_goes_on_where_it_stopped(worked, monkeypatch):
    _dies_in("2026-W21", monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        roll_up()
    kept = all_rows()
    assert kept
    monkeypatch.undo()
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    monkeypatch.setattr(rollup, "MARGIN", 0)
    assert roll_up() == 2
    assert [row for row in all_rows() if row[0] < datetime(2026, 5, 18, tzinfo=UTC).date()] == kept


def test_a_mark_made_while_a_week_is_counted_stays(worked, monkeypatch):
    def count(part, week, until, counts):
        CountedWeek.objects.filter(monday=week.monday).update(marked=99)
        count_week(part, week, until, counts)

    monkeypatch.setattr(rollup, "count_week", count)
    roll_up()
    assert all(week.stale for week in CountedWeek.objects.all())


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_says_each_week(worked):
    out = StringIO()
    call_command("compute_insights", stdout=out)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("2026-W19: ")
    assert lines[-1] == "4 weeks counted."


@pytest.mark.usefixtures("exact")
def test_the_command_counts_so_many_weeks_anew(worked):
    roll_up()
    out = StringIO()
    call_command("compute_insights", weeks=2, stdout=out)
    assert out.getvalue().endswith("2 weeks counted.\n")
    with pytest.raises(CommandError):
        call_command("compute_insights", weeks=-1)


def test_an_interrupted_command_says_how_to_go_on(worked, monkeypatch):
    _dies_in("2026-W20", monkeypatch)
    err = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("compute_insights", stdout=StringIO(), stderr=err)
    assert ended.value.code == 130
    assert "the same command goes on" in err.getvalue()


def test_every_part_has_a_reader():
    assert set(reading._READERS) == set(Part)

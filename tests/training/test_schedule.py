"""Retraining by itself: on its weekday, after so many judgments, made up later, never two at once."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from extraction.artifacts import store_folder
from tests.factories import (
    make_base,
    make_dataset,
    make_evaluation_set,
    make_judgment,
    make_learning_run,
    make_promotion,
)
from tests.queues import empty_queues
from training.models import LearningSettings, Run, RunState, Weekday
from training.schedule import end_checkpoints, last_weekday, launch_if_due, new_judgments

pytestmark = pytest.mark.django_db

UTC = ZoneInfo("UTC")
SUNDAY = datetime(2026, 3, 8, 9, tzinfo=UTC)
MONDAY = SUNDAY + timedelta(days=1)


@pytest.fixture(autouse=True)
def _queues(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    settings.TIME_ZONE = "UTC"
    empty_queues()


def schedule(**values):
    defaults = {"recipe": "small", "every": Weekday.SUNDAY, "scheduled_on": date(2026, 3, 2)}
    LearningSettings.objects.update_or_create(pk=1, defaults=defaults | values)


def judged(count, *, at=SUNDAY):
    for _number in range(count):
        make_judgment(at=at, stands=False)


def is_launched(now=SUNDAY):
    return bool(launch_if_due(now=now))


@pytest.fixture
def base():
    return make_base()


# --- the weekday ------------------------------------------------------------------------------------------------------


def test_it_retrains_on_its_weekday_once(base):
    schedule()
    assert not is_launched(SUNDAY - timedelta(days=1))
    first, _second = launch_if_due(now=SUNDAY)
    assert (first.recipe, first.base, first.user) == ("small", base, None)
    Run.objects.update(state=RunState.DONE)
    assert not is_launched(SUNDAY + timedelta(hours=3))
    assert not is_launched(MONDAY)
    assert is_launched(SUNDAY + timedelta(days=7))


def test_it_waits_for_the_nightly_hour(base, settings):
    settings.NIGHTLY_HOUR = 3
    schedule()
    assert not is_launched(SUNDAY.replace(hour=2))
    assert is_launched(SUNDAY.replace(hour=3))


def test_a_missed_weekday_is_made_up_once(base):
    schedule(scheduled_on=date(2026, 2, 1))
    assert is_launched(MONDAY)
    Run.objects.update(state=RunState.DONE)
    assert not is_launched(MONDAY + timedelta(days=1))


def test_a_schedule_that_is_new_begins_with_the_next_such_day(base):
    schedule(scheduled_on=SUNDAY.date())
    assert not is_launched(SUNDAY)
    assert is_launched(SUNDAY + timedelta(days=7))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 3, 8, 3), date(2026, 3, 8)),
        (datetime(2026, 3, 8, 2), date(2026, 3, 1)),
        (datetime(2026, 3, 7, 23), date(2026, 3, 1)),
        (datetime(2026, 3, 9, 1), date(2026, 3, 8)),
    ],
)
def test_the_weekday_of_a_moment(now, expected, settings):
    settings.NIGHTLY_HOUR = 3
    assert last_weekday(Weekday.SUNDAY, now) == expected


# --- judgments --------------------------------------------------------------------------------------------------------


def test_it_retrains_after_so_many_judgments(base):
    schedule(every=None, after_judgments=3)
    judged(2)
    assert not is_launched(MONDAY)
    judged(1)
    assert is_launched(MONDAY)


def test_only_judgments_that_no_run_has_read_count(base):
    schedule(every=None, after_judgments=2)
    make_learning_run(base=base, dataset=make_dataset(until=SUNDAY))
    judged(5, at=SUNDAY - timedelta(hours=1))
    judged(1, at=SUNDAY + timedelta(hours=1))
    assert new_judgments() == 1
    assert not is_launched(MONDAY)
    judged(1, at=SUNDAY + timedelta(hours=2))
    assert is_launched(MONDAY)


def test_it_retrains_at_most_once_a_day(base):
    schedule(every=None, after_judgments=1)
    judged(1)
    assert is_launched(MONDAY)
    Run.objects.update(state=RunState.DONE)
    judged(5, at=MONDAY + timedelta(hours=1))
    assert not is_launched(MONDAY + timedelta(hours=2))


# --- never two at once, never for nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.QUEUED, RunState.RUNNING, RunState.EVALUATING])
def test_while_something_is_under_way_it_waits_and_makes_it_up(base, state):
    schedule()
    run = make_learning_run(base=base, state=state)
    assert not is_launched()
    Run.objects.filter(pk=run.pk).update(state=RunState.CANCELLED)
    assert is_launched(MONDAY)


def test_without_a_recipe_nothing_is_launched(base):
    schedule(recipe="")
    assert not is_launched()


def test_without_a_base_it_says_so_once_a_day(caplog):
    schedule()
    assert not is_launched()
    assert "no base model" in caplog.text
    caplog.clear()
    assert not is_launched(SUNDAY + timedelta(minutes=1))
    assert caplog.text == ""


def test_a_recipe_that_is_gone_says_so_once_a_day(base, caplog):
    schedule(recipe="gone")
    assert not is_launched()
    assert "gone" in caplog.text
    assert LearningSettings.load().scheduled_on == SUNDAY.date()


def test_it_trains_the_base_of_who_serves_and_tests_on_the_newest_set(base):
    serving = make_promotion().adapter
    make_base()
    test_set = make_evaluation_set()
    schedule(gate_decides=True)
    _first, second = launch_if_due(now=SUNDAY)
    assert (second.base, second.evaluation_set, second.gate_decides) == (serving.base, test_set, True)


def test_without_a_test_set_the_gate_is_not_asked(base):
    schedule(gate_decides=True)
    _first, second = launch_if_due(now=SUNDAY)
    assert (second.evaluation_set, second.gate_decides) == (None, False)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path_factory):
    """`stored(run)`: a checkpoint of that run in the storage."""

    def store(run):
        folder = tmp_path_factory.mktemp("checkpoint")
        (folder / "optimizer.pt").write_bytes(b"state")
        digest = store_folder(folder, allowed={".pt"}, place=f"checkpoints/{run.pk}/40")
        Run.objects.filter(pk=run.pk).update(checkpoint=digest, checkpoint_step=40)
        return run

    return store


def test_checkpoints_of_runs_that_are_over_end_after_their_days(stored):
    schedule(keep_checkpoints=7)
    now = timezone.now()
    old = stored(make_learning_run(finished=now - timedelta(days=8)))
    young = stored(make_learning_run(finished=now - timedelta(days=6)))
    running = stored(make_learning_run(state=RunState.RUNNING))
    assert end_checkpoints(now=now) == 1
    assert [bool(Run.objects.get(pk=run.pk).checkpoint) for run in (old, young, running)] == [False, True, True]
    assert sorted(default_storage.listdir("checkpoints")[0]) == sorted([str(young.pk), str(running.pk)])


def test_a_run_that_was_resumed_keeps_its_checkpoint(stored):
    schedule(keep_checkpoints=7)
    now = timezone.now()
    run = stored(make_learning_run(state=RunState.WAITING, finished=None))
    assert end_checkpoints(now=now + timedelta(days=30)) == 0
    assert Run.objects.get(pk=run.pk).checkpoint

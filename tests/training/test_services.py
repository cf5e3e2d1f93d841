"""The verbs of learning: what they record, what they queue after the commit, what they refuse."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit.models import JobState
from audit.services.errors import AlreadyRecorded, Conflict, Invalid
from tests.factories import (
    make_adapter,
    make_base,
    make_dataset,
    make_evaluation,
    make_evaluation_set,
    make_key,
    make_learning_run,
    make_report,
)
from tests.queues import empty_queues, waiting
from training import services
from training.config import load_recipe
from training.datasets import Options
from training.estimates import estimate
from training.models import Dataset, DatasetKind, Evaluation, Refusal, Run, RunState

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _queues():
    empty_queues()


@pytest.fixture
def committed(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def launch(recipe="small", **values):
    return services.launch(recipe=recipe, **({"base": make_base()} | values))


# --- builds -----------------------------------------------------------------------------------------------------------


def test_a_build_is_a_row_and_a_job_after_the_commit(committed):
    with committed():
        dataset = services.start_build(kind=DatasetKind.SFT, options=Options(max_length=8))
        assert waiting("data") == []
    assert waiting("data") == [f"dataset-{dataset.pk}"]
    assert (dataset.name, dataset.state, dataset.options["max_length"]) == ("sft-1", JobState.QUEUED, 8)


def test_the_same_press_is_one_build(admin):
    key = make_key()
    services.start_build(kind=DatasetKind.SFT, options=Options(), user=admin, key=key)
    with pytest.raises(AlreadyRecorded):
        services.start_build(kind=DatasetKind.SFT, options=Options(), user=admin, key=key)
    assert Dataset.objects.count() == 1


def test_what_an_adapter_proposes_is_built_where_the_card_is(committed):
    with committed():
        dataset = services.start_build(kind=DatasetKind.POL, options=Options(), adapter=make_adapter())
    assert waiting("train") == [f"dataset-{dataset.pk}"]


def test_counting_needs_no_card(committed):
    with committed():
        services.start_build(kind=DatasetKind.POL, options=Options(), adapter=make_adapter(), dry_run=True)
    assert len(waiting("data")) == 1


@pytest.mark.parametrize(("kind", "adapter"), [(DatasetKind.POL, False), (DatasetKind.SFT, True)])
def test_an_adapter_is_asked_for_where_it_proposes_and_nowhere_else(kind, adapter):
    with pytest.raises(Invalid):
        services.start_build(kind=kind, options=Options(), adapter=make_adapter() if adapter else None)


def test_a_draft_is_built_once():
    dataset = make_dataset(state=JobState.DRAFT, is_dry_run=True)
    services.build_draft(dataset=dataset)
    with pytest.raises(Conflict):
        services.build_draft(dataset=dataset)
    dataset.refresh_from_db()
    assert (dataset.state, dataset.is_dry_run) == (JobState.QUEUED, False)


# --- launching --------------------------------------------------------------------------------------------------------


def test_a_launch_makes_the_chain_with_its_datasets():
    test_set = make_evaluation_set()
    first, second = launch(evaluation_set=test_set, seed=3)
    assert [run.state for run in (first, second)] == [RunState.WAITING, RunState.WAITING]
    assert [run.dataset.kind for run in (first, second)] == [DatasetKind.SFT, DatasetKind.COMP]
    assert {run.dataset.excluded for run in (first, second)} == {test_set}
    assert (first.config["seed"], first.config["kind"]) == (3, "sft")
    assert (second.after, second.start) == (first, None)


def test_the_datasets_of_a_launch_speak_the_language_of_its_base():
    first, _second = launch(base=make_base(prompt_version="en-1"))
    assert first.dataset.options["prompt_version"] == "en-1"


def test_launches_of_the_same_log_share_their_datasets():
    until, base = timezone.now(), make_base()
    launch("paper-d", base=base, until=until)
    launch("paper-comp2", base=base, until=until)
    assert sorted(Dataset.objects.values_list("kind", flat=True)) == ["comp", "comp2", "sft"]


def test_a_failed_dataset_is_not_used_again():
    until, base = timezone.now(), make_base()
    launch(base=base, until=until)
    Dataset.objects.update(state=JobState.FAILED)
    launch(base=base, until=until)
    assert Dataset.objects.count() == 4


def test_what_the_first_adapter_is_to_propose_waits_for_it(committed):
    with committed():
        _first, second = launch("small-pol")
    assert second.dataset.kind == DatasetKind.POL
    assert waiting("train") == []
    assert len(waiting("data")) == 1


def test_the_same_press_is_one_launch(admin):
    key = make_key()
    launch(user=admin, key=key)
    with pytest.raises(AlreadyRecorded):
        launch(user=admin, key=key)
    assert Run.objects.count() == 2


def test_the_same_launch_of_today_has_to_be_meant():
    base = make_base()
    launch(base=base)
    with pytest.raises(Invalid, match="launched today"):
        launch(base=base, is_sure=False)
    launch(base=base, is_sure=True)
    launch(base=base, seed=1, is_sure=False)


@pytest.mark.parametrize("wrong", [{"recipe": "nonsense"}, {"gate_decides": True}])
def test_a_launch_that_cannot_be_leaves_nothing(wrong):
    with pytest.raises(Invalid):
        launch(**wrong)
    assert not Run.objects.exists()
    assert not Dataset.objects.exists()


# --- stopping and going on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.QUEUED])
def test_a_run_that_has_not_begun_is_taken_off_with_what_follows(state):
    first = make_learning_run(state=state)
    second = make_learning_run(state=RunState.WAITING, after=first)
    third = make_learning_run(state=RunState.WAITING, after=second)
    services.cancel(run=first)
    assert {run.state for run in Run.objects.filter(pk__in=[first.pk, second.pk, third.pk])} == {RunState.CANCELLED}


def test_a_running_one_is_asked_to_stop():
    run = make_learning_run(state=RunState.RUNNING)
    services.cancel(run=run)
    run.refresh_from_db()
    assert (run.state, run.cancel_requested) == (RunState.RUNNING, True)


@pytest.mark.parametrize("state", [RunState.DONE, RunState.FAILED, RunState.CANCELLED, RunState.EVALUATING])
def test_what_is_over_is_not_stopped(state):
    with pytest.raises(Conflict):
        services.cancel(run=make_learning_run(state=state))


def test_resuming_brings_the_chain_back():
    first = make_learning_run(state=RunState.RUNNING, checkpoint="c", checkpoint_step=4)
    second = make_learning_run(state=RunState.WAITING, after=first)
    services.cancel(run=first)
    Run.objects.filter(pk=first.pk).update(state=RunState.CANCELLED, attempts=2, error="x", trace="y")
    services.resume(run=first)
    for run in (first, second):
        run.refresh_from_db()
        assert (run.state, run.cancel_requested, run.finished) == (RunState.WAITING, False, None)
    assert (first.checkpoint_step, first.attempts, first.error, first.trace) == (4, 0, "", "")


def test_resuming_builds_a_failed_dataset_again():
    dataset = make_dataset(state=JobState.FAILED, error="x", attempts=3)
    services.resume(run=make_learning_run(state=RunState.FAILED, dataset=dataset))
    dataset.refresh_from_db()
    assert (dataset.state, dataset.error, dataset.attempts) == (JobState.QUEUED, "", 0)


def test_a_step_is_not_resumed_before_the_one_that_it_starts_from():
    first = make_learning_run(state=RunState.FAILED)
    second = make_learning_run(state=RunState.CANCELLED, after=first)
    with pytest.raises(Conflict, match=f"Resume run {first.pk} first"):
        services.resume(run=second)


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.DONE, RunState.QUEUED])
def test_what_is_not_over_is_not_resumed(state):
    with pytest.raises(Conflict):
        services.resume(run=make_learning_run(state=state))


# --- deciding ---------------------------------------------------------------------------------------------------------


def test_a_refusal_is_kept_with_its_reason_and_ends_the_run(admin):
    run = make_learning_run()
    services.refuse(adapter=run.adapter, reason=" too broad ", user=admin)
    run.refresh_from_db()
    assert run.state == RunState.REFUSED
    assert (Refusal.objects.get().reason, Refusal.objects.get().user) == ("too broad", admin)


def test_a_refusal_without_a_reason_is_none():
    with pytest.raises(Invalid):
        services.refuse(adapter=make_adapter(), reason=" ")


def test_an_adapter_is_measured_once_at_a_time(committed):
    adapter, test_set = make_adapter(), make_evaluation_set()
    with committed():
        evaluation = services.start_evaluation(adapter=adapter, evaluation_set=test_set)
    assert waiting("train") == [f"evaluation-{evaluation.pk}"]
    with pytest.raises(Conflict):
        services.start_evaluation(adapter=adapter, evaluation_set=test_set)
    Evaluation.objects.update(state=JobState.DONE)
    services.start_evaluation(adapter=adapter, evaluation_set=test_set)


def test_a_press_that_was_refused_may_come_again(admin):
    key = make_key()
    with pytest.raises(Invalid):
        services.start_freeze(name="t", cutoff=timezone.now(), user=admin, key=key)
    make_report(status="closed", outcome="confirmed")
    services.start_freeze(name="t", cutoff=timezone.now() - timedelta(days=1), user=admin, key=key)


def test_one_base_of_a_size_is_built_at_a_time(committed):
    with committed():
        build = services.start_base(profile="small")
        with pytest.raises(Conflict):
            services.start_base(profile="small")
    assert waiting("train") == [f"base-{build.pk}"]


# --- what it would cost -----------------------------------------------------------------------------------------------


@pytest.fixture
def measured():
    """A base on which an SFT run took 2 s a sample and epoch, a DPO run 1 s."""
    base, now = make_base(), timezone.now()
    for kind, dataset_kind, seconds in (("sft", "sft", 200), ("dpo", "comp", 100)):
        dataset = make_dataset(kind=dataset_kind, rows_out=50)
        values = {"started": now - timedelta(seconds=seconds), "finished": now, "config": {"epochs": 2}}
        make_learning_run(base=base, kind=kind, dataset=dataset, **values)
    return base


def test_time_goes_by_samples_and_epochs_of_earlier_runs(measured):
    found = estimate(recipe=load_recipe("small"), base=measured)
    assert found.seconds == pytest.approx(50 * 4 * 2 + 50 * 3 * 1)
    assert found.like.kind == "dpo"


def test_on_another_base_nothing_is_known(measured):
    found = estimate(recipe=load_recipe("small"), base=make_base())
    assert (found.seconds, found.like) == (None, None)


def test_it_waits_for_what_is_under_way(measured):
    dataset = make_dataset(rows_out=100)
    running = make_learning_run(base=measured, state=RunState.RUNNING, seconds_left=30.0)
    queued = make_learning_run(base=measured, state=RunState.QUEUED, dataset=dataset, config={"epochs": 1})
    found = estimate(recipe=load_recipe("small"), base=measured)
    assert found.under_way == [running, queued]
    assert found.waits_seconds == pytest.approx(30 + 200)


def test_how_long_it_waits_is_unknown_behind_an_evaluation(measured):
    make_learning_run(base=measured, state=RunState.EVALUATING, adapter=make_evaluation().adapter)
    assert estimate(recipe=load_recipe("small"), base=measured).waits_seconds is None


def test_the_disk_is_asked_for_a_base_that_is_not_there_yet(settings):
    base = make_base(parameters=7_000_000_000)
    without = estimate(recipe=load_recipe("small"), base=base)
    (settings.ARTIFACT_CACHE / base.digest).mkdir(parents=True)
    with_copy = estimate(recipe=load_recipe("small"), base=base)
    assert without.disk_bytes - with_copy.disk_bytes == 14_000_000_000
    assert with_copy.free_bytes > 0

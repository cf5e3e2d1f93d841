"""The jobs of learning: what goes on when, what a dead worker left, what the gate's word does to a run."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit.models import Generation, JobState
from extraction.artifacts import open_artifact
from extraction.errors import IndexMissing
from tests.audit.loop import make_indexed
from tests.factories import (
    make_adapter,
    make_base,
    make_dataset,
    make_evaluation,
    make_evaluation_set,
    make_judgment,
    make_learning_run,
    make_pool_item,
    make_report,
)
from tests.queues import empty_queues, waiting
from tests.training.small_log import confirmed, own
from training import jobs
from training.datasets import Options
from training.models import BaseBuild, Dataset, Evaluation, GateVerdict, Refusal, Run, RunState, ShadowScore
from training.services import launch, start_build
from training.watching import Progress

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _places(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "storage"
    settings.VAR_DIR = tmp_path / "machine"
    settings.VAR_DIR.mkdir()
    settings.ARTIFACT_CACHE = settings.VAR_DIR / "cache"
    empty_queues()


def again(row):
    row.refresh_from_db()
    return row


def decided():
    """A confirmed report whose auditor made a query of a phrase of its text."""
    return own(confirmed("cheap diploma with stamp"), "diploma")


# --- datasets ---------------------------------------------------------------------------------------------------------


def built(kind="sft", **values):
    dataset = start_build(kind=kind, options=Options(), **values)
    jobs.build_dataset_job(dataset.pk)
    return again(dataset)


def test_a_build_is_stored_under_its_digest_with_its_counts():
    decided()
    dataset = built()
    assert (dataset.state, dataset.rows_in, dataset.rows_out) == (JobState.DONE, 1, 1)
    assert dataset.preview == [0]
    with open_artifact(dataset.digest) as file:
        assert b"diploma" in file.read()


def test_a_dry_run_counts_and_stores_nothing():
    decided()
    dataset = built(dry_run=True)
    assert (dataset.state, dataset.rows_out, dataset.digest) == (JobState.DRAFT, 1, "")


def test_a_draft_builds_what_it_counted(tmp_path):
    decided()
    dataset = built(dry_run=True)
    Dataset.objects.filter(pk=dataset.pk).update(state=JobState.QUEUED, is_dry_run=False)
    jobs.build_dataset_job(dataset.pk)
    assert again(dataset).state == JobState.DONE
    assert dataset.digest


def test_a_log_without_a_row_says_so_in_a_sentence():
    dataset = built()
    assert dataset.state == JobState.FAILED
    assert "Explore reports first" in dataset.error


def test_a_build_runs_once():
    decided()
    dataset = built()
    finished = dataset.finished
    jobs.build_dataset_job(dataset.pk)
    assert again(dataset).finished == finished


def test_a_build_whose_job_dies_again_and_again_fails():
    dataset = make_dataset(state=JobState.QUEUED, attempts=jobs.ATTEMPTS)
    jobs.build_dataset_job(dataset.pk)
    assert again(dataset).state == JobState.FAILED


def test_an_error_that_nobody_expected_is_kept_and_raised(monkeypatch):
    monkeypatch.setattr(jobs, "build", lambda *args, **kwargs: 1 / 0)
    dataset = start_build(kind="sft", options=Options())
    with pytest.raises(ZeroDivisionError):
        jobs.build_dataset_job(dataset.pk)
    assert "ZeroDivisionError" in again(dataset).error


# --- the chain --------------------------------------------------------------------------------------------------------


def test_a_run_is_queued_when_its_dataset_is_there():
    decided()
    first, second = launch(recipe="small", base=make_base())
    jobs.advance()
    assert again(first).state == RunState.WAITING
    jobs.build_dataset_job(first.dataset_id)
    assert again(first).state == RunState.QUEUED
    assert waiting("train") == [f"train-{first.pk}"]
    assert again(second).state == RunState.WAITING


def test_the_next_run_starts_from_the_adapter_of_the_one_before():
    first = make_learning_run()
    second = make_learning_run(state=RunState.WAITING, after=first)
    jobs.advance()
    assert again(second).state == RunState.QUEUED
    assert second.start == first.adapter


def test_a_run_whose_dataset_failed_fails_with_its_reason_and_takes_the_chain_along():
    first = make_learning_run(
        state=RunState.WAITING, dataset=make_dataset(state=JobState.FAILED, error="Traceback\nThe log is empty.")
    )
    second = make_learning_run(state=RunState.WAITING, after=first)
    jobs.advance()
    assert again(first).state == RunState.FAILED
    assert first.error.endswith("The log is empty.")
    assert again(second).state == RunState.CANCELLED


def test_what_the_adapter_proposes_is_built_when_the_adapter_is_there():
    first, second = launch(recipe="small-pol", base=make_base())
    jobs.learning_tick()
    assert f"dataset-{second.dataset_id}" not in waiting("train") + waiting("data")
    Run.objects.filter(pk=first.pk).update(state=RunState.DONE, adapter=make_adapter())
    jobs.advance()
    assert again(second.dataset).adapter == again(first).adapter
    assert waiting("train") == [f"dataset-{second.dataset_id}"]


def test_the_last_adapter_is_evaluated_once(django_capture_on_commit_callbacks):
    run = make_learning_run(state=RunState.EVALUATING, adapter=make_adapter(), evaluation_set=make_evaluation_set())
    with django_capture_on_commit_callbacks(execute=True):
        jobs.advance()
        jobs.advance()
    evaluation = Evaluation.objects.get()
    assert (evaluation.adapter, evaluation.evaluation_set) == (run.adapter, run.evaluation_set)
    assert waiting("train") == [f"evaluation-{evaluation.pk}"]


# --- after the evaluation ---------------------------------------------------------------------------------------------


def evaluated(verdict, *, gate_decides=True, state=JobState.DONE, **values):
    run = make_learning_run(
        state=RunState.EVALUATING,
        adapter=make_adapter(),
        evaluation_set=make_evaluation_set(),
        gate_decides=gate_decides,
    )
    rule = {"rule": "leak", "holds": False, "figures": {"unknown": [], "texts": 2, "reports": 9}}
    evaluation = make_evaluation(
        adapter=run.adapter, evaluation_set=run.evaluation_set, verdict=verdict, state=state, gate=[rule], **values
    )
    jobs.settle(evaluation)
    return again(run)


def test_a_person_decides_where_the_gate_may_not():
    for verdict in GateVerdict.values:
        assert evaluated(verdict, gate_decides=False).state == RunState.DONE


def test_the_gate_refuses_with_the_figures():
    run = evaluated(GateVerdict.REFUSES)
    assert run.state == RunState.REFUSED
    assert Refusal.objects.get().user is None
    assert "9 test reports: 2" in Refusal.objects.get().reason


def test_an_adapter_that_passes_but_cannot_be_used_is_refused():
    run = evaluated(GateVerdict.PASSES)  # its files are not in the storage
    assert run.state == RunState.REFUSED
    assert "are gone" in Refusal.objects.get().reason


def test_while_more_has_to_be_judged_nothing_is_decided():
    assert evaluated(GateVerdict.UNDECIDED).state == RunState.DONE
    assert not Refusal.objects.exists()


def test_the_gate_decides_later_when_enough_was_judged():
    run = evaluated(GateVerdict.UNDECIDED)
    evaluation = Evaluation.objects.get()
    evaluation.verdict = GateVerdict.REFUSES
    jobs.settle(evaluation)
    assert again(run).state == RunState.REFUSED


def test_a_failed_evaluation_leaves_the_adapter_to_a_person():
    assert evaluated("", state=JobState.FAILED, error="The index is gone.").state == RunState.DONE


def test_an_evaluation_without_its_files_says_so():
    evaluation = make_evaluation(state=JobState.QUEUED, verdict="")
    jobs.evaluate_job(evaluation.pk)
    assert again(evaluation).state == JobState.FAILED
    assert "storage" in evaluation.error


# --- shadows ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def searchable(settings, tmp_path):
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"
    return make_indexed("cheap diploma")


def shadow_score(**values):
    return ShadowScore.objects.create(adapter=make_adapter(), other=make_adapter(), **values)


def both_read(score):
    """A confirmed report for which both adapters proposed: "diploma" and "cheap"."""
    report = make_report(text="cheap diploma with stamp", status="closed")
    for adapter, span in ((score.adapter, [6, 13, -0.1]), (score.other, [0, 5, -0.1])):
        Generation.objects.create(item_text=report.item_text, adapter=adapter, spans=[span], took_ms=1.0)


def test_a_score_keeps_both_adapters_figures_and_the_paired_difference(searchable):
    make_judgment(pool_item=make_pool_item(item=searchable[0]))
    score = shadow_score()
    both_read(score)
    jobs.score_shadow_job(score.pk)
    assert (again(score).state, score.error) == (JobState.DONE, "")
    assert (score.figures["reports"], score.figures["hits"], score.other_figures["hits"]) == (1, 1, 1)
    assert score.comparison["unique"]["losses"] == 0
    assert score.finished


def test_a_score_is_made_once(searchable):
    score = shadow_score(state=JobState.DONE)
    jobs.score_shadow_job(score.pk)
    assert again(score).attempts == 0


def test_a_score_of_no_report_says_so():
    score = shadow_score()
    jobs.score_shadow_job(score.pk)
    assert (again(score).state, score.error) == (JobState.FAILED, "No confirmed report has queries of both yet.")


def test_a_score_without_an_index_says_what_the_person_can_do(settings, tmp_path):
    settings.SEARCH_FILE = tmp_path / "none.sqlite3"
    score = shadow_score()
    both_read(score)
    jobs.score_shadow_job(score.pk)
    assert (again(score).state, score.error) == (JobState.FAILED, IndexMissing.sentence)


def test_a_score_whose_job_dies_again_and_again_fails():
    score = shadow_score(attempts=jobs.ATTEMPTS)
    jobs.score_shadow_job(score.pk)
    assert again(score).state == JobState.FAILED


# --- what a dead worker left ------------------------------------------------------------------------------------------


def test_a_build_whose_worker_died_is_queued_again():
    dataset = make_dataset(state=JobState.RUNNING, at=timezone.now() - LONG_AGO, seen=timezone.now() - LONG_AGO)
    jobs.learning_tick()
    assert again(dataset).state == JobState.QUEUED
    assert waiting("data") == [f"dataset-{dataset.pk}"]


def test_a_build_that_shows_signs_of_life_is_left_alone():
    dataset = make_dataset(state=JobState.RUNNING, at=timezone.now() - LONG_AGO, seen=timezone.now())
    jobs.learning_tick()
    assert again(dataset).state == JobState.RUNNING


def test_a_run_whose_worker_died_goes_to_another():
    run = make_learning_run(state=RunState.RUNNING, seen=timezone.now() - LONG_AGO)
    jobs.learning_tick()
    assert again(run).state == RunState.QUEUED
    assert waiting("train") == [f"train-{run.pk}"]


def test_a_run_with_a_job_under_way_is_not_given_away():
    run = make_learning_run(state=RunState.RUNNING, seen=timezone.now() - LONG_AGO)
    jobs.enqueue_run(run.pk)
    jobs.learning_tick()
    assert again(run).state == RunState.RUNNING


def test_a_run_that_was_to_stop_when_its_worker_died_is_stopped():
    run = make_learning_run(state=RunState.RUNNING, seen=timezone.now() - LONG_AGO, cancel_requested=True)
    follower = make_learning_run(state=RunState.WAITING, after=run)
    jobs.learning_tick()
    assert again(run).state == RunState.CANCELLED
    assert again(follower).state == RunState.CANCELLED


def test_a_queued_run_whose_queue_was_emptied_comes_back():
    run = make_learning_run(state=RunState.QUEUED)
    jobs.learning_tick()
    assert waiting("train") == [f"train-{run.pk}"]


def test_an_evaluation_whose_worker_died_is_queued_again():
    evaluation = make_evaluation(state=JobState.RUNNING, at=timezone.now() - LONG_AGO, seen=None)
    jobs.learning_tick()
    assert again(evaluation).state == JobState.QUEUED
    assert waiting("train") == [f"evaluation-{evaluation.pk}"]


def test_an_evaluation_that_ended_while_its_worker_died_is_settled():
    run = make_learning_run(state=RunState.EVALUATING, adapter=make_adapter(), evaluation_set=make_evaluation_set())
    make_evaluation(adapter=run.adapter, evaluation_set=run.evaluation_set)
    jobs.learning_tick()
    assert again(run).state == RunState.DONE


def test_a_base_without_texts_says_so_in_a_sentence():
    build = BaseBuild.objects.create(profile="tiny")
    jobs.build_base_job(build.pk)
    build.refresh_from_db()
    assert (build.state, build.base) == (JobState.FAILED, None)
    assert "text" in build.error


def test_a_base_writes_how_far_it_is_and_goes_back_to_the_queue_where_the_worker_stops(monkeypatch):
    def stopped(profile, *, watch, **kwargs):
        watch.report(Progress(3, 30, 1.0, None, 10.0, 5.0, 100))
        raise jobs.Stopped("told to end")

    monkeypatch.setattr(jobs, "build_base_model", stopped)
    build = BaseBuild.objects.create(profile="tiny")
    jobs.build_base_job(build.pk)
    build.refresh_from_db()
    assert (build.state, build.step, build.max_steps, build.attempts) == (JobState.QUEUED, 3, 30, 1)


def test_a_base_that_is_interrupted_again_and_again_fails():
    build = BaseBuild.objects.create(profile="tiny", attempts=jobs.BASE_ATTEMPTS)
    jobs.build_base_job(build.pk)
    build.refresh_from_db()
    assert build.state == JobState.FAILED


def test_a_base_whose_worker_died_is_queued_again():
    long_ago = timezone.now() - timedelta(hours=1)
    build = BaseBuild.objects.create(profile="tiny", state=JobState.RUNNING, at=long_ago, seen=long_ago)
    jobs.learning_tick()
    build.refresh_from_db()
    assert build.state == JobState.QUEUED
    assert f"base-{build.pk}" in waiting("train")


def test_a_score_whose_worker_died_is_queued_again():
    score = shadow_score(state=JobState.RUNNING, at=timezone.now() - LONG_AGO, seen=timezone.now() - LONG_AGO)
    jobs.learning_tick()
    assert again(score).state == JobState.QUEUED
    assert waiting("data") == [f"shadow-score-{score.pk}"]


def test_a_tick_without_work_asks_little(django_assert_max_num_queries):
    jobs.learning_tick()
    with django_assert_max_num_queries(20):
        jobs.learning_tick()

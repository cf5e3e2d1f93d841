"""`build_dataset` and `train`: the services of the page on the command line, and their exit codes."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from audit.models import JobState
from extraction.artifacts import store_file, store_folder
from extraction.generation import template_hash, tokenizer_hash, weights_hash
from tests.factories import make_base, make_dataset, make_evaluation, make_evaluation_set, make_learning_run
from tests.queues import empty_queues
from tests.tiny import base_folder
from tests.training.small_log import confirmed, own
from training import following, running, table
from training.config import load_recipe
from training.datasets import Options
from training.models import Dataset, Run, RunState
from training.services import launch

__all__ = ["base_folder"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _places(settings, tmp_path, monkeypatch):
    settings.MEDIA_ROOT, settings.VAR_DIR = tmp_path / "storage", tmp_path
    monkeypatch.setattr(following, "_LOOK_S", 0.01)
    empty_queues()
    yield
    running._told_to_stop.clear()


def call(*words):
    out, err = StringIO(), StringIO()
    call_command(*words, stdout=out, stderr=err)
    return out.getvalue()


# --- build_dataset ----------------------------------------------------------------------------------------------------


def test_a_dataset_is_built_and_its_counts_printed():
    own(confirmed("cheap diploma with stamp"), "diploma")
    words = call("build_dataset", "sft")
    dataset = Dataset.objects.get()
    assert dataset.state == JobState.DONE
    assert "sft-1: 1 rows in, 1 samples out" in words
    assert dataset.digest in words


def test_a_dry_run_counts_what_is_dropped():
    own(confirmed("cheap diploma with a stamp of the university"), "with a stamp of the university and more of it")
    words = call("build_dataset", "sft", "--dry-run")
    assert "0 samples out" in words
    assert "1 the phrase is not in the text" in words
    assert Dataset.objects.get().state == JobState.DRAFT


def test_a_setting_can_be_given():
    own(confirmed("cheap diploma with stamp"), "cheap diploma with")
    assert "1 too long" in call("build_dataset", "sft", "--dry-run", "--option", "max_length=2", "--option", "seed=3")
    assert Dataset.objects.get().options["seed"] == 3


def test_the_log_is_read_up_to_a_time():
    own(confirmed("cheap diploma with stamp"), "diploma")
    assert "0 rows in" in call("build_dataset", "sft", "--dry-run", "--until", "2026-01-01")


@pytest.mark.parametrize(
    "words",
    [
        ("sft", "--option", "max_length"),
        ("sft", "--option", "nonsense=1"),
        ("sft", "--until", "yesterday"),
        ("sft", "--set", "nobody"),
        ("pol",),
        ("pol", "--adapter", "nobody"),
        ("sft",),  # an empty log
    ],
)
def test_what_cannot_be_built_ends_with_an_error(words):
    with pytest.raises(CommandError):
        call("build_dataset", *words)


def test_an_interrupted_build_says_that_a_worker_has_it():
    running.stop_soon()
    with pytest.raises(CommandError) as raised:
        call("build_dataset", "sft")
    assert raised.value.returncode == 130
    assert Dataset.objects.get().state == JobState.QUEUED


# --- train ------------------------------------------------------------------------------------------------------------


def test_a_recipe_is_launched_on_the_newest_base_and_test_set():
    make_base("old")
    base, tests = make_base("new"), make_evaluation_set()
    words = call("train", "small", "--seed", "4", "--gate")
    first, second = Run.objects.order_by("pk")
    assert f"run {first.pk} (SFT on sft-1), run {second.pk} (DPO on comp-1)" in words
    assert (first.base, second.evaluation_set, second.gate_decides, second.seed) == (base, tests, True, 4)


@pytest.mark.parametrize(
    "words", [("small", "--base", "nobody"), ("nonsense",), ("small", "--set", "nobody"), ("small", "--until", "x")]
)
def test_what_cannot_be_launched_ends_with_an_error(words):
    make_base()
    with pytest.raises(CommandError):
        call("train", *words)
    assert not Run.objects.exists()


def test_without_a_base_it_says_how_to_make_one():
    with pytest.raises(CommandError, match="build_base_model"):
        call("train", "small")


def test_waiting_for_a_chain_that_fails_ends_with_its_reason():
    make_base()
    with pytest.raises(CommandError):
        call("train", "small", "--wait")
    assert set(Run.objects.values_list("state", flat=True)) == {RunState.FAILED, RunState.CANCELLED}


def test_the_same_command_goes_on_with_what_it_left():
    base = make_base()
    runs = launch(recipe="small", base=base)
    call("train", "small")
    assert Run.objects.count() == len(runs)
    Run.objects.update(state=RunState.CANCELLED)
    call("train", "small")
    assert Run.objects.count() == 2 * len(runs)


def test_an_interrupted_wait_has_its_own_exit_code():
    make_base()
    running.stop_soon()
    with pytest.raises(CommandError) as raised:
        call("train", "small", "--wait")
    assert raised.value.returncode == 130


# --- the table --------------------------------------------------------------------------------------------------------


FIGURES = {"hits": 1212, "queries": 325, "effective": 165, "query_hit_rate": 0.508, "unique": 800, "precision": None}


def trained_and_evaluated(recipe, base, tests):
    """What `table.make` finds when an earlier call has done everything."""
    for run in launch(recipe=recipe, base=base, evaluation_set=tests, until=tests.cutoff, reuses=True):
        if run.state == RunState.WAITING:
            made = make_learning_run(base=base, kind=run.kind).adapter
            Run.objects.filter(adapter=made).update(adapter=None)
            Run.objects.filter(pk=run.pk).update(state=RunState.DONE, adapter=made)
            make_evaluation(adapter=made, evaluation_set=tests, figures=FIGURES)
    Dataset.objects.update(state=JobState.DONE)


def test_the_table_has_a_row_for_each_adapter_and_trains_the_shared_one_once():
    base, tests = make_base(), make_evaluation_set(cutoff=timezone.now() - timedelta(days=1))
    for recipe in table.RECIPES:
        trained_and_evaluated(recipe, base, tests)
    words = call("train", "table-6")
    rows = [line for line in words.splitlines() if base.name in line]
    assert len(rows) == 7
    assert f"| {base.name} | SFT on D, DPO on D_comp2 | 1,212 | 325 | 165 | 0.508 | 800 | – |" in rows
    assert sum("| SFT on D |" in row for row in rows) == 1


def test_the_table_is_of_the_papers_recipes():
    for name in table.RECIPES:
        steps = load_recipe(name).steps
        assert [step.config.learning_rate for step in steps] == [3e-5, 3e-5]


def test_the_table_needs_a_test_set():
    make_base()
    with pytest.raises(CommandError, match="test set"):
        call("train", "table-6")


def test_a_row_that_cannot_be_made_is_named():
    make_base()
    make_evaluation_set()
    with pytest.raises(CommandError, match="made no adapter"):
        call("train", "table-6")


def test_a_dataset_that_a_worker_builds_is_waited_for(monkeypatch):
    dataset = make_dataset(state=JobState.RUNNING)

    def worker(_seconds):
        Dataset.objects.update(state=JobState.DONE)

    monkeypatch.setattr(following.time, "sleep", worker)
    assert following.build(dataset).state == JobState.DONE


# --- for real ---------------------------------------------------------------------------------------------------------


def stored_dataset(tmp_path, kind, rows):
    path = tmp_path / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    options = Options(until=datetime(2026, 5, 1, tzinfo=UTC)).as_json()
    return make_dataset(kind=kind, digest=store_file(path), options=options, rows_out=len(rows))


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_waiting_trains_the_whole_chain_in_this_process(base_folder, tmp_path):
    make_base(
        digest=store_folder(base_folder),
        weights_hash=weights_hash(base_folder),
        tokenizer_hash=tokenizer_hash(base_folder),
        template_hash=template_hash(base_folder),
    )
    content = "加微信代开发票"
    stored_dataset(tmp_path, "sft", [{"content": content, "queries": ["代开发票"]}] * 4)
    pair = {"content": content, "chosen_queries": ["代开发票"], "rejected_queries": ["微信"]}
    stored_dataset(tmp_path, "comp", [pair] * 4)
    words = call("train", "tiny", "--wait", "--until", "2026-05-01")
    first, second = Run.objects.select_related("adapter__parent").order_by("pk")
    assert f"run {second.pk}: done, dpo-1" in words
    assert (second.adapter.parent, second.kind) == (first.adapter, "dpo")

"""A run on this machine: files by digest, a process of its own, and what its end leaves in the rows."""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time

import pytest
from django.db import OperationalError, connections

from extraction.artifacts import fetch_folder, store_file, store_folder
from extraction.generation import template_hash, tokenizer_hash, weights_hash
from qexplorer_site.processes import descendants, is_alive
from tests.factories import make_adapter, make_base, make_dataset, make_learning_run
from tests.tiny import base_folder
from training import running, supervising
from training.checkpoints import newest_checkpoint
from training.config import TrainConfig
from training.models import Run, RunState
from training.running import TrainingCrashed, checkpoint_place, run_folder
from training.services import cancel

__all__ = ["base_folder"]

pytestmark = pytest.mark.django_db
slow = pytest.mark.slow

TEXTS = ["加微信代开发票", "低价出售高仿包邮私聊", "刷单兼职日结联系微信", "办证毕业证加群优惠", "今天天气不错吃饭"]
PHRASES = ["代开发票", "高仿", "刷单", "办证", "吃饭"]
STEPS = 120


@pytest.fixture(autouse=True)
def _places(settings, tmp_path, monkeypatch):
    settings.MEDIA_ROOT = tmp_path / "storage"
    on_machine(settings, tmp_path / "machine")
    monkeypatch.setattr(supervising, "POLL_S", 0.05)


def on_machine(settings, place):
    """From here on this is another machine: the same storage and rows, a disk of its own."""
    settings.VAR_DIR = place
    settings.ARTIFACT_CACHE = place / "cache"


@pytest.fixture
def base(base_folder):
    return make_base(
        digest=store_folder(base_folder),
        weights_hash=weights_hash(base_folder),
        tokenizer_hash=tokenizer_hash(base_folder),
        template_hash=template_hash(base_folder),
    )


def dataset_of(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return make_dataset(digest=store_file(path), rows_out=len(rows))


@pytest.fixture
def dataset(tmp_path):
    return dataset_of(tmp_path, [{"content": TEXTS[n % 5], "queries": [PHRASES[n % 5]], "id": n} for n in range(40)])


def queued(base, dataset, *, steps=6, save_steps=2, **values):
    config = TrainConfig(
        kind="sft",
        epochs=1,
        learning_rate=3e-3,
        batch_size=4,
        micro_batch_size=4,
        max_length=256,
        max_steps=steps,
        save_steps=save_steps,
    )
    return make_learning_run(
        base=base, dataset=dataset, **({"state": RunState.QUEUED, "config": config.write()} | values)
    )


def trained(run):
    running.train(run.pk)
    run.refresh_from_db()
    return run


def weights(run):
    path = fetch_folder(run.adapter.digest) / "adapter_model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def until(is_so, patience_s=60):
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- the whole way ----------------------------------------------------------------------------------------------------


@slow
def test_a_run_makes_an_adapter_with_its_card(base, dataset):
    run = trained(queued(base, dataset))
    assert (run.state, run.error) == (RunState.DONE, "")
    assert (run.step, run.max_steps) == (6, 6)
    assert run.adapter.name == "sft-1"
    assert (run.adapter.base, run.adapter.card["dataset"]) == (base, dataset.name)
    assert run.curve[-1][0] == 6
    assert not run_folder(run.pk).exists()


@slow
def test_a_run_stopped_on_one_machine_ends_on_another_as_if_nothing_had_happened(base, dataset, settings, tmp_path):
    straight = trained(queued(base, dataset))
    run = trained(queued(base, dataset, cancel_requested=True))
    assert run.state == RunState.CANCELLED
    assert 0 < run.checkpoint_step < 6
    on_machine(settings, tmp_path / "another machine")
    Run.objects.filter(pk=run.pk).update(state=RunState.QUEUED, cancel_requested=False)
    run = trained(run)
    assert run.state == RunState.DONE
    assert any("Goes on from" in note for note in run.notes)
    assert weights(run) == weights(straight)


@slow
@pytest.mark.django_db(transaction=True)
def test_a_killed_worker_takes_its_training_along_and_the_next_one_ends_it_the_same(base, dataset):
    straight = trained(queued(base, dataset, steps=STEPS, save_steps=10))
    run = queued(base, dataset, steps=STEPS, save_steps=10)
    connections.close_all()
    worker = multiprocessing.get_context("fork").Process(target=running.train, args=(run.pk,))
    worker.start()
    work = run_folder(run.pk) / "work"
    until(lambda: newest_checkpoint(work) is not None)
    processes = descendants({worker.pid})
    assert processes
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    until(lambda: not any(is_alive(pid) for pid in processes))
    run.refresh_from_db()
    assert run.state == RunState.RUNNING
    assert run.adapter is None
    Run.objects.filter(pk=run.pk).update(state=RunState.QUEUED)  # as the tick does
    run = trained(run)
    assert any("Goes on from" in note for note in run.notes)
    assert weights(run) == weights(straight)


# --- what may go wrong ------------------------------------------------------------------------------------------------


@slow
def test_a_dataset_without_rows_is_said_in_a_sentence(base, tmp_path):
    run = trained(queued(base, dataset_of(tmp_path, [])))
    assert run.state == RunState.FAILED
    assert "row" in run.error
    assert run.trace == ""


@slow
def test_a_crash_keeps_its_trace_on_the_row_and_is_raised(base_folder, dataset, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in base_folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "config.json").write_text('{"model_type": "qwen2", "hidden_size": "wide"}')
    run = queued(make_base(digest=store_folder(broken)), dataset)
    with pytest.raises(TrainingCrashed):
        running.train(run.pk)
    run.refresh_from_db()
    assert run.state == RunState.FAILED
    assert "Traceback" in run.trace


@pytest.mark.parametrize("what", ["dataset", "base"])
def test_files_that_are_gone_are_said_in_a_sentence(base, dataset, what):
    run = queued(base, make_dataset()) if what == "dataset" else queued(make_base(), dataset)
    run = trained(run)
    assert run.state == RunState.FAILED
    assert "is not in the storage" in run.error


def test_a_setting_that_cannot_be_is_said_in_a_sentence(base, dataset):
    run = trained(queued(base, dataset, config={"kind": "sft"}))
    assert (run.state, run.error) == (RunState.FAILED, "epochs: missing.")


def test_an_adapter_of_another_base_is_not_started_from(base, dataset, base_folder):
    other = make_adapter(digest=store_folder(base_folder))
    run = trained(queued(base, dataset, kind="dpo", start=other))
    assert run.state == RunState.FAILED
    assert "belongs to the base" in run.error


def test_a_machine_without_the_learning_stack_says_so(base, dataset, monkeypatch):
    monkeypatch.setattr(running, "STACK", ("torch_of_nobody",))
    run = trained(queued(base, dataset))
    assert run.state == RunState.FAILED
    assert "torch_of_nobody" in run.error


def test_a_process_that_is_killed_again_and_again_without_getting_on_fails(base, dataset, tmp_path, monkeypatch):
    (tmp_path / "ends_itself.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), str(tmp_path)]))  # noqa: PTH109
    monkeypatch.setattr(supervising, "command", lambda spec, accelerate: [sys.executable, "-m", "ends_itself"])
    run = trained(queued(base, dataset))
    assert run.state == RunState.FAILED
    assert run.error.startswith(f"Its process was killed {running.ATTEMPTS} times")
    assert len(run.notes) == running.ATTEMPTS


# --- who has the run --------------------------------------------------------------------------------------------------


def test_a_run_that_is_not_queued_is_left_alone(base, dataset):
    run = trained(queued(base, dataset, state=RunState.CANCELLED))
    assert run.state == RunState.CANCELLED
    assert run.started is None


@slow
def test_a_stopped_worker_gives_its_run_back(base, dataset, monkeypatch):
    told = iter([False, False, *[True] * 10_000])
    monkeypatch.setattr(running, "is_worker_stopping", lambda: next(told))
    run = trained(queued(base, dataset))
    assert run.state == RunState.QUEUED
    assert run.checkpoint_step > 0
    assert run.attempts == 0


def test_a_run_that_went_to_another_worker_is_left_to_it(base, dataset, monkeypatch):
    def taken_meanwhile(spec, *, on_events, **_options):
        Run.objects.update(state=RunState.QUEUED)
        on_events([])

    monkeypatch.setattr(running, "supervise", taken_meanwhile)
    run = trained(queued(base, dataset))
    assert (run.state, run.error) == (RunState.QUEUED, "")


def test_followers_of_a_failed_run_are_taken_off(base, dataset):
    run = queued(base, make_dataset())
    follower = make_learning_run(base=base, dataset=dataset, kind="dpo", after=run, state=RunState.WAITING)
    trained(run)
    follower.refresh_from_db()
    assert follower.state == RunState.CANCELLED


# --- what the row shows -----------------------------------------------------------------------------------------------


def progress(step, max_steps=1_000, loss=1.0):
    values = {"reward_margin": None, "tokens_per_s": 10.0, "seconds_left": 5.0, "memory_mb": 100}
    return {"event": "progress", "step": step, "max_steps": max_steps, "loss": loss, **values}


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setattr(running, "ROW_EVERY_S", 0.0)
    return running._RunWatch(make_learning_run(state=RunState.RUNNING))


def test_the_curve_stays_short_however_long_the_run(watch):
    for step in range(1, 1_001):
        watch.look([progress(step)])
    watch.run.refresh_from_db()
    assert len(watch.run.curve) <= running.CURVE_POINTS
    assert (watch.run.step, watch.run.max_steps) == (1_000, 1_000)


def test_the_curve_forgets_what_is_trained_again_after_a_checkpoint(watch):
    for step in (10, 20, 30, 25):
        watch.look([progress(step, loss=float(step))])
    assert [point[0] for point in watch.run.curve] == [10, 20, 25]


def test_the_row_is_written_at_most_once_a_second(monkeypatch, django_assert_num_queries):
    watch = running._RunWatch(make_learning_run(state=RunState.RUNNING))
    watch.look([progress(1)])
    with django_assert_num_queries(0):
        watch.look([progress(2)])


def test_a_checkpoint_that_cannot_be_stored_does_not_end_the_training(watch, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(running, "STORE_EVERY_S", 0.0)
    monkeypatch.setattr(running, "store_folder", full)
    watch.look([{"event": "saved", "checkpoint": str(tmp_path), "step": 2}])
    watch.run.refresh_from_db()
    assert (watch.run.state, watch.run.checkpoint) == (RunState.RUNNING, "")


def test_a_database_that_is_away_does_not_end_the_training(watch, monkeypatch):
    def away(*args, **kwargs):
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(Run.objects, "filter", away)
    monkeypatch.setattr(running.connection, "close", lambda: None)
    watch.look([progress(5)])
    assert not watch.should_stop()
    monkeypatch.undo()
    watch.written = 0.0
    watch.look([])
    watch.run.refresh_from_db()
    assert watch.run.step == 5


def test_an_asked_stop_is_heard(watch):
    assert not watch.should_stop()
    cancel(run=watch.run)
    assert watch.should_stop()


def test_a_new_stored_checkpoint_takes_the_place_of_the_one_before(base, dataset, tmp_path):
    run = queued(base, dataset)
    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(b"%d" % step)
        running._store_checkpoint(run, folder, step)
    stored = {
        path.relative_to(tmp_path / "storage").parts[2]
        for path in (tmp_path / "storage/checkpoints").rglob("*")
        if path.is_file()
    }
    assert stored == {"4"}
    run.refresh_from_db()
    assert run.checkpoint_step == 4
    assert fetch_folder(run.checkpoint, allowed={".pt"}, place=checkpoint_place(run.pk, 4)).is_dir()


def test_a_checkpoint_that_holds_code_stays_on_the_disk(base, dataset, tmp_path):
    run = queued(base, dataset)
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    (folder / "zero_to_fp32.py").write_text("print('deepspeed puts this beside its state')")
    running._store_checkpoint(run, folder, 2)
    run.refresh_from_db()
    assert (run.state, run.checkpoint) == (RunState.QUEUED, "")
    assert folder.is_dir()

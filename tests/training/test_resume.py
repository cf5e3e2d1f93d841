"""Interruptions: kills, stops, broken checkpoints, broken numbers, a lack of memory, a watch that fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from extraction.prompts import get_prompt
from tests.tiny import base_folder, tiny_adapter
from tests.training.tiny_trainings import (
    Notebook,
    largest_difference,
    list_rows,
    make_config,
    pair_rows,
    sft_rows,
    weights_of,
)
from training import run_process, trainer_parts
from training.checkpoints import MARKER, completed_step, newest_checkpoint
from training.dpo import train_dpo
from training.pro import train_pro
from training.run_process import Spec, command, read_events
from training.sft import train_sft
from training.trainer_parts import OutOfMemoryAtOne
from training.watching import NotFinite, Unwatched

__all__ = ["base_folder"]
pytestmark = pytest.mark.slow
PROMPT = get_prompt("zh-1")
ROOT = Path(__file__).resolve().parent.parent.parent


def digest(folder):
    """Of everything that a training leaves, but for the commit: somebody may commit while the tests run."""
    record = json.loads((folder / "training.json").read_text())
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.glob("adapter_*")}
    return files | record | {"commit": ""}


# --- in processes of their own --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec_in(base_folder, tmp_path_factory):
    """`spec_in()`: twelve steps of SFT in a folder of its own, with dropout, checkpoints after each second step."""

    def make(**settings):
        folder = tmp_path_factory.mktemp("run")
        (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in sft_rows(16)))
        spec = Spec(
            config=make_config(epochs=3, scheduler="cosine", lora_dropout=0.1, **settings),
            rows=folder / "rows.jsonl",
            base=str(base_folder),
            prompt="zh-1",
            out=folder / "out",
            work=folder / "work",
            events=folder / "events",
            stop_file=folder / "stop",
            origin={"dataset": "abc"},
        )
        spec.write(folder / "spec.json")
        return spec

    return make


def spec_file(spec):
    return spec.out.parent / "spec.json"


def events_of(spec, kind):
    return [event for event in read_events(spec.events)[0] if event["event"] == kind]


@pytest.fixture(scope="module")
def run(base_folder):
    """`run(spec, "step 5")` trains in a process that kills itself there, and returns its exit status."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.training.killed"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def train(spec, place="nowhere"):
        process.stdin.write(json.dumps([str(spec_file(spec)), place]) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield train
    process.stdin.close()
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def straight(spec_in):
    """A training that nobody disturbs, by the command line that the train job uses."""
    spec = spec_in()
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "2"}
    done = subprocess.run(command(spec_file(spec)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == run_process.FINISHED, done.stderr
    return spec


@pytest.mark.slow
def test_process_tells_its_progress_and_its_end(straight):
    first, *_, last = events_of(straight, "progress")
    assert first.keys() == {
        "event", "step", "max_steps", "loss", "reward_margin", "tokens_per_s", "seconds_left", "memory_mb"
    }  # fmt: skip
    assert (last["step"], last["max_steps"], last["seconds_left"]) == (12, 12, 0.0)
    assert [event["step"] for event in events_of(straight, "saved")] == [2, 4, 6, 8, 10, 12]
    (end,) = events_of(straight, "end")
    assert (end["outcome"], end["step"], end["adapter"]) == ("finished", 12, str(straight.out))
    assert json.loads((straight.out / "training.json").read_text())["origin"] == {"dataset": "abc"}


@pytest.mark.slow
def test_same_seed_gives_the_same_files_in_another_process(straight, run, spec_in):
    again = spec_in()
    assert run(again) == run_process.FINISHED
    assert digest(again.out) == digest(straight.out)


@pytest.mark.slow
def test_other_seed_gives_other_weights(straight, run, spec_in):
    other = spec_in(seed=4)
    run(other)
    assert digest(other.out)["adapter_model.safetensors"] != digest(straight.out)["adapter_model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "goes_on_from"),
    [("step 1", None), ("step 5", 4), ("checkpoint 4", 2), ("checkpoint 12", 10), ("result", 12)],
)
def test_killed_training_ends_as_if_nothing_had_happened(straight, run, spec_in, place, goes_on_from):
    spec = spec_in()
    assert run(spec, place) == -signal.SIGKILL
    assert not spec.out.exists()
    newest = newest_checkpoint(spec.work)
    assert (completed_step(newest) if newest else None) == goes_on_from
    assert run(spec) == run_process.FINISHED
    assert digest(spec.out) == digest(straight.out)


@pytest.mark.slow
def test_training_may_be_killed_again_and_again(straight, run, spec_in):
    spec = spec_in()
    assert [run(spec, place) for place in ("step 5", "step 5", "checkpoint 12")] == [-signal.SIGKILL] * 3
    assert run(spec) == run_process.FINISHED
    assert digest(spec.out) == digest(straight.out)


@pytest.mark.slow
def test_training_killed_from_outside_at_any_moment_can_go_on(straight, spec_in, run):
    spec = spec_in()
    process = subprocess.Popen(command(spec_file(spec)), cwd=ROOT, stderr=subprocess.DEVNULL)
    while not events_of(spec, "saved"):
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert run(spec) == run_process.FINISHED
    assert digest(spec.out) == digest(straight.out)


@pytest.mark.slow
def test_sigterm_stops_after_the_step_with_a_checkpoint(straight, run, spec_in):
    spec = spec_in()
    assert run(spec, "SIGTERM") == run_process.STOPPED
    (end,) = events_of(spec, "end")
    assert (end["outcome"], end["step"], Path(end["checkpoint"]).name) == ("stopped", 3, "checkpoint-3")
    assert not spec.out.exists()
    assert run(spec) == run_process.FINISHED
    assert digest(spec.out) == digest(straight.out)


@pytest.mark.slow
def test_stop_file_stops_too(run, spec_in):
    spec = spec_in()
    spec.stop_file.touch()
    assert run(spec) == run_process.STOPPED
    assert events_of(spec, "end")[0]["step"] == 1


@pytest.mark.slow
def test_several_processes_share_a_batch_and_stop_at_the_same_step(spec_in, run):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    one, two = spec_in(micro_batch_size=2, max_steps=2), spec_in(micro_batch_size=2, max_steps=2)
    for spec in (one, two):  # dropout would be drawn for each process
        replace(spec, config=replace(spec.config, lora_dropout=0.0)).write(spec_file(spec))
    run(one)
    two.stop_file.touch()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*launcher, *command(spec_file(two))[1:]], cwd=ROOT, env=environment, capture_output=True)
    (end,) = events_of(two, "end")
    assert (end["outcome"], end["step"]) == ("stopped", 1)
    assert len(list(Path(end["checkpoint"]).glob("rng_state_*"))) == 2
    two.stop_file.unlink()
    assert run(two) == run_process.FINISHED
    assert largest_difference(weights_of(one.out), weights_of(two.out)) < 2e-3


@pytest.mark.slow
def test_checkpoint_from_another_machine_is_gone_on_from(straight, run, spec_in, tmp_path):
    spec = spec_in()
    run(spec, "step 5")
    fetched = tmp_path / "fetched"
    shutil.move(newest_checkpoint(spec.work), fetched)
    shutil.rmtree(spec.work)
    replace(spec, resume=fetched).write(spec_file(spec))
    assert run(spec) == run_process.FINISHED
    assert events_of(spec, "note")[-1]["sentence"] == "Goes on from the checkpoint of step 4."
    assert digest(spec.out) == digest(straight.out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"prompt": "xx-9"}, "PromptUnknown", "There is no prompt 'xx-9' here"),
        ({"base": "somebody/model"}, "ModelRefused", "needs the full commit"),
        ({"config": make_config(kind="dpo")}, "TrainingError", "none is given"),
    ],
)
def test_reason_of_a_failure_is_told(run, spec_in, change, error, sentence):
    spec = replace(spec_in(), **change)
    spec.write(spec_file(spec))
    assert run(spec) == run_process.FAILED
    (end,) = events_of(spec, "end")
    assert (end["outcome"], end["error"]) == ("failed", error)
    assert sentence in end["sentence"]


@pytest.mark.slow
def test_crash_keeps_its_trace(run, spec_in):
    spec = spec_in()
    spec.rows.unlink()
    assert run(spec) == run_process.CRASHED
    (end,) = events_of(spec, "end")
    assert (end["outcome"], end["error"]) == ("crashed", "FileNotFoundError")
    assert "Traceback" in end["trace"]


# --- in this process ------------------------------------------------------------------------------------------------


@pytest.fixture
def train(base_folder, tmp_path):
    """`train(name="a", watch=…)` trains SFT in folders of that name; `kind` for DPO or PRO."""
    start = tmp_path / "start"

    def go(*, kind="sft", name="run", watch=None, count=8, resume=None, **settings):
        if kind != "sft" and not start.exists():
            tiny_adapter(start, base_folder)
        places = {"out": tmp_path / f"{name}-out", "work": tmp_path / f"{name}-work"}
        rest = {"config": make_config(kind=kind, epochs=2, **settings), "watch": watch or Unwatched(), **places}
        given = {"base": base_folder, "prompt": PROMPT, "resume": resume, **rest}
        if kind == "sft":
            return train_sft(sft_rows(count), **given)
        trainer, rows = (train_dpo, pair_rows) if kind == "dpo" else (train_pro, list_rows)
        return trainer(rows(count), start=start, **given)

    return go


@pytest.mark.parametrize("kind", ["sft", "dpo", "pro"])
@pytest.mark.parametrize("stop_after", [1, 3])
def test_stopped_training_goes_on_to_the_same_end(train, kind, stop_after):
    straight = train(kind=kind, name="straight")
    stopped = train(kind=kind, name="other", watch=Notebook(stop_after))
    assert (stopped.is_finished, stopped.adapter, stopped.step, stopped.max_steps) == (False, None, stop_after, 4)
    resumed = train(kind=kind, name="other")
    assert resumed.is_finished
    assert digest(resumed.adapter) == digest(straight.adapter)


def test_stop_at_the_last_step_is_a_finished_training(train):
    assert train(watch=Notebook(stop_after=4)).is_finished


def test_training_that_is_over_is_not_done_again(train):
    first, watch = train(max_steps=3), Notebook()
    again = train(max_steps=3, watch=watch)
    assert (again.step, watch.reports) == (3, [])
    assert digest(again.adapter) == digest(first.adapter)


@pytest.mark.parametrize("damage", ["marker lost", "file cut", "file lost"])
def test_damaged_checkpoint_is_passed_over_for_the_one_before(train, damage):
    straight = train(name="straight")
    stopped = train(name="other", watch=Notebook(stop_after=3))
    if damage == "marker lost":
        (stopped.checkpoint / MARKER).unlink()
    elif damage == "file cut":
        (stopped.checkpoint / "optimizer.pt").write_bytes(b"")
    else:
        (stopped.checkpoint / "rng_state.pth").unlink()
    watch = Notebook()
    resumed = train(name="other", watch=watch)
    assert watch.notes == ["Goes on from the checkpoint of step 2."]
    assert digest(resumed.adapter) == digest(straight.adapter)


@pytest.mark.parametrize("change", [{"seed": 9}, {"count": 12}])
def test_checkpoint_of_another_training_is_not_gone_on_from(train, change):
    stopped = train(name="one", watch=Notebook(stop_after=3))
    watch = Notebook()
    other = train(name="two", watch=watch, resume=stopped.checkpoint, **change)
    assert watch.notes == ["The stored checkpoint is damaged or of another training; it is not used."]
    assert other.is_finished


def test_two_newest_checkpoints_are_kept(train):
    watch = Notebook()
    trained = train(watch=watch, save_steps=1)
    assert [path.name for path in watch.checkpoints] == [f"checkpoint-{step}" for step in (1, 2, 3, 4)]
    assert sorted(path.name for path in trained.checkpoint.parent.glob("checkpoint-*")) == [
        "checkpoint-3",
        "checkpoint-4",
    ]


def test_progress_comes_at_most_once_a_second_and_at_the_end(train):
    watch = Notebook()
    train(watch=watch)
    assert [progress.step for progress in watch.reports] == [1, 4]


def test_progress_tells_speed_time_and_memory(train):
    watch = Notebook()
    train(kind="dpo", watch=watch)
    first, last = watch.reports
    assert first.tokens_per_s > 0
    assert first.seconds_left > last.seconds_left == 0
    assert last.memory_mb > 100
    assert last.reward_margin is not None


class Deaf:
    """A watch that can be told nothing."""

    def __getattr__(self, name):
        def call(*args):
            raise ConnectionError("nobody there")

        return call


def test_watch_that_fails_does_not_end_a_training(train, caplog):
    assert train(watch=Deaf()).is_finished
    assert "A training could not reach its watch" in caplog.text


@pytest.fixture
def forward(monkeypatch):
    """`forward(act)`: before each pass through the tiny model, `act(number of the pass, rows)` is called."""
    from transformers import Qwen2Model

    def patch(act):
        original, passes = Qwen2Model.forward, iter(range(1, 10_000))

        def counted(self, *args, **kwargs):
            scale = act(next(passes), len(kwargs["input_ids"]))
            output = original(self, *args, **kwargs)
            if scale is not None:
                output.last_hidden_state = output.last_hidden_state * scale
            return output

        monkeypatch.setattr(Qwen2Model, "forward", counted)

    return patch


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(train, forward, scale):
    forward(lambda number, rows: scale if number == 4 else None)
    watch = Notebook()
    with pytest.raises(NotFinite, match="step 4.* The checkpoint of step 2 is kept.* A lower learning rate") as caught:
        train(watch=watch)
    assert (caught.value.step, caught.value.checkpoint.name) == (4, "checkpoint-2")
    assert [path.name for path in watch.checkpoints] == ["checkpoint-2"]


def test_gradient_that_is_no_number_stops_too(train, monkeypatch):
    from transformers import Trainer

    original = Trainer._clip_grad_norm

    def broken(self, model):
        next(weight for weight in model.parameters() if weight.grad is not None).grad[0] = float("nan")
        return original(self, model)

    monkeypatch.setattr(Trainer, "_clip_grad_norm", broken)
    with pytest.raises(NotFinite) as caught:
        train()
    assert (caught.value.step, caught.value.checkpoint) == (1, None)


def test_lack_of_memory_halves_the_micro_batch_and_says_so(train, forward):
    import torch

    straight = train(name="straight", lora_dropout=0.0)

    def lack(number, rows):
        if rows > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    forward(lack)
    watch = Notebook()
    trained = train(name="other", watch=watch, lora_dropout=0.0)
    assert watch.notes == [
        "Out of memory: goes on with 2 rows at a time, 2 times a step.",
        "Out of memory: goes on with 1 rows at a time, 4 times a step.",
    ]
    assert trained.metrics["loss"] == pytest.approx(straight.metrics["loss"], abs=1e-5)
    record = json.loads((trained.adapter / "training.json").read_text())
    assert (record["micro_batch_size"], record["config"]["micro_batch_size"]) == (1, 4)


def test_lack_of_memory_in_the_middle_goes_on_from_the_checkpoint(train, forward):
    import torch

    def lack(number, rows):
        if rows > 2 and number > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    forward(lack)
    watch = Notebook()
    assert train(watch=watch).is_finished
    assert watch.notes == [
        "Out of memory: goes on with 2 rows at a time, 2 times a step.",
        "Goes on from the checkpoint of step 2.",
    ]


def test_lack_of_memory_for_one_row_is_an_error_with_the_remedy(train, forward):
    import torch

    def lack(number, rows):
        raise torch.OutOfMemoryError("CUDA out of memory")

    forward(lack)
    with pytest.raises(OutOfMemoryAtOne, match=r"activation_checkpointing on, lower max_length, use quantization 4bit"):
        train()


@pytest.mark.parametrize(("batch", "micro", "smaller"), [(16, 16, 8), (15, 15, 5), (6, 3, 1), (7, 7, 1)])
def test_smaller_micro_batch_divides_the_batch(batch, micro, smaller):
    config = make_config(batch_size=batch, micro_batch_size=micro)
    assert trainer_parts._smaller(config, micro) == smaller


def test_nothing_is_told_to_the_makers_of_the_libraries(train):
    from huggingface_hub import constants

    train()
    assert constants.HF_HUB_DISABLE_TELEMETRY is True


def test_result_of_an_earlier_attempt_is_replaced_as_a_whole(train, tmp_path):
    (tmp_path / "run-out").mkdir()
    (tmp_path / "run-out" / "left.bin").write_bytes(b"x")
    trained = train()
    assert weights_of(trained.adapter)
    assert not (trained.adapter / "left.bin").exists()

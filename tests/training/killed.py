"""Run trainings in child processes that kill themselves at a given place: `python -m tests.training.killed`.

Each line on stdin is a JSON pair: the path of a spec, and where to die. The exit status is printed. The children are
forked from a process that has only imported the learning stack, so that a test pays for the imports once.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from training import run_process, sft

monkeypatch = pytest.MonkeyPatch()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(step: int, act: Callable[[], object]) -> None:
    """Act when the watch is asked after `step` steps of this process."""
    asked = iter(range(1, 1_000))

    def should_stop(watch: run_process.EventFile) -> bool:
        if next(asked) == step:
            act()
        return original(watch)

    original = run_process.EventFile.should_stop
    monkeypatch.setattr(run_process.EventFile, "should_stop", should_stop)


def in_the_middle_of_checkpoint(step: int) -> None:
    """Weights and optimizer are written, random states and the rest are not."""
    from transformers import Trainer

    original = Trainer._save_rng_state

    def save(trainer: Trainer, folder: str) -> None:
        if trainer.state.global_step == step:
            die()
        original(trainer, folder)

    monkeypatch.setattr(Trainer, "_save_rng_state", save)


def before_the_result() -> None:
    monkeypatch.setattr(sft, "keep", lambda *args, **kwargs: die())


PLACES: dict[str, Callable[[], object]] = {
    "nowhere": lambda: None,
    "step 1": lambda: at_step(1, die),
    "step 5": lambda: at_step(5, die),
    "checkpoint 4": lambda: in_the_middle_of_checkpoint(4),
    "checkpoint 12": lambda: in_the_middle_of_checkpoint(12),
    "result": before_the_result,
    "SIGTERM": lambda: at_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM)),
}


def main() -> None:
    import_everything()
    for line in sys.stdin:
        spec, place = json.loads(line)
        child = os.fork()
        if not child:
            PLACES[place]()
            status = run_process.main(Path(spec))
            os._exit(status)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def import_everything() -> None:
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import trl  # noqa: F401
    from transformers import AutoModelForCausalLM, Trainer  # noqa: F401
    from trl import DPOTrainer, SFTTrainer  # noqa: F401


if __name__ == "__main__":
    main()

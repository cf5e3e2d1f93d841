"""How a training is watched while it runs: progress out, a stop request in, and the guard against broken numbers."""

import logging
import math
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from training.checkpoints import mark_complete, newest_checkpoint

if TYPE_CHECKING:
    from transformers import TrainerCallback

REPORT_EVERY_S = 1.0
RECENT = 20
"""Steps over which speed and final metrics are averaged."""
_Answer = TypeVar("_Answer")
logger = logging.getLogger(__name__)


class TrainingError(Exception):
    """Why a training ended without a result; the sentence is for the admin."""


class NotFinite(TrainingError):
    """Loss or gradient left the finite numbers at `step`; `checkpoint` is the last good one, if there is one."""

    def __init__(self, step: int, checkpoint: Path | None) -> None:
        kept = f" The checkpoint of step {checkpoint.name.rpartition('-')[2]} is kept." if checkpoint else ""
        super().__init__(
            f"The loss or its gradient is no finite number any more at step {step}: the training has diverged.{kept} "
            "A lower learning rate is the usual remedy."
        )
        self.step = step
        self.checkpoint = checkpoint


@dataclass(frozen=True)
class Progress:
    """Where a training stands. `reward_margin`: DPO β-scaled, nats; PRO best minus last, nats a token; SFT None."""

    step: int
    max_steps: int
    loss: float
    reward_margin: float | None
    tokens_per_s: float
    seconds_left: float
    memory_mb: int


class Watch(Protocol):
    """Whoever looks on. Calls come from the training loop: they should be quick. What they raise is only logged."""

    def report(self, progress: Progress) -> None:
        """At most once a second, and at the last step."""

    def should_stop(self) -> bool:
        """Asked after every step; True ends the training there, with a checkpoint."""

    def saved(self, checkpoint: Path, step: int) -> None:
        """A checkpoint is complete. It stays until two newer ones are."""

    def note(self, sentence: str) -> None:
        """Something happened that the admin should read later."""


class Unwatched:
    """Nobody looks on."""

    def report(self, progress: Progress) -> None:
        pass

    def should_stop(self) -> bool:
        return False

    def saved(self, checkpoint: Path, step: int) -> None:
        pass

    def note(self, sentence: str) -> None:
        pass


def tell(call: Callable[[], _Answer]) -> _Answer | None:
    """Call the watch; its failure is logged and never ends a training, whatever it is."""
    try:
        return call()
    except Exception:  # noqa: BLE001 - a database or disk that is away for a minute must not cost hours on a card
        logger.exception("A training could not reach its watch.")
        return None


def watching(watch: Watch, *, work: Path, of: str) -> "TrainerCallback":
    """The callback between a trainer and its watch.

    It reports, stops on request, marks checkpoints complete, and raises NotFinite as soon as the loss or the norm of
    its gradient is not finite: the check comes before the checkpoint of the same step, so none holds broken weights.
    """
    from transformers import TrainerCallback

    class Watching(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.pace = _Pace(state.global_step)
            self.reported = -math.inf

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            asked = state.is_world_process_zero and bool(tell(watch.should_stop))
            if _any_process(asked):
                control.should_training_stop = True
                control.should_save = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **kwargs: Any) -> None:
            if "loss" not in logs:
                return
            if not all(math.isfinite(logs[name]) for name in ("loss", "grad_norm") if name in logs):
                raise NotFinite(state.global_step, newest_checkpoint(work, of=of))
            # What a checkpoint keeps of the history would grow with every step.
            del state.log_history[:-RECENT]
            self.pace.add(state.global_step, logs.get("num_tokens", 0.0))
            is_due = time.monotonic() - self.reported >= REPORT_EVERY_S or state.global_step == state.max_steps
            if state.is_world_process_zero and is_due:
                self.reported = time.monotonic()
                progress = _progress(state.global_step, state.max_steps, logs, self.pace)
                tell(partial(watch.report, progress))

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                checkpoint = work / f"checkpoint-{state.global_step}"
                mark_complete(checkpoint, step=state.global_step, of=of)
                tell(partial(watch.saved, checkpoint, state.global_step))

    return Watching()


class _Pace:
    """Speed over the last steps of this process."""

    def __init__(self, step: int) -> None:
        self._points = deque([(time.monotonic(), step, 0.0)], maxlen=RECENT)

    def add(self, step: int, tokens: float) -> None:
        self._points.append((time.monotonic(), step, tokens))

    def per_second(self) -> tuple[float, float]:
        """Steps and tokens a second."""
        (began, first_step, first_tokens), (now, step, tokens) = self._points[0], self._points[-1]
        took = max(now - began, 1e-6)
        return (step - first_step) / took, (tokens - first_tokens) / took


def _progress(step: int, max_steps: int, logs: Mapping[str, float], pace: _Pace) -> Progress:
    steps_per_s, tokens_per_s = pace.per_second()
    return Progress(
        step=step,
        max_steps=max_steps,
        loss=logs["loss"],
        reward_margin=logs.get("rewards/margins"),
        tokens_per_s=tokens_per_s,
        seconds_left=(max_steps - step) / steps_per_s,
        memory_mb=memory_mb(),
    )


def memory_mb() -> int:
    """The most memory that this process has held: of the card where there is one, else of the machine."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated()) >> 20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10


def _any_process(flag: bool) -> bool:
    """True on every process of a distributed training if it is on one: all must leave the loop at the same step."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return flag
    import torch
    from accelerate import PartialState

    votes = torch.tensor(int(flag), device=PartialState().device)
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes.item())

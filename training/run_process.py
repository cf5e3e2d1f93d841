"""One training in a process of its own: `python -m training.run_process SPEC.json`.

This is the unit that the train job starts, watches and, if it must, kills. It needs neither Django nor the database, so
it may run under `accelerate launch` on several cards, and nothing of it is lost with the worker that started it.

**In**: a `Spec` as JSON. `work` belongs to this one run and holds its checkpoints; started again with the same spec,
the process goes on from the newest complete checkpoint there (or from `resume`, a checkpoint fetched from the storage,
if that is further). So starting again is resuming, after a crash, a cancel or a lost worker.

**While it runs**, one JSON object a line is appended to `events`, each with the key `event`:

- `progress`: step, max_steps, loss, reward_margin (null for SFT), tokens_per_s, seconds_left, memory_mb; at most one a
  second, and one at the last step;
- `saved`: checkpoint (folder), step. The two newest checkpoints are kept; an older one may vanish while it is read;
- `note`: sentence, for the admin (out of memory, rows left out, where it resumed);
- `end`, last of all: outcome and what goes with it, see below.

**To stop it**: create `stop_file`, or send SIGTERM. It ends after the step under way, with a checkpoint.

**Out**: the exit status and the `end` line.

====== ========= ===================================================================================================
status outcome   fields of the `end` line
====== ========= ===================================================================================================
0      finished  adapter (= `out`), step, max_steps, metrics
3      stopped   step, max_steps, checkpoint (folder); nothing is in `out`
4      failed    error (class), sentence (for the admin); the same spec would fail again. The checkpoints in `work`
                 are kept: after NotFinite the newest is the last good one
1      crashed   error, sentence, trace: unexpected. The checkpoints in `work` are as good as ever
other            killed (-9 and the like), no `end` line: start it again to resume
====== ========= ===================================================================================================

`out` appears complete or not at all. Of several processes the first alone writes events, checkpoints and `out`; but
each one that fails writes an `end` line, and accelerate has an exit status of its own: go by the line if there is one.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

from extraction.generation import ModelRefused
from extraction.prompts import PromptUnknown, get_prompt
from training.config import TrainConfig
from training.dpo import train_dpo
from training.pro import train_pro
from training.sft import train_sft
from training.trainer_parts import Trained, is_first_process
from training.watching import Progress, TrainingError, Watch

FINISHED, CRASHED, STOPPED, FAILED = 0, 1, 3, 4
"""Exit statuses."""
OUTCOMES = {"finished": FINISHED, "crashed": CRASHED, "stopped": STOPPED, "failed": FAILED}
"""What they are called in the `end` line."""


@dataclass(frozen=True)
class Spec:
    """What one process trains. Every path is absolute; `stop_file` and `out` need not exist."""

    config: TrainConfig
    rows: Path
    """The dataset's JSONL file."""
    base: str
    """A model folder, or a name on the model hub (then with `revision`)."""
    prompt: str
    """Prompt version."""
    out: Path
    work: Path
    events: Path
    stop_file: Path
    revision: str = ""
    start: Path | None = None
    """The SFT adapter's folder, for DPO and PRO."""
    resume: Path | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Where all this comes from (recipe, dataset digests, names of base and parent): part of training.json."""

    def write(self, path: Path) -> None:
        values = asdict(self) | {"config": self.config.write()}
        path.write_text(json.dumps(values, default=str, ensure_ascii=False, indent=1))

    @classmethod
    def read(cls, path: Path) -> Self:
        values = json.loads(path.read_text())
        for name in ("rows", "out", "work", "events", "stop_file", "start", "resume"):
            values[name] = None if values[name] is None else Path(values[name])
        return cls(**values | {"config": TrainConfig.read(values["config"])})


def command(spec: Path, accelerate: Path | None = None) -> list[str]:
    """The command line that trains this spec; with an accelerate configuration file, on all the cards that it names."""
    module = ["-m", "training.run_process", str(spec)]
    if accelerate is None:
        return [sys.executable, *module]
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(accelerate), *module]


def read_events(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The events written since `offset` (bytes) and the offset to go on from; a line under way waits for its end."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    events = []
    for line in whole.splitlines():
        with suppress(ValueError):  # half a line, written when the disk was full
            events.append(json.loads(line))
    return events, offset + len(whole)


class EventFile(Watch):
    """Appends each event as one line, and stops for the stop file or a SIGTERM."""

    def __init__(self, events: Path, stop_file: Path) -> None:
        self._events = events
        self._stop_file = stop_file
        self._is_told = False

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """The handler of SIGTERM."""
        self._is_told = True

    def report(self, progress: Progress) -> None:
        self.write("progress", **asdict(progress))

    def should_stop(self) -> bool:
        return self._is_told or self._stop_file.exists()

    def saved(self, checkpoint: Path, step: int) -> None:
        self.write("saved", checkpoint=str(checkpoint), step=step)

    def note(self, sentence: str) -> None:
        if is_first_process():
            self.write("note", sentence=sentence)

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, **values}, ensure_ascii=False).encode() + b"\n"
        with self._events.open("ab") as file:
            file.write(line)


def train(spec: Spec, watch: Watch) -> Trained:
    """Run the trainer that the spec's configuration names. Raises TrainingError, ModelRefused, PromptUnknown."""
    given: dict[str, Any] = {
        "base": spec.base,
        "revision": spec.revision,
        "prompt": get_prompt(spec.prompt),
        "config": spec.config,
        "out": spec.out,
        "work": spec.work,
        "watch": watch,
        "resume": spec.resume,
        "origin": spec.origin,
    }
    if spec.config.kind == "sft":
        return train_sft(_rows(spec.rows), **given)
    if spec.start is None:
        raise TrainingError(f"{spec.config.kind} goes on with an adapter, and none is given.")
    trainer = train_dpo if spec.config.kind == "dpo" else train_pro
    return trainer(_rows(spec.rows), start=spec.start, **given)


def main(path: Path) -> int:
    """Train what the spec says; returns the exit status."""
    if (
        "WORLD_SIZE" not in os.environ
    ):  # TRL refuses one process that sees several cards; accelerate starts one for each
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    spec = Spec.read(path)
    events = EventFile(spec.events, spec.stop_file)
    signal.signal(signal.SIGTERM, events.stop)
    try:
        trained = train(spec, events)
    except (TrainingError, ModelRefused, PromptUnknown) as error:
        events.write("end", outcome="failed", error=type(error).__name__, sentence=str(error))
        return FAILED
    except Exception as error:
        trace = traceback.format_exc()
        events.write("end", outcome="crashed", error=type(error).__name__, sentence=str(error), trace=trace)
        raise
    if is_first_process():
        events.write("end", **_end(trained))
    return FINISHED if trained.is_finished else STOPPED


def _end(trained: Trained) -> dict[str, Any]:
    reached = {"step": trained.step, "max_steps": trained.max_steps}
    if trained.is_finished:
        return {"outcome": "finished", **reached, "adapter": str(trained.adapter), "metrics": dict(trained.metrics)}
    return {"outcome": "stopped", **reached, "checkpoint": str(trained.checkpoint)}


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

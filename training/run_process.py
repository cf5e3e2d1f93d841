"""One training in a process of its own: `python -m training.run_process SPEC.json`.

This is the unit that the train job starts, watches and, if it must, kills. It needs neither Django nor the database, so
it may run under `accelerate launch` on several cards, and nothing of it is lost with the worker that started it.

**In**: a `Spec` as JSON. `work` belongs to this one run and holds its checkpoints; started again with the same spec, the
process goes on from the newest complete checkpoint there (or from `resume`, a checkpoint fetched from the storage, if
that is further). So starting again is resuming, after a crash, a cancel or a lost worker.

**While it runs**, one JSON object a line is appended to `events`, each with the key `event`:

- `progress`: step, max_steps, loss, reward_margin (null for SFT), tokens_per_s, seconds_left, memory_mb; at most one a
  second, and one at the last step;
- `saved`: checkpoint (folder), step. The two newest checkpoints are kept; an older one may vanish while it is read;
- `note`: sentence, for the admin (out of memory, rows left out, where it resumed);
- `end`, last of all: outcome and what goes with it, see below.

**To stop it**: create `stop_file`, or send SIGTERM. It ends after the step under way, with a checkpoint.

**Out**: the exit status and the `end` line.

====== ========= ========================================================================================================
status outcome   fields of the `end` line
====== ========= ========================================================================================================
0      finished  adapter (= `out`), step, max_steps, metrics
3      stopped   step, max_steps, checkpoint; nothing is in `out`
4      failed    error (class), sentence (for the admin), step and checkpoint (null where there is none): no use trying
                 again with the same spec; a TrainingError
1      crashed   error, sentence, trace; unexpected, the checkpoints in `work` are as good as ever
other            killed (-9 and the like), no `end` line: start it again to resume
====== ========= ========================================================================================================

`out` appears complete or not at all. With several processes only the first writes events, checkpoints and `out`.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from extraction.prompts import get_prompt
from training.config import TrainConfig

FINISHED, CRASHED, STOPPED, FAILED = 0, 1, 3, 4


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
    """Where all this comes from (recipe, dataset digests, base and parent by name …): goes into training.json as it is."""

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
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)

"""Checkpoints that survive a kill: which one is whole, and which one a training goes on from.

The trainer of transformers writes a checkpoint file by file into its place, so a process that is killed leaves half of
one. A marker is written last, with the size of every file; a folder without a marker that fits is no checkpoint. The
marker also names what is trained (settings and rows), so that no training goes on from somebody else's weights.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

MARKER = "complete.json"
_STATE = "trainer_state.json"


def mark_complete(checkpoint: Path, *, step: int, of: str) -> None:
    """Say that the folder is whole; `of` is the digest of what is trained. Everything is on the disk before."""
    sizes = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != MARKER:
            _sync(path)
            sizes[path.relative_to(checkpoint).as_posix()] = path.stat().st_size
    beside = checkpoint / f".{MARKER}"
    beside.write_text(json.dumps({"step": step, "of": of, "files": sizes}, indent=1))
    _sync(beside)
    beside.replace(checkpoint / MARKER)
    _sync(checkpoint)


def newest_checkpoint(work: Path, *, of: str | None = None, also: Path | None = None) -> Path | None:
    """The complete checkpoint with the most steps in `work` (or `also`); None where there is none.

    `of`: only those of this training.
    """
    found = [*work.glob("checkpoint-*"), *([also] if also else [])]
    usable = [(step, path) for path in found if (step := completed_step(path, of=of)) is not None]
    return max(usable)[1] if usable else None


def completed_step(checkpoint: Path, *, of: str | None = None) -> int | None:
    """The step of a complete checkpoint; None where it is not whole, or is not one of the training `of`."""
    try:
        marker = json.loads((checkpoint / MARKER).read_text())
        is_whole = all((checkpoint / name).stat().st_size == size for name, size in marker["files"].items())
    except (OSError, ValueError):
        return None
    return int(marker["step"]) if is_whole and of in (None, marker["of"]) else None


def clear_incomplete(work: Path) -> None:
    """Remove what a killed process left half written, so that its files never mix with those of a later attempt."""
    for path in work.glob("checkpoint-*"):
        if completed_step(path) is None:
            shutil.rmtree(path)


def trainer_state(checkpoint: Path) -> dict[str, Any]:
    """What the trainer knew then: global_step, max_steps, log_history and more."""
    state: dict[str, Any] = json.loads((checkpoint / _STATE).read_text())
    return state


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Start one training process, watch it to its end, and tell what came of it. The database is the caller's business."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.checkpoints import newest_checkpoint
from training.run_process import CRASHED, OUTCOMES, Spec, command, read_events

NICENESS = 15
"""Where there is no card, a training takes what pages and suggestions leave."""
POLL_S = 0.5
Event = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a process ended. `status` is one of training.run_process, None where it was killed.

    `checkpoint` is the newest one on this disk; `trace` what the admin reads about an error that nobody expected.
    """

    status: int | None
    step: int = 0
    max_steps: int = 0
    checkpoint: Path | None = None
    sentence: str = ""
    trace: str = ""
    metrics: dict[str, Any] | None = None


def supervise(
    spec: Spec,
    *,
    locks: Sequence[int],
    has_card: bool,
    on_events: Callable[[list[Event]], None],
    should_stop: Callable[[], bool],
    accelerate: Path | None = None,
) -> Outcome:
    """Run the training of `spec` in a process of its own until it ends, however it ends.

    `on_events` is called at every look, also with no news: a sign of life. The process inherits the files `locks` and
    ends with this one. `accelerate`: configuration for several cards.
    """
    spec.work.mkdir(parents=True, exist_ok=True)
    for left in (spec.events, spec.stop_file):
        left.unlink(missing_ok=True)
    path = spec.work.parent / "spec.json"
    log = spec.work.parent / "process.log"
    spec.write(path)
    python, module, *rest = command(path, accelerate)
    tied = [python, module, "training.tied", "0" if has_card else str(NICENESS), *rest]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own module
            tied,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=tuple(locks),
            start_new_session=True,
        )
    try:
        last = _watch(process, spec, on_events, should_stop)
    finally:
        assert process.stdin is not None  # noqa: S101 - a pipe was asked for
        process.stdin.close()  # ends it where the watch itself broke
        process.wait()
    return _outcome(process.returncode, last, checkpoint=newest_checkpoint(spec.work), log=log)


def _watch(
    process: "subprocess.Popen[bytes]",
    spec: Spec,
    on_events: Callable[[list[Event]], None],
    should_stop: Callable[[], bool],
) -> dict[str, Event]:
    """The last event of each kind."""
    last: dict[str, Event] = {}
    offset = 0
    while True:
        is_over = process.poll() is not None  # asked before the events are read, so that none is left over
        events, offset = read_events(spec.events, offset)
        last |= {event["event"]: event for event in events}
        on_events(events)
        if is_over:
            return last
        if should_stop():
            spec.stop_file.touch()
        time.sleep(POLL_S)


def _outcome(code: int, last: dict[str, Event], *, checkpoint: Path | None, log: Path) -> Outcome:
    end = last.get("end", {})
    step = end.get("step") or last.get("progress", {}).get("step", 0)
    sentence = end.get("sentence", "")
    if not end and code < 0:
        return Outcome(None, step=step, checkpoint=checkpoint, sentence=f"signal {-code}")
    status = OUTCOMES[end["outcome"]] if end else CRASHED  # accelerate has an exit status of its own
    if status != CRASHED:
        return Outcome(
            status,
            step=step,
            max_steps=end.get("max_steps", 0),
            checkpoint=checkpoint,
            sentence=sentence,
            metrics=end.get("metrics"),
        )
    trace = end.get("trace") or log.read_text(errors="replace")[-8_000:]
    return Outcome(CRASHED, step=step, checkpoint=checkpoint, sentence=sentence, trace=trace)

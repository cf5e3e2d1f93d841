"""Work a chain of runs off in this process, as the workers would, and say how it goes; for commands that wait.

What a worker takes first is left to it and watched. Ctrl-C ends the training under way with a checkpoint.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from django.db import connection

from audit.models import JobState
from training import jobs, running
from training.models import Dataset, Evaluation, Run, RunState
from training.presentation.runs import RunRow
from training.running import TrainingCrashed

Say = Callable[[str], None]
_LOOK_S = 0.5
_TELL_S = 5.0
_OVER = (RunState.DONE, RunState.PROMOTED, RunState.REFUSED, RunState.FAILED, RunState.CANCELLED)


class Interrupted(Exception):
    """Somebody pressed Ctrl-C; what was begun goes on with the same command, or with the next worker."""


def follow(runs: Sequence[Run], *, say: Say) -> list[Run]:
    """Work until every run is over; the runs as they are then. Raises Interrupted."""
    with _stop_on_interrupt(), _telling(runs, say):
        while True:
            now = list(Run.objects.filter(pk__in=[run.pk for run in runs]).select_related("dataset").order_by("pk"))
            if all(run.state in _OVER for run in now):
                return now
            if running.is_worker_stopping():
                raise Interrupted
            if not _work(now):
                time.sleep(_LOOK_S)  # a worker has it


def build(dataset: Dataset) -> Dataset:
    """Build one dataset here, or wait for the worker that has it. Raises Interrupted."""
    with _stop_on_interrupt():
        while dataset.state in (JobState.QUEUED, JobState.RUNNING):
            if running.is_worker_stopping():
                raise Interrupted
            jobs.build_dataset_job(dataset.pk)
            dataset.refresh_from_db()
            time.sleep(0 if dataset.state not in (JobState.QUEUED, JobState.RUNNING) else _LOOK_S)
    return dataset


def _work(runs: Sequence[Run]) -> bool:
    """Do one job of these runs that waits; False where none does."""
    jobs.advance()
    for run in runs:
        if run.dataset.state == JobState.QUEUED and not jobs.awaits_proposer(run.dataset):
            jobs.build_dataset_job(run.dataset_id)
            return True
        if run.state == RunState.QUEUED:
            _train(run)
            return True
        waiting = Evaluation.objects.filter(adapter=run.adapter_id, state=JobState.QUEUED).first()
        if run.state == RunState.EVALUATING and waiting is not None:
            jobs.evaluate_job(waiting.pk)
            return True
    return False


def _train(run: Run) -> None:
    with suppress(TrainingCrashed):  # its row has the trace, and is read at the end
        jobs.train_job(run.pk)


@contextmanager
def _stop_on_interrupt() -> Iterator[None]:
    """Ctrl-C tells the work under way to end in order; a second one does not wait."""

    def stop(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        running.stop_soon()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _telling(runs: Sequence[Run], say: Say) -> Iterator[None]:
    """Say every few seconds what has changed, while the main thread works."""
    ended = threading.Event()

    def tell() -> None:
        said: dict[int, str] = {}
        while not ended.wait(_TELL_S):
            for run in Run.objects.filter(pk__in=[run.pk for run in runs]).select_related(
                "after", "dataset", "base", "adapter", "evaluation_set"
            ):
                words = f"run {run.pk}, {run.get_kind_display()}: {run.get_state_display()}, {RunRow(run).words}"
                if said.get(run.pk) != words:
                    said[run.pk] = words
                    say(words)
        connection.close()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()

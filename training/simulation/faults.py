"""Faults at stated points of a round: what is broken, and how the site finds its way back by its own means.

`worker`: the exploration of the second report that explores is run by a worker of its own, which is killed with SIGKILL
after its first query run; a worker that trains is killed when its training has made a step. The queue server forgets
every job with them. The tick, which goes by the rows alone, then lets the work go on.

`engine`: the index is away when the exploration of the third report that explores runs, and again while the results of
the fourth are judged. The failed queries are run again by the button of the page; the sweeper mends the index.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from audit import indexing
from audit import jobs as audit_jobs
from audit.jobs import run_exploration
from audit.models import Exploration, QueryRun
from audit.models import RunState as ExplorationState
from audit.queueing import enqueue
from audit.services import run_again
from training import jobs
from training.models import Run, RunState
from training.simulation.auditor import Workers
from training.simulation.queues import empty, kill, work_off, worker
from training.simulation.settings import Fault, SimulationError, key_for

MORTAL = "training.simulation.mortal"
LONGEST_S = 300.0


class Faults(Workers):
    """Breaks what is asked for, once each; `happened` says what was broken, and how far the work was."""

    def __init__(self, wanted: frozenset[Fault]) -> None:
        self._wanted = wanted
        self._explored = 0
        self.happened: list[str] = []

    def run(self, exploration: Exploration, at: datetime) -> None:
        self._explored += 1
        if Fault.WORKER in self._wanted and self._explored == 2:
            self._kill_explorer(exploration)
        elif Fault.ENGINE in self._wanted and self._explored == 3:
            self._lose_index_before(exploration, at)
        else:
            run_exploration(exploration.pk, at=at)

    @contextmanager
    def while_judging(self) -> Iterator[None]:
        if Fault.ENGINE not in self._wanted or self._explored != 4:
            yield
            return
        with index_away():
            yield
            indexing.sweep()  # as the tick would: what was removed waits
        self.happened.append("the index was away while results were judged")

    def mid_training(self) -> None:
        """Called when the first training waits in its queue."""
        if Fault.WORKER not in self._wanted:
            return
        run = Run.objects.filter(state=RunState.QUEUED).first()
        if run is None:  # its dataset could not be built
            return
        with worker("django", "rqworker", "train", "--worker-class", "qexplorer_site.worker.Worker") as process:
            _wait_until(lambda: Run.objects.filter(pk=run.pk, step__gte=1).exists(), "A training made no step.")
            kill(process)
        run.refresh_from_db()
        self.happened.append(
            f"the worker of run {run.pk} ({run.kind}) was killed at step {run.step} of {run.max_steps}"
        )
        empty()
        # Two minutes without a sign of life are what the tick waits for.
        Run.objects.filter(pk=run.pk).update(seen=timezone.now() - timedelta(minutes=10))
        jobs.learning_tick()

    def _kill_explorer(self, exploration: Exploration) -> None:
        job_id = f"exploration-{exploration.pk}"
        Exploration.objects.filter(pk=exploration.pk).update(job_id=job_id)
        enqueue("explore", "audit.jobs.run_exploration", exploration.pk, job_id=job_id)
        with worker(MORTAL, "1") as process:
            process.wait(LONGEST_S)
        done = QueryRun.objects.filter(exploration_query__exploration=exploration).count()
        exploration.refresh_from_db()
        self.happened.append(
            f"the worker of {exploration} was killed ({process.returncode}) when {done} of "
            f"{exploration.queries.count()} queries had run"
        )
        empty()
        audit_jobs.tick()
        work_off("explore")
        empty()

    def _lose_index_before(self, exploration: Exploration, at: datetime) -> None:
        with index_away():
            run_exploration(exploration.pk, at=at)
        exploration.refresh_from_db()
        failed = exploration.queries.filter(state=ExplorationState.FAILED).count()
        self.happened.append(
            f"the index was away when {exploration} ran: {failed} of {exploration.queries.count()} queries failed"
        )
        run_again(exploration=exploration, user=exploration.created_by, key=key_for("again", exploration.public_id))
        run_exploration(exploration.pk, at=at)


@contextmanager
def index_away() -> Iterator[None]:
    """Take the index away (its link, by which the engine finds it), and bring it back at the end."""
    link = Path(settings.SEARCH_FILE)
    aside = link.with_name(f"{link.name}.away")
    link.rename(aside)
    try:
        yield
    finally:
        aside.rename(link)


def _wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not holds():
        if time.monotonic() > deadline:
            raise SimulationError(otherwise)
        time.sleep(0.05)

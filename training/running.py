"""One training run on this machine: its files fetched by digest, its process watched, what came of it recorded."""

import importlib.util
import logging
import shutil
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _
from redis.exceptions import RedisError
from rq import get_current_job
from rq.worker import Worker

from extraction.artifacts import (
    CHECKPOINT,
    DamagedArtifact,
    UnsafeArtifact,
    delete_place,
    fetch_file,
    fetch_folder,
    store_folder,
)
from extraction.card import has_card
from extraction.generation import AdapterRefused, ModelRefused, check_adapter
from extraction.models import Adapter, AdapterKind
from training import run_process
from training.card import GaveUp, turn_to_train
from training.checkpoints import completed_step, newest_checkpoint
from training.config import RecipeError, TrainConfig
from training.models import Run, RunState
from training.naming import next_name
from training.run_process import Spec
from training.services import cancel_followers
from training.supervising import Event, Outcome, supervise

logger = logging.getLogger(__name__)
_told_to_stop = threading.Event()

ATTEMPTS = 3
"""How often a run is begun without a new checkpoint before it counts as failed."""
STORE_EVERY_S = 300.0
"""A checkpoint on this disk is enough for this machine; another one needs it in the storage."""
ROW_EVERY_S = 1.0
CURVE_POINTS = 200
STACK = ("torch", "transformers", "peft", "trl", "accelerate")


class NoLearningStack(Exception):
    """This machine cannot train."""


class TrainingCrashed(Exception):
    """A training process ended by an error that nobody expected; the row has its trace."""


class TakenAway(Exception):
    """The row is not ours any more: it went to another worker, which trains it."""


EXPECTED = (AdapterRefused, DamagedArtifact, ModelRefused, NoLearningStack, RecipeError, UnsafeArtifact)
"""What may go wrong without being a fault of the program: the row says it in one sentence."""


def train(run_id: int) -> None:
    """Train a queued run, as far as it goes, when it is its turn on this machine. Raises what nobody expected."""
    try:
        with turn_to_train(lambda: _is_queued(run_id) and not is_worker_stopping()) as locks:
            run = _take(run_id)
            if run is not None:
                _train(run, locks)
    except GaveUp:
        logger.info("Run %d is not wanted here any more.", run_id)


def _is_queued(run_id: int) -> bool:
    return Run.objects.filter(pk=run_id, state=RunState.QUEUED).exists()


def _take(run_id: int) -> Run | None:
    """The run, marked as running; None where another has it, or it is not to run."""
    now = timezone.now()
    taken = Run.objects.filter(pk=run_id, state=RunState.QUEUED).update(
        state=RunState.RUNNING,
        seen=now,
        started=Coalesce(F("started"), now),
        attempts=F("attempts") + 1,
        error="",
        trace="",
    )
    return Run.objects.select_related("base", "dataset", "start__base", "user").get(pk=run_id) if taken else None


def _train(run: Run, locks: tuple[int, ...]) -> None:
    """Train and record how it ended, whatever happens. Raises what nobody expected, when it stands on the row."""
    try:
        outcome = _last_attempt(run, locks)
        if outcome.status == run_process.FINISHED:
            _finish(run, outcome)
        else:
            _keep_newest_checkpoint(run)
            Run.objects.filter(pk=run.pk, step__lt=outcome.step).update(step=outcome.step)
            _end_unfinished(run, outcome)
    except TakenAway:
        logger.warning("Run %d went to another worker.", run.pk)
    except EXPECTED as error:
        fail(run, str(error))
    except TrainingCrashed:
        raise
    except Exception:
        fail(run, _("Stopped by an error that nobody expected; the trace is below."), traceback.format_exc())
        raise


def _last_attempt(run: Run, locks: tuple[int, ...]) -> Outcome:
    """How the training ended. A process that was killed begins again, unless it did so too often without getting on."""
    watch = _RunWatch(run)
    outcome = Outcome(None)
    while outcome.status is None and run.attempts <= ATTEMPTS:
        outcome = supervise(
            _spec(run),
            locks=locks,
            has_card=has_card(),
            on_events=watch.look,
            should_stop=watch.should_stop,
            accelerate=settings.ACCELERATE_CONFIG,
        )
        if outcome.status is None:
            _note_killed(run, outcome)
    return outcome


def run_folder(run_id: int) -> Path:
    """Where a run works on this machine. It goes when the run is over, or what is left of it when another starts."""
    folder: Path = settings.VAR_DIR / "runs" / str(run_id)
    return folder


def checkpoint_place(run_id: int, step: int) -> str:
    """Where in the storage the checkpoint of that step lies: apart, so that deleting it takes nothing else along."""
    return f"checkpoints/{run_id}/{step}"


def _spec(run: Run) -> Spec:
    """Everything that the process needs, fetched by digest onto this machine. Raises one of EXPECTED."""
    check_stack()
    folder = run_folder(run.pk)
    folder.mkdir(parents=True, exist_ok=True)
    _clear_folders_of_others()
    rows = folder / "rows.jsonl"
    fetch_file(run.dataset.digest, rows)
    start = None
    if run.start is not None:
        start = fetch_folder(run.start.digest)
        check_adapter(start, adapter=run.start, base=run.base)
    return Spec(
        config=TrainConfig.read(run.config),
        rows=rows,
        base=str(fetch_folder(run.base.digest)) if run.base.digest else run.base.reference,
        revision=run.base.revision,
        prompt=run.base.prompt_version,
        out=folder / "adapter",
        work=folder / "work",
        events=folder / "events.jsonl",
        stop_file=folder / "stop",
        start=start,
        resume=_fetch_checkpoint(run),
        origin=_origin(run),
    )


def check_stack() -> None:
    """Raise NoLearningStack unless this machine has what training and inference need."""
    missing = [name for name in STACK if importlib.util.find_spec(name) is None]
    if missing:
        words = _("The learning stack is not installed on this machine (%(missing)s). ./qexplorer installs it.")
        raise NoLearningStack(words % {"missing": ", ".join(missing)})


def _origin(run: Run) -> dict[str, Any]:
    return {
        "recipe": run.recipe,
        "base": run.base.name,
        "base_weights": run.base.weights_hash,
        "parent": run.start.name if run.start else None,
        "parent_digest": run.start.digest if run.start else None,
        "dataset": run.dataset.name,
        "dataset_digest": run.dataset.digest,
    }


def _fetch_checkpoint(run: Run) -> Path | None:
    """The stored checkpoint, where this disk has none that is as far. One that is damaged costs time, not the run."""
    newest = newest_checkpoint(run_folder(run.pk) / "work")
    if not run.checkpoint or (newest is not None and (completed_step(newest) or 0) >= run.checkpoint_step):
        return None
    fetched = run_folder(run.pk) / "fetched"
    shutil.rmtree(fetched, ignore_errors=True)
    try:
        place = checkpoint_place(run.pk, run.checkpoint_step)
        # Out of the cache, which keeps what it holds: a checkpoint is needed once.
        shutil.move(fetch_folder(run.checkpoint, allowed=CHECKPOINT, place=place), fetched)
        return fetched
    except DamagedArtifact as error:
        _note(run, _("Its stored checkpoint cannot be read: %(error)s It begins anew.") % {"error": error})
        return None


def _clear_folders_of_others() -> None:
    """Remove what runs have left on this disk that are over, or that went on elsewhere."""
    active = Run.objects.filter(state__in=[RunState.QUEUED, RunState.RUNNING])
    kept = {str(pk) for pk in active.values_list("pk", flat=True)}
    for folder in run_folder(0).parent.iterdir():
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _note_killed(run: Run, outcome: Outcome) -> None:
    words = _("Its process was killed (%(signal)s) at step %(step)d.")
    _note(run, words % {"signal": outcome.sentence, "step": outcome.step})
    Run.objects.filter(pk=run.pk, state=RunState.RUNNING).update(attempts=F("attempts") + 1)
    run.refresh_from_db(fields=["attempts", "checkpoint", "checkpoint_step"])


@dataclass
class _RunWatch:
    """Writes what a process tells onto the row, at most once a second, and hears there whether it is to stop."""

    run: Run
    written: float = 0.0
    stored: float = field(default_factory=time.monotonic)
    changes: dict[str, Any] = field(default_factory=dict)
    is_stopping: bool = False

    def look(self, events: list[Event]) -> None:
        """Raises TakenAway where the row is not ours any more."""
        for event in events:
            if event["event"] == "progress":
                self._progress(event)
            elif event["event"] == "note":
                self.run.notes.append(event["sentence"])
                self.changes["notes"] = self.run.notes
            elif event["event"] == "saved":
                self.changes["attempts"] = 1
                self._store(Path(event["checkpoint"]), int(event["step"]))
        is_over = any(event["event"] == "end" for event in events)
        if is_over or time.monotonic() - self.written >= ROW_EVERY_S:
            with _database_may_be_away():
                self._write()

    def should_stop(self) -> bool:
        if not self.is_stopping:
            with _database_may_be_away():
                asked = Run.objects.filter(pk=self.run.pk, cancel_requested=True).exists()
                self.is_stopping = asked or is_worker_stopping()
        return self.is_stopping

    def _progress(self, event: Event) -> None:
        names = ("step", "max_steps", "loss", "reward_margin", "tokens_per_s", "seconds_left", "memory_mb")
        self.changes |= {name: event[name] for name in names}
        self.run.curve = [point for point in self.run.curve if point[0] < event["step"]]
        last = self.run.curve[-1][0] if self.run.curve else 0
        if event["step"] - last >= event["max_steps"] / CURVE_POINTS:
            self.run.curve.append([event["step"], event["loss"], event["reward_margin"]])
            self.changes["curve"] = self.run.curve

    def _store(self, checkpoint: Path, step: int) -> None:
        if time.monotonic() - self.stored < STORE_EVERY_S:
            return
        self.stored = time.monotonic()
        try:
            with _database_may_be_away():
                _store_checkpoint(self.run, checkpoint, step)
        except OSError:
            logger.exception("A checkpoint of run %d could not be stored; this disk has it.", self.run.pk)

    def _write(self) -> None:
        self.written = time.monotonic()
        ours = Run.objects.filter(pk=self.run.pk, state=RunState.RUNNING)
        if not ours.update(seen=timezone.now(), **self.changes):
            raise TakenAway
        self.changes = {}


@contextmanager
def _database_may_be_away() -> Iterator[None]:
    """A database that restarts must not cost hours of training: what it was not told is told the next time."""
    try:
        yield
    except (InterfaceError, OperationalError) as error:
        logger.warning("The database cannot be reached while a training runs: %s", error)
        connection.close()


def _end_unfinished(run: Run, outcome: Outcome) -> None:
    """Record how a training ended without an adapter. Raises TrainingCrashed where the program is at fault."""
    if outcome.status == run_process.STOPPED:
        _stopped(run)
    elif outcome.status == run_process.FAILED:
        fail(run, outcome.sentence)
    elif outcome.status == run_process.CRASHED:
        sentence = outcome.sentence or _("Stopped by an error that nobody expected; the trace is below.")
        fail(run, sentence, outcome.trace)
        raise TrainingCrashed(f"Run {run.pk}: {sentence}")
    else:
        words = _("Its process was killed %(count)d times without getting on. Most often the memory is full.")
        fail(run, words % {"count": ATTEMPTS})


def _stopped(run: Run) -> None:
    """Cancelled by a person; or the worker ends, and the tick lets another go on with the run."""
    ours = Run.objects.filter(pk=run.pk, state=RunState.RUNNING)
    if ours.filter(cancel_requested=True).update(state=RunState.CANCELLED, finished=timezone.now()):
        return
    _note(run, _("Its worker was stopped. It goes on from its checkpoint when there is one again."))
    ours.update(state=RunState.QUEUED, attempts=0)


def _finish(run: Run, outcome: Outcome) -> None:
    """Store the adapter, make its row, and let it be evaluated where the chain asks for that."""
    digest = store_folder(run_folder(run.pk) / "adapter")
    state = RunState.DONE if run.evaluation_set_id is None else RunState.EVALUATING
    with transaction.atomic():
        adapter = Adapter.objects.create(
            name=next_name(Adapter, run.kind),
            kind=AdapterKind(run.kind),
            base=run.base,
            parent=run.start,
            digest=digest,
            tokenizer_hash=run.base.tokenizer_hash,
            template_hash=run.base.template_hash,
            prompt_version=run.base.prompt_version,
            card=_card(run, outcome),
            user=run.user,
        )
        ours = Run.objects.filter(pk=run.pk, state=RunState.RUNNING)
        if not ours.update(
            state=state, adapter=adapter, step=outcome.step, max_steps=outcome.max_steps, finished=timezone.now()
        ):
            raise TakenAway
    shutil.rmtree(run_folder(run.pk), ignore_errors=True)


def _card(run: Run, outcome: Outcome) -> dict[str, Any]:
    return _origin(run) | {"run": run.pk, "seed": run.seed, "config": run.config, "metrics": outcome.metrics or {}}


def _keep_newest_checkpoint(run: Run) -> None:
    """Store what this disk has further than the storage: any machine may go on with it."""
    newest = newest_checkpoint(run_folder(run.pk) / "work")
    step = completed_step(newest) if newest is not None else None
    if newest is not None and step is not None and (not run.checkpoint or step > run.checkpoint_step):
        _store_checkpoint(run, newest, step)


def _store_checkpoint(run: Run, checkpoint: Path, step: int) -> None:
    """Put a checkpoint into the storage in place of the one before. One that vanished meanwhile has a successor.

    One that holds code, as DeepSpeed's does, stays on the disk of the machine that made it: there the run goes on.
    """
    before = run.checkpoint_step if run.checkpoint else None
    try:
        digest = store_folder(checkpoint, allowed=CHECKPOINT, place=checkpoint_place(run.pk, step))
    except FileNotFoundError:
        return
    except UnsafeArtifact as error:
        logger.warning("The checkpoint of run %d at step %d is not stored: %s", run.pk, step, error)
        return
    Run.objects.filter(pk=run.pk).update(checkpoint=digest, checkpoint_step=step)
    run.checkpoint, run.checkpoint_step = digest, step
    if before not in (None, step):
        delete_place(checkpoint_place(run.pk, before or 0))


def fail(run: Run, sentence: str, trace: str = "") -> None:
    Run.objects.filter(pk=run.pk, state__in=[RunState.WAITING, RunState.RUNNING]).update(
        state=RunState.FAILED, error=sentence, trace=trace, finished=timezone.now()
    )
    cancel_followers(run)


def _note(run: Run, sentence: str) -> None:
    """Add a sentence to what happened on the way. Only the job that has the run does this."""
    run.notes = [*run.notes, sentence]
    Run.objects.filter(pk=run.pk).update(notes=run.notes)


def stop_soon() -> None:
    """Let the training of this process end with a checkpoint, as for a worker that is told to stop."""
    _told_to_stop.set()


def is_worker_stopping() -> bool:
    """Whether the worker of this job was told to end (a deployment, `./qexplorer stop`) and waits for it."""
    if _told_to_stop.is_set():
        return True
    job = get_current_job()
    if job is None or not job.worker_name:
        return False
    try:
        key = Worker.redis_worker_namespace_prefix + job.worker_name
        return bool(job.connection.hexists(key, "shutdown_requested_date"))
    except RedisError:
        return False  # the queue server is away: the training goes on without it

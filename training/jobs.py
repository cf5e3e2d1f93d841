"""The jobs of learning. Each takes an id, reads the row that is the truth, and does no harm when it runs twice.

A run goes waiting → queued when its dataset and the adapter that it starts from are there, then it is trained
(training.running), then evaluated where it is the last of its chain. The tick begins again what a dead worker left.
"""

import logging
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.models import JobState
from audit.queueing import enqueue, is_under_way
from audit.services.errors import ServiceError
from extraction.artifacts import store_file
from extraction.errors import SearchError
from training import demo, gate, running, schedule
from training.base_model import build_base_model
from training.card import GaveUp, turn_to_train
from training.datasets import Built, NothingToBuild, Options, OptionsError, Preview, build, preview
from training.evaluate import create_evaluation, decide_what_is_due, evaluate
from training.frozen import CannotFreeze, freeze
from training.models import (
    BaseBuild,
    Dataset,
    DatasetKind,
    Evaluation,
    EvaluationSet,
    GateVerdict,
    Run,
    RunState,
    ShadowScore,
)
from training.presentation.datasets import preview_lines
from training.pretraining import Stopped
from training.promote import promote
from training.proposing import Proposers
from training.running import EXPECTED, is_worker_stopping
from training.services import cancel_followers, proposes, refuse
from training.shadow import score_shadow
from training.watching import Progress, TrainingError, Unwatched
from training.withdrawing import search_what_is_due, withdraw

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a build, or a score of a shadow, is begun before it counts as failed."""
BASE_ATTEMPTS = 10
"""The same for a base, which a stop of the site interrupts."""
QUEUED_FOR = timedelta(seconds=30)
LOST_AFTER = timedelta(minutes=2)
"""Without a sign of life for so long, and without a job under way, whoever worked on it has died."""
SEEN_EVERY_S = 20.0


# --- the chain ------------------------------------------------------------------------------------------------------


def advance() -> None:
    """Queue what can go on: builds whose adapter is there, runs whose dataset and start are, evaluations."""
    for dataset in Dataset.objects.filter(state=JobState.QUEUED, adapter=None, runs__after__adapter__isnull=False):
        _give_proposer(dataset)
    for run in Run.objects.filter(state=RunState.WAITING).select_related("dataset", "after"):
        _move_on(run)
    for run in Run.objects.filter(state=RunState.EVALUATING).select_related("adapter", "evaluation_set", "user"):
        _begin_evaluation(run)


def _give_proposer(dataset: Dataset) -> None:
    """D_pol of a chain: the adapter that the run before has made proposes."""
    run = dataset.runs.select_related("after").filter(after__adapter__isnull=False).first()
    if not proposes(dataset.kind) or run is None or run.after is None:
        return
    if Dataset.objects.filter(pk=dataset.pk, adapter=None).update(adapter=run.after.adapter_id):
        dataset.refresh_from_db()
        enqueue_build(dataset)


def _move_on(run: Run) -> None:
    dataset = run.dataset
    if dataset.state == JobState.FAILED:
        words = _("Dataset %(name)s could not be built. %(error)s")
        running.fail(run, words % {"name": dataset, "error": dataset.error.strip().splitlines()[-1]})
        return
    start = run.after.adapter_id if run.after is not None else None
    if dataset.state != JobState.DONE or (run.after is not None and start is None):
        return
    if Run.objects.filter(pk=run.pk, state=RunState.WAITING).update(state=RunState.QUEUED, start=start):
        enqueue_run(run.pk)


@transaction.atomic
def _begin_evaluation(run: Run) -> None:
    Run.objects.select_for_update().get(pk=run.pk)  # one evaluation, also where two jobs look at once
    if run.adapter is None or run.evaluation_set is None:
        return
    if not Evaluation.objects.filter(adapter=run.adapter, evaluation_set=run.evaluation_set).exists():
        evaluation = create_evaluation(run.adapter, run.evaluation_set, run.user)
        transaction.on_commit(lambda: enqueue_evaluation(evaluation.pk))


def enqueue_run(run_id: int) -> None:
    enqueue("train", "training.jobs.train_job", run_id, job_id=f"train-{run_id}")


def enqueue_build(dataset: Dataset) -> None:
    queue, job_id = _job_of(dataset)
    enqueue(queue, "training.jobs.build_dataset_job", dataset.pk, job_id=job_id)


def enqueue_evaluation(evaluation_id: int) -> None:
    enqueue("train", "training.jobs.evaluate_job", evaluation_id, job_id=f"evaluation-{evaluation_id}")


def _job_of(dataset: Dataset) -> tuple[str, str]:
    """What an adapter proposes for is built where the card is."""
    return ("train" if _needs_model(dataset) else "data"), f"dataset-{dataset.pk}"


def _needs_model(dataset: Dataset) -> bool:
    return dataset.adapter_id is not None and not dataset.is_dry_run


# --- training -------------------------------------------------------------------------------------------------------


def train_job(run_id: int) -> None:
    """Train one run when it is its turn on this machine; then let what waits for it go on."""
    try:
        running.train(run_id)
    finally:
        advance()


# --- datasets -------------------------------------------------------------------------------------------------------


def build_dataset_job(dataset_id: int) -> None:
    """Build one dataset, or count what it would hold. Where an adapter proposes for it, that waits for its turn."""
    dataset = Dataset.objects.get(pk=dataset_id)
    try:
        if not _needs_model(dataset):
            _build(dataset_id, None)
        else:
            with suppress(GaveUp), turn_to_train(lambda: _is_queued(Dataset, dataset_id)):
                _build(dataset_id, Proposers())
    finally:
        advance()


def _is_queued(model: type[Dataset] | type[Evaluation], pk: int) -> bool:
    return not is_worker_stopping() and model._default_manager.filter(pk=pk, state=JobState.QUEUED).exists()


def _build(dataset_id: int, proposers: Proposers | None) -> None:
    queued = Dataset.objects.filter(pk=dataset_id, state=JobState.QUEUED)
    if not queued.update(state=JobState.RUNNING, seen=timezone.now(), attempts=F("attempts") + 1):
        return
    dataset = Dataset.objects.select_related("adapter__base", "excluded").get(pk=dataset_id)
    if dataset.attempts > ATTEMPTS:
        _fail_build(dataset, _("Its job ended %(count)d times before it was ready.") % {"count": ATTEMPTS})
        return
    try:
        _write_build(dataset, proposers)
    except (*EXPECTED, NothingToBuild, OptionsError, SearchError) as error:
        _fail_build(dataset, str(error))
    except Exception:
        _fail_build(dataset, traceback.format_exc())
        raise


def _write_build(dataset: Dataset, proposers: Proposers | None) -> None:
    kind, options = DatasetKind(dataset.kind), Options.from_json(dataset.options)
    asked: dict[str, Any] = {
        "excluded": dataset.excluded,
        "adapter": dataset.adapter,
        "progress": _sign_of_life(Dataset, dataset.pk),
    }
    if dataset.is_dry_run:
        _finish_build(dataset, preview(kind, options, **asked), state=JobState.DRAFT)
        return
    proposer = proposers(dataset.adapter) if proposers is not None and dataset.adapter is not None else None
    with tempfile.TemporaryDirectory(dir=settings.VAR_DIR) as folder:
        built = build(kind, options, out=Path(folder) / "rows.jsonl", proposer=proposer, **asked)
        store_file(built.path)
    shown = preview_lines(built.rows_out)
    _finish_build(dataset, built, state=JobState.DONE, digest=built.digest, preview=shown)


def _finish_build(dataset: Dataset, built: Built | Preview, **changes: Any) -> None:
    Dataset.objects.filter(pk=dataset.pk, state=JobState.RUNNING).update(
        error="",
        rows_in=built.rows_in,
        rows_out=built.rows_out or 0,
        dropped=built.dropped,
        card=built.card,
        finished=timezone.now(),
        **changes,
    )


def _fail_build(dataset: Dataset, error: str) -> None:
    Dataset.objects.filter(pk=dataset.pk, state=JobState.RUNNING).update(
        state=JobState.FAILED, error=error, finished=timezone.now()
    )


def _sign_of_life(model: type[Dataset] | type[Evaluation], pk: int) -> Callable[..., None]:
    """For whoever reports progress: the row says that somebody works on it."""
    told = time.monotonic()

    def tell(*_progress: object) -> None:
        nonlocal told
        if time.monotonic() - told >= SEEN_EVERY_S:
            told = time.monotonic()
            model._default_manager.filter(pk=pk).update(seen=timezone.now())

    return tell


# --- evaluations ----------------------------------------------------------------------------------------------------


def evaluate_job(evaluation_id: int) -> None:
    """Measure an adapter on a frozen set when it is its turn on this machine; then the gate, or a person, decides."""
    with suppress(GaveUp), turn_to_train(lambda: _is_queued(Evaluation, evaluation_id)):
        _evaluate(evaluation_id)
    settle(Evaluation.objects.select_related("adapter").get(pk=evaluation_id))


def _evaluate(evaluation_id: int) -> None:
    queued = Evaluation.objects.filter(pk=evaluation_id, state=JobState.QUEUED)
    if not queued.update(state=JobState.RUNNING, seen=timezone.now()):
        return
    evaluation = Evaluation.objects.select_related("adapter__base", "baseline__base", "evaluation_set").get(
        pk=evaluation_id
    )
    try:
        running.check_stack()
        evaluate(evaluation, proposer_for=Proposers(), progress=_sign_of_life(Evaluation, evaluation_id))
    except (*EXPECTED, SearchError) as error:
        _fail_evaluation(evaluation_id, str(error))
    except Exception:
        _fail_evaluation(evaluation_id, traceback.format_exc())
        raise


def _fail_evaluation(evaluation_id: int, error: str) -> None:
    Evaluation.objects.filter(pk=evaluation_id, state=JobState.RUNNING).update(
        state=JobState.FAILED, error=error, finished=timezone.now()
    )


def settle(evaluation: Evaluation) -> None:
    """What follows for the run that made the adapter: the gate promotes or refuses, or a person is to decide.

    An evaluation that was undecided comes here again when enough was judged.
    """
    open_runs = Run.objects.filter(adapter=evaluation.adapter, state__in=[RunState.EVALUATING, RunState.DONE])
    run = open_runs.first()
    if run is None or evaluation.state not in (JobState.DONE, JobState.FAILED):
        return
    if run.gate_decides and evaluation.verdict == GateVerdict.PASSES:
        _promote(evaluation, run.user)
    elif run.gate_decides and evaluation.verdict == GateVerdict.REFUSES:
        refuse(adapter=evaluation.adapter, evaluation=evaluation, reason=why_refused(evaluation))
    else:
        open_runs.update(state=RunState.DONE)


def why_refused(evaluation: Evaluation) -> str:
    """The rules that do not hold, in sentences."""
    return " ".join(gate.sentence(rule) for rule in evaluation.gate if not rule["holds"])


def _promote(evaluation: Evaluation, user: User | None) -> None:
    try:
        promote(evaluation.adapter, evaluation=evaluation, user=user, reason=_("The gate passes."))
    except ServiceError as error:
        refuse(adapter=evaluation.adapter, evaluation=evaluation, reason=error.sentence)


# --- shadows --------------------------------------------------------------------------------------------------------


def score_shadow_job(score_id: int) -> None:
    """Score what an adapter proposed for live reports beside the one that served."""
    queued = ShadowScore.objects.filter(pk=score_id, state=JobState.QUEUED)
    if not queued.update(state=JobState.RUNNING, seen=timezone.now(), attempts=F("attempts") + 1):
        return
    score = ShadowScore.objects.select_related("adapter", "other").get(pk=score_id)
    if score.attempts > ATTEMPTS:
        _fail_score(score, _("Its job ended %(count)d times before it was ready.") % {"count": ATTEMPTS})
        return
    try:
        found = score_shadow(score.adapter, score.other)
    except SearchError as error:
        logger.warning("%s was not scored: %s", score, error)
        _fail_score(score, str(error.sentence))
    except Exception:
        _fail_score(score, _("Stopped by an error that the administrator finds in the log."))
        raise
    else:
        if found is None:
            _fail_score(score, _("No confirmed report has queries of both yet."))
            return
        _end_score(
            score,
            state=JobState.DONE,
            figures=found.ours.as_json(),
            other_figures=found.theirs.as_json(),
            comparison=found.comparison,
        )


def _fail_score(score: ShadowScore, error: str) -> None:
    _end_score(score, state=JobState.FAILED, error=error)


def _end_score(score: ShadowScore, **changes: Any) -> None:
    ShadowScore.objects.filter(pk=score.pk, state=JobState.RUNNING).update(finished=timezone.now(), **changes)


# --- ground ---------------------------------------------------------------------------------------------------------


def build_base_job(build_id: int) -> None:
    """Build a base model of the item texts up to now, without those near to the newest test set."""
    queued = BaseBuild.objects.filter(pk=build_id, state=JobState.QUEUED)
    if not queued.update(state=JobState.RUNNING, seen=timezone.now(), attempts=F("attempts") + 1):
        return
    build = BaseBuild.objects.select_related("user").get(pk=build_id)
    if build.attempts > BASE_ATTEMPTS:
        _end_base(
            build, state=JobState.FAILED, error=_("It was interrupted %(count)d times.") % {"count": BASE_ATTEMPTS}
        )
        return
    try:
        running.check_stack()
        tests = EvaluationSet.objects.first()
        base = build_base_model(
            build.profile, until=timezone.now(), excluded=tests, user=build.user, watch=_BaseWatch(build)
        )
    except Stopped:
        BaseBuild.objects.filter(pk=build.pk, state=JobState.RUNNING).update(state=JobState.QUEUED)
    except (*EXPECTED, TrainingError) as error:
        _end_base(build, state=JobState.FAILED, error=str(error))
    except Exception:
        _end_base(build, state=JobState.FAILED, error=_("Stopped by an error that the administrator finds in the log."))
        raise
    else:
        _end_base(build, state=JobState.DONE, base=base)


def _end_base(build: BaseBuild, **changes: Any) -> None:
    BaseBuild.objects.filter(pk=build.pk, state=JobState.RUNNING).update(finished=timezone.now(), **changes)


class _BaseWatch(Unwatched):
    """Writes on the row how far a base is; the worker may be told to end."""

    def __init__(self, build: BaseBuild) -> None:
        self._build = build

    def report(self, progress: Progress) -> None:
        BaseBuild.objects.filter(pk=self._build.pk).update(
            step=progress.step, max_steps=progress.max_steps, seen=timezone.now()
        )

    def should_stop(self) -> bool:
        return is_worker_stopping()


def freeze_job(name: str, cutoff: str, user_id: int = 0) -> None:
    """Freeze a test set; one of that name stays as it is."""
    try:
        freeze(name, cutoff=datetime.fromisoformat(cutoff), user=User.objects.filter(pk=user_id).first())
    except CannotFreeze as error:
        logger.warning("Test set %s was not frozen: %s", name, error)


def withdraw_job() -> None:
    """Withdraw the builds that hold a text which was erased since."""
    withdraw()


# --- the clock ------------------------------------------------------------------------------------------------------


def learning_tick() -> None:
    """Once a minute: go on with what waits, pick up what was lost, retrain by schedule, end old checkpoints."""
    advance()
    _pick_up_builds()
    _pick_up_bases()
    _pick_up_runs()
    _pick_up_evaluations()
    _pick_up_scores()
    schedule.launch_if_due()
    schedule.end_checkpoints()
    search_what_is_due()
    demo.look_after()
    for evaluation in decide_what_is_due():
        settle(evaluation)


def _lost() -> Q:
    """Rows that somebody should work on, and that showed no sign of life for long."""
    now = timezone.now()
    silent = Q(seen__lt=now - LOST_AFTER) | Q(seen=None)
    return Q(state=JobState.QUEUED, at__lt=now - QUEUED_FOR) | (Q(state=JobState.RUNNING) & silent)


def _pick_up_builds() -> None:
    for dataset in Dataset.objects.filter(_lost()).select_related("adapter"):
        queue, job_id = _job_of(dataset)
        if awaits_proposer(dataset) or is_under_way(queue, job_id):
            continue
        Dataset.objects.filter(_lost(), pk=dataset.pk).update(state=JobState.QUEUED)
        enqueue_build(dataset)


def _pick_up_bases() -> None:
    for build_id in BaseBuild.objects.filter(_lost()).values_list("pk", flat=True):
        if not is_under_way("train", f"base-{build_id}"):
            BaseBuild.objects.filter(_lost(), pk=build_id).update(state=JobState.QUEUED)
            enqueue("train", "training.jobs.build_base_job", build_id, job_id=f"base-{build_id}")


def _pick_up_scores() -> None:
    for score_id in ShadowScore.objects.filter(_lost()).values_list("pk", flat=True):
        if not is_under_way("data", f"shadow-score-{score_id}"):
            ShadowScore.objects.filter(_lost(), pk=score_id).update(state=JobState.QUEUED)
            enqueue("data", "training.jobs.score_shadow_job", score_id, job_id=f"shadow-score-{score_id}")


def awaits_proposer(dataset: Dataset) -> bool:
    """Of a chain whose run before has made no adapter yet."""
    return proposes(dataset.kind) and dataset.adapter_id is None and dataset.runs.exists()


def _pick_up_runs() -> None:
    now = timezone.now()
    queued = Run.objects.filter(state=RunState.QUEUED)
    silent = Run.objects.filter(state=RunState.RUNNING, seen__lt=now - LOST_AFTER)
    for run in silent:
        if not is_under_way("train", f"train-{run.pk}"):
            _give_back(silent, run)
    for run_id in queued.values_list("pk", flat=True):
        enqueue_run(run_id)


def _give_back(silent: "QuerySet[Run]", run: Run) -> None:
    """Its worker died: another one goes on with it, unless a person wanted it stopped."""
    mine = silent.filter(pk=run.pk)
    if mine.filter(cancel_requested=True).update(state=RunState.CANCELLED, finished=timezone.now()):
        cancel_followers(run)
    else:
        mine.update(state=RunState.QUEUED)


def _pick_up_evaluations() -> None:
    for evaluation in Evaluation.objects.filter(_lost()):
        if not is_under_way("train", f"evaluation-{evaluation.pk}"):
            Evaluation.objects.filter(_lost(), pk=evaluation.pk).update(state=JobState.QUEUED)
            enqueue_evaluation(evaluation.pk)
    for run in Run.objects.filter(state=RunState.EVALUATING, adapter__isnull=False).select_related("adapter"):
        for evaluation in Evaluation.objects.filter(adapter=run.adapter, evaluation_set=run.evaluation_set_id)[:1]:
            settle(evaluation)

"""The verbs of learning: keyword-only functions, one change each, each in one transaction.

The admin's pages, the commands, the schedule and the tests all call them. What a page records takes the `key` that the
page made for the request, so that a double click is one run. The schedule and the commands have no key.
"""

import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from django.contrib.auth.models import User
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.models import JobState
from audit.queueing import enqueue_after_commit
from audit.services.errors import Conflict, Invalid
from audit.services.once import record_request
from extraction.models import Adapter, AdapterKind, BaseModel
from training.config import Recipe, RecipeError, Step, load_recipe
from training.estimates import Estimate, estimate
from training.models import Dataset, DatasetKind, Evaluation, EvaluationSet, LearningSettings, Refusal, Run, RunState

if TYPE_CHECKING:
    from training.datasets import Options

__all__ = ["Estimate", "build_draft", "cancel", "estimate", "launch", "refuse", "resume", "start_build"]

NEEDS_MODEL = (DatasetKind.POL, DatasetKind.LIST)
"""Datasets that an adapter proposes for: they are built on the queue that has the card, when the adapter is there."""

WILL_MAKE_AN_ADAPTER = (RunState.WAITING, RunState.QUEUED, RunState.RUNNING)


@transaction.atomic
def start_build(
    *,
    kind: DatasetKind,
    options: "Options",
    user: User | None = None,
    key: uuid.UUID | None = None,
    excluded: EvaluationSet | None = None,
    adapter: Adapter | None = None,
    dry_run: bool = False,
) -> Dataset:
    """Record a build and queue it. A dry run counts, writes no rows and waits as a draft for `build_draft`.

    Raises Invalid where D_pol or ranked lists are asked of no adapter.
    """
    _record(key, user, "build")
    if kind in NEEDS_MODEL and adapter is None:
        raise Invalid(_("Choose the adapter that proposes: this dataset is made of its queries."))
    dataset = _new_dataset(kind, options, user=user, excluded=excluded, adapter=adapter, dry_run=dry_run)
    _enqueue_build(dataset)
    return dataset


@transaction.atomic
def build_draft(*, dataset: Dataset, user: User | None = None) -> None:
    """Build what a dry run has counted, from the same log. Raises Conflict where it is no draft any more."""
    changed = Dataset.objects.filter(pk=dataset.pk, state=JobState.DRAFT).update(
        state=JobState.QUEUED, is_dry_run=False, user=user, finished=None
    )
    if not changed:
        raise Conflict(_("This build was already started."))
    _enqueue_build(dataset)


@transaction.atomic
def launch(
    *,
    recipe: str,
    base: BaseModel,
    evaluation_set: EvaluationSet | None = None,
    seed: int = 0,
    gate_decides: bool = False,
    until: datetime | None = None,
    user: User | None = None,
    key: uuid.UUID | None = None,
) -> list[Run]:
    """Start the whole chain of a recipe: its datasets, its trainings one after the other, the evaluation of the last.

    `until`: the log up to there (now). Datasets of the same settings are built once. Without `evaluation_set` nothing
    is evaluated. Raises Invalid where the recipe cannot be read or the gate is to decide about nothing.
    """
    _record(key, user, "launch")
    if gate_decides and evaluation_set is None:
        raise Invalid(_("The gate decides by an evaluation: choose the test set."))
    chain = _load(recipe)
    until = until or timezone.now()
    runs: list[Run] = []
    for step in chain.steps:
        dataset = _dataset_for(step, until=until, excluded=evaluation_set, user=user, previous=runs[-1:])
        is_last = step is chain.steps[-1]
        runs.append(
            Run.objects.create(
                kind=AdapterKind(step.kind),
                recipe=chain.name,
                config=step.config.write() | {"seed": seed},
                base=base,
                after=runs[-1] if runs else None,
                dataset=dataset,
                evaluation_set=evaluation_set if is_last else None,
                gate_decides=gate_decides and is_last,
                seed=seed,
                state=RunState.WAITING,
                user=user,
            )
        )
    enqueue_after_commit("default", "training.jobs.advance", job_id="advance-training")
    return runs


@transaction.atomic
def cancel(*, run: Run) -> None:
    """Stop a run, with a checkpoint if it is under way, and take off what waits for it.

    Raises Conflict where there is nothing to stop.
    """
    # In this order: a worker may take it between the two.
    taken_off = Run.objects.filter(pk=run.pk, state__in=[RunState.WAITING, RunState.QUEUED]).update(
        state=RunState.CANCELLED, finished=timezone.now()
    )
    if not taken_off:
        running = Run.objects.filter(pk=run.pk, state=RunState.RUNNING, cancel_requested=False)
        if not running.update(cancel_requested=True):
            raise Conflict(_("Run %(run)d is not under way: there is nothing to stop.") % {"run": run.pk})
    cancel_followers(run)


def cancel_followers(run: Run) -> None:
    """Take off the runs that wait for this one, which makes no adapter for now. Resuming it brings them back."""
    for follower in run.next_runs.filter(state=RunState.WAITING):
        Run.objects.filter(pk=follower.pk, state=RunState.WAITING).update(
            state=RunState.CANCELLED, finished=timezone.now()
        )
        cancel_followers(follower)


@transaction.atomic
def resume(*, run: Run) -> None:
    """Let a cancelled or failed run go on from its checkpoint, and those after it wait for it again.

    Raises Conflict where it is not over, or where the run before it has made no adapter.
    """
    if run.after is not None and run.after.adapter_id is None and run.after.state not in WILL_MAKE_AN_ADAPTER:
        raise Conflict(
            _("Resume run %(before)d first: run %(run)d starts from its adapter.")
            % {"before": run.after_id, "run": run.pk}
        )
    over = Run.objects.filter(pk=run.pk, state__in=[RunState.CANCELLED, RunState.FAILED])
    changed = over.update(state=RunState.WAITING, cancel_requested=False, attempts=0, error="", trace="", finished=None)
    if not changed:
        raise Conflict(_("Run %(run)d is not over: there is nothing to resume.") % {"run": run.pk})
    Dataset.objects.filter(pk=run.dataset_id, state=JobState.FAILED).update(
        state=JobState.QUEUED, error="", attempts=0, finished=None
    )
    _bring_back_followers(run)
    enqueue_after_commit("default", "training.jobs.advance", job_id="advance-training")


@transaction.atomic
def refuse(*, adapter: Adapter, reason: str, evaluation: Evaluation | None = None, user: User | None = None) -> Refusal:
    """Say that an adapter does not serve, and why; without `user` it is the gate that says so. Raises Invalid."""
    if not reason.strip():
        raise Invalid(_("Give a reason, so that the next person knows."))
    Run.objects.filter(adapter=adapter, state__in=[RunState.DONE, RunState.EVALUATING]).update(state=RunState.REFUSED)
    return Refusal.objects.create(adapter=adapter, evaluation=evaluation, reason=reason.strip(), user=user)


def _bring_back_followers(run: Run) -> None:
    for follower in run.next_runs.filter(state=RunState.CANCELLED, started=None):
        Run.objects.filter(pk=follower.pk).update(state=RunState.WAITING, finished=None)
        _bring_back_followers(follower)


def _record(key: uuid.UUID | None, user: User | None, action: str) -> None:
    if key is not None and user is not None:
        record_request(key=key, user=user, action=action)


def _load(name: str) -> Recipe:
    try:
        return load_recipe(name)
    except RecipeError as error:
        raise Invalid(str(error)) from error


def _dataset_for(
    step: Step, *, until: datetime, excluded: EvaluationSet | None, user: User | None, previous: list[Run]
) -> Dataset:
    """The dataset of a step; one of the same settings that is there, or on its way, serves again."""
    from training.datasets import Options

    kind = DatasetKind(step.dataset)
    options = Options(until=until)
    if kind not in NEEDS_MODEL:
        same = Dataset.objects.filter(kind=kind, options=options.write(), excluded=excluded, is_dry_run=False)
        found = same.exclude(state__in=[JobState.FAILED, JobState.CANCELLED, JobState.DRAFT]).first()
        if found is not None:
            return found
    return _new_dataset(kind, options, user=user, excluded=excluded)


def _new_dataset(
    kind: DatasetKind,
    options: "Options",
    *,
    user: User | None,
    excluded: EvaluationSet | None,
    adapter: Adapter | None = None,
    dry_run: bool = False,
) -> Dataset:
    return Dataset.objects.create(
        name=next_name(Dataset, kind),
        kind=kind,
        options=options.write(),
        until=options.until or timezone.now(),
        excluded=excluded,
        adapter=adapter,
        user=user,
        is_dry_run=dry_run,
    )


def next_name(model: type[models.Model], kind: str) -> str:
    """`comp-9` after `comp-8`. Inside a transaction: whoever numbers waits until the other has committed."""
    LearningSettings.load()
    LearningSettings.objects.select_for_update().get(pk=1)
    names = model._default_manager.filter(name__startswith=f"{kind}-").values_list("name", flat=True)
    numbers = [int(number) for name in names if (number := name.rpartition("-")[2]).isdecimal()]
    return f"{kind}-{max(numbers, default=0) + 1}"


def _enqueue_build(dataset: Dataset) -> None:
    queue = "train" if dataset.kind in NEEDS_MODEL else "data"
    enqueue_after_commit(queue, "training.jobs.build_dataset_job", dataset.pk, job_id=f"dataset-{dataset.pk}")

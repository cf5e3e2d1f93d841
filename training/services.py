"""The verbs of learning: keyword-only functions, one change each, each in one transaction.

The admin's pages, the commands, the schedule and the tests all call them. What a page records takes the `key` that the
page made for the request, so that a double click is one run. The schedule and the commands have no key.
"""

import uuid
from dataclasses import replace
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.models import JobState
from audit.queueing import enqueue_after_commit
from audit.services.errors import Conflict, Invalid
from audit.services.once import record_request
from extraction.models import Adapter, AdapterKind, AdapterRole, BaseModel
from extraction.registry import adapter_in, adapters_at_work
from training.config import Recipe, RecipeError, Step, load_recipe
from training.datasets import Options
from training.estimates import Estimate, estimate, repeated_today
from training.evaluate import create_evaluation
from training.frozen import confirmed_reports
from training.models import (
    BaseBuild,
    Dataset,
    DatasetKind,
    Evaluation,
    EvaluationSet,
    Refusal,
    Run,
    RunState,
    ShadowScore,
)
from training.naming import next_name
from training.promote import promote, rollback, stand_down
from training.shadow import what_is_missing

__all__ = [
    "Estimate",
    "build_draft",
    "cancel",
    "decide_adapter",
    "estimate",
    "launch",
    "refuse",
    "resume",
    "roll_back",
    "start_base",
    "start_build",
    "start_evaluation",
    "start_freeze",
    "start_score",
]


WILL_MAKE_AN_ADAPTER = (RunState.WAITING, RunState.QUEUED, RunState.RUNNING)


@transaction.atomic
def start_build(
    *,
    kind: DatasetKind,
    options: Options,
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
    if kind == DatasetKind.POL and adapter is None:
        raise Invalid(_("Choose the adapter that proposes: this dataset is made of its queries."))
    if adapter is not None and not proposes(kind):
        raise Invalid(_("This dataset is made of the log alone: no adapter proposes for it."))
    options = replace(options, until=options.until or timezone.now())
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
    dataset.refresh_from_db()
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
    is_sure: bool = True,
    reuses: bool = False,
    user: User | None = None,
    key: uuid.UUID | None = None,
) -> list[Run]:
    """Start the whole chain of a recipe: its datasets, its trainings one after the other, the evaluation of the last.

    `until`: the log up to there (now). Datasets of the same settings are built once. Without `evaluation_set` nothing
    is evaluated. Raises Invalid where the recipe cannot be read, the gate is to decide about nothing, or the same was
    launched today and nobody said that this `is_sure`.
    """
    _record(key, user, "launch")
    if gate_decides and evaluation_set is None:
        raise Invalid(_("The gate decides by an evaluation: choose the test set."))
    chain = _load(recipe)
    repeated = repeated_today(chain, base, seed)
    if repeated is not None and not is_sure:
        words = _("The same settings were launched today as run %(run)d. Say that you want them again.")
        raise Invalid(words % {"run": repeated.pk})
    options = Options(until=until or timezone.now(), prompt_version=base.prompt_version)
    runs: list[Run] = []
    for step in chain.steps:
        is_last = step is chain.steps[-1]
        dataset = _dataset_for(step, options=options, excluded=evaluation_set, user=user)
        after = runs[-1] if runs else None
        wanted = {"base": base, "after": after, "dataset": dataset, "config": step.config.write() | {"seed": seed}}
        same = Run.objects.filter(**wanted).exclude(state__in=[RunState.FAILED, RunState.CANCELLED])
        run = same.first() if reuses else None
        runs.append(
            run
            or Run.objects.create(
                **wanted,
                kind=AdapterKind(step.kind),
                recipe=chain.name,
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


@transaction.atomic
def decide_adapter(
    *,
    adapter: Adapter,
    decision: str,
    reason: str,
    evaluation: Evaluation | None = None,
    share: float | None = None,
    user: User | None = None,
    key: uuid.UUID | None = None,
) -> None:
    """`promote` (if the gate lets it), `refuse`, let it be `challenger` of a share of the reports or `shadow`, or
    `leave` every role that it has. Raises Invalid and Conflict, GateRefuses among them.
    """
    _record(key, user, "decide-adapter")
    if decision == "promote":
        promote(adapter, evaluation=evaluation, user=user, reason=reason)
    elif decision == "refuse":
        refuse(adapter=adapter, evaluation=evaluation, reason=reason, user=user)
    elif decision == "leave":
        for role, holder in adapters_at_work().items():
            if holder == adapter:
                stand_down(role=role, seen=adapter, user=user, reason=reason)
    else:
        role = AdapterRole(decision)
        promote(adapter, role=role, share=share or 1.0, seen=adapter_in(role), user=user, reason=reason)


@transaction.atomic
def roll_back(
    *, seen: Adapter | None, reason: str = "", user: User | None = None, key: uuid.UUID | None = None
) -> None:
    """Let who served before serve again; `seen` is who serves, as the person saw it. Raises Invalid, Conflict."""
    _record(key, user, "roll-back")
    rollback(from_adapter=seen, user=user, reason=reason)


@transaction.atomic
def start_evaluation(
    *, adapter: Adapter, evaluation_set: EvaluationSet, user: User | None = None, key: uuid.UUID | None = None
) -> Evaluation:
    """Queue an evaluation of an adapter beside who serves. Raises Conflict where it is being evaluated on this set."""
    _record(key, user, "evaluate")
    same = Evaluation.objects.filter(adapter=adapter, evaluation_set=evaluation_set)
    if same.filter(state__in=[JobState.QUEUED, JobState.RUNNING]).exists():
        raise Conflict(_("It is being evaluated on this test set."))
    evaluation = create_evaluation(adapter, evaluation_set, user)
    enqueue_after_commit("train", "training.jobs.evaluate_job", evaluation.pk, job_id=f"evaluation-{evaluation.pk}")
    return evaluation


@transaction.atomic
def start_score(*, adapter: Adapter, user: User | None = None, key: uuid.UUID | None = None) -> ShadowScore:
    """Queue the scoring of what an adapter proposed for live reports, beside who serves.

    Raises Conflict where it is being scored, or where something is missing for it.
    """
    _record(key, user, "score")
    at_work = adapters_at_work()
    missing = what_is_missing(adapter, at_work)
    if missing:
        raise Conflict(missing)
    if adapter.shadow_scores.filter(state__in=[JobState.QUEUED, JobState.RUNNING]).exists():
        raise Conflict(_("It is being scored already."))
    score = ShadowScore.objects.create(adapter=adapter, other=at_work[AdapterRole.SERVING], user=user)
    enqueue_after_commit("data", "training.jobs.score_shadow_job", score.pk, job_id=f"shadow-score-{score.pk}")
    return score


@transaction.atomic
def start_freeze(*, name: str, cutoff: datetime, user: User | None = None, key: uuid.UUID | None = None) -> None:
    """Queue the freezing of a test set. Raises Invalid where no confirmed report is newer than the cut-off."""
    _record(key, user, "freeze")
    if not confirmed_reports().filter(opened__gt=cutoff).exists():
        raise Invalid(_("Since then no report was confirmed: there is nothing to test on."))
    user_id = user.pk if user is not None else 0
    job = ("data", "training.jobs.freeze_job", name, cutoff.isoformat(), user_id)
    enqueue_after_commit(*job, job_id=f"freeze-{name}")


@transaction.atomic
def start_base(*, profile: str, user: User | None = None, key: uuid.UUID | None = None) -> BaseBuild:
    """Queue the making of a base model of the item texts. Raises Conflict where one of that size is on its way."""
    _record(key, user, "base")
    if BaseBuild.objects.filter(profile=profile, state__in=[JobState.QUEUED, JobState.RUNNING]).exists():
        raise Conflict(_("A base model of this size is being built already."))
    build = BaseBuild.objects.create(profile=profile, user=user)
    enqueue_after_commit("train", "training.jobs.build_base_job", build.pk, job_id=f"base-{build.pk}")
    return build


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


def _dataset_for(step: Step, *, options: Options, excluded: EvaluationSet | None, user: User | None) -> Dataset:
    """The dataset of a step; one of the same settings that is there, or on its way, serves again.

    What the adapter of the step before proposes is drawn anew, when that adapter is there.
    """
    kind = DatasetKind(step.dataset)
    if not proposes(kind):
        same = Dataset.objects.filter(
            kind=kind, options=options.as_json(), excluded=excluded, is_dry_run=False, withdrawn=None
        )
        found = same.exclude(state__in=[JobState.FAILED, JobState.CANCELLED, JobState.DRAFT]).first()
        if found is not None:
            return found
    dataset = _new_dataset(kind, options, user=user, excluded=excluded)
    if not proposes(kind):
        _enqueue_build(dataset)
    return dataset


def proposes(kind: str) -> bool:
    """Whether an adapter can propose the answers of such a dataset."""
    return kind in (DatasetKind.POL, DatasetKind.LIST)


def _new_dataset(
    kind: DatasetKind,
    options: Options,
    *,
    user: User | None,
    excluded: EvaluationSet | None,
    adapter: Adapter | None = None,
    dry_run: bool = False,
) -> Dataset:
    assert options.until is not None  # noqa: S101 - both callers say up to when
    return Dataset.objects.create(
        name=next_name(Dataset, kind),
        kind=kind,
        options=options.as_json(),
        until=options.until,
        excluded=excluded,
        adapter=adapter,
        user=user,
        is_dry_run=dry_run,
    )


def _enqueue_build(dataset: Dataset) -> None:
    """What an adapter proposes for is built where the card is; counting needs none."""
    queue = "data" if dataset.adapter_id is None or dataset.is_dry_run else "train"
    enqueue_after_commit(queue, "training.jobs.build_dataset_job", dataset.pk, job_id=f"dataset-{dataset.pk}")

"""What a launch would cost: what is under way before it, how long it takes by earlier runs, and the disk it needs."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from audit.models import JobState
from extraction.models import BaseModel
from training.config import Recipe, Step
from training.models import Dataset, Run, RunState

UNDER_WAY = (RunState.WAITING, RunState.QUEUED, RunState.RUNNING, RunState.EVALUATING)
_LORA_SHARE = 0.01
"""Weights of an adapter over those of its base, at rank 16: 0.5 % of a 7 B model, 10 % of the smallest one."""
_SMALL_ADAPTER = 50_000
_COPIES = 3 * 4 + 2
"""Times the adapter's size: three checkpoints (weights, two moments of AdamW, the frozen start), the result twice."""
_LATEST = 20


@dataclass(frozen=True)
class Estimate:
    """`seconds`: of the trainings themselves; None where no earlier run tells. `like`: the newest run it goes by.

    `waits_seconds`: until what is under way has ended; None where that is unknown. `repeats`: the same launch, today.
    """

    under_way: list[Run]
    seconds: float | None
    like: Run | None
    waits_seconds: float | None
    disk_bytes: int
    free_bytes: int
    repeats: Run | None

    @property
    def is_short_of_disk(self) -> bool:
        return self.disk_bytes > self.free_bytes


def estimate(*, recipe: Recipe, base: BaseModel, seed: int = 0) -> Estimate:
    """What launching this recipe on this base would cost now."""
    steps = [_step_seconds(step, base) for step in recipe.steps]
    like = earlier_runs(kind=recipe.steps[-1].kind, base=base).first()
    under_way = list(runs_under_way())
    return Estimate(
        under_way=under_way,
        seconds=_sum(steps),
        like=like,
        waits_seconds=_sum(seconds_left(run) for run in under_way),
        disk_bytes=_disk(recipe, base),
        free_bytes=shutil.disk_usage(settings.VAR_DIR).free,
        repeats=repeated_today(recipe, base, seed),
    )


def runs_under_way() -> QuerySet[Run]:
    """Runs that are not over, in the order in which they will be."""
    return Run.objects.filter(state__in=UNDER_WAY).select_related("base", "dataset", "start", "user").order_by("pk")


def seconds_left(run: Run) -> float | None:
    """Of a run that is not over; None where nothing tells."""
    if run.state == RunState.EVALUATING:
        return None
    if run.state == RunState.RUNNING and run.seconds_left is not None:
        return run.seconds_left
    return _seconds(run.kind, run.base, run.dataset.rows_out, int(run.config.get("epochs", 1)))


def earlier_runs(*, kind: str, base: BaseModel) -> QuerySet[Run]:
    """Runs of this kind on this base that came to their end, newest first."""
    return (
        Run.objects.filter(kind=kind, base=base, adapter__isnull=False, dataset__rows_out__gt=0)
        .exclude(started=None)
        .exclude(finished=None)
        .select_related("dataset")
        .order_by("-pk")
    )


def _step_seconds(step: Step, base: BaseModel) -> float | None:
    newest = Dataset.objects.filter(kind=step.dataset, state=JobState.DONE).first()
    return None if newest is None else _seconds(step.kind, base, newest.rows_out, step.config.epochs)


def _seconds(kind: str, base: BaseModel, rows: int, epochs: int) -> float | None:
    """By the median time that a row took in earlier runs of this kind on this base."""
    rates = [
        _took(run) / (run.dataset.rows_out * int(run.config.get("epochs", 1)))
        for run in earlier_runs(kind=kind, base=base)[:_LATEST]
    ]
    return median(rates) * rows * epochs if rates else None


def _took(run: Run) -> float:
    assert run.started is not None and run.finished is not None  # noqa: S101 - earlier_runs leaves out the others
    return (run.finished - run.started).total_seconds()


def _sum(parts: Iterable[float | None]) -> float | None:
    known = list(parts)
    return None if None in known else sum(part for part in known if part is not None)


def _disk(recipe: Recipe, base: BaseModel) -> int:
    """Bytes of checkpoints and adapters, and of the base where this machine has no copy of it yet."""
    weights = max(_SMALL_ADAPTER, int(base.parameters * _LORA_SHARE))
    adapters = sum(weights * 4 * _COPIES * step.config.lora_r // 16 for step in recipe.steps)
    has_copy = bool(base.digest) and (settings.ARTIFACT_CACHE / base.digest).is_dir()
    return adapters + (0 if has_copy else base.parameters * 2)


def repeated_today(recipe: Recipe, base: BaseModel, seed: int) -> Run | None:
    """The first run of the same launch that was pressed today already."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    return Run.objects.filter(recipe=recipe.name, base=base, seed=seed, after=None, at__gte=midnight).first()

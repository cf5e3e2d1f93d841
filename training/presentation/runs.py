"""Runs: how far each is, in words, and its curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from audit.templatetags.audit_ui import duration
from training.config import Recipe
from training.estimates import UNDER_WAY, seconds_left
from training.models import DatasetKind, EvaluationSet, Run, RunState


def about(seconds: float | None) -> str:
    """`about 1 h 25 min`; empty where nothing tells."""
    return "" if seconds is None else _("about %(span)s") % {"span": duration(timedelta(seconds=seconds))}


# --- runs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunRow:
    """A run with the words for how far it is; `ahead` is the run that trains now, where there is one."""

    run: Run
    ahead: Run | None = None

    @property
    def is_pending(self) -> bool:
        return self.run.state in UNDER_WAY

    @property
    def can_stop(self) -> bool:
        is_running = self.run.state == RunState.RUNNING and not self.run.cancel_requested
        return is_running or self.run.state in (RunState.WAITING, RunState.QUEUED)

    @property
    def can_resume(self) -> bool:
        return self.run.state in (RunState.CANCELLED, RunState.FAILED)

    @property
    def has_begun(self) -> bool:
        return self.run.state == RunState.RUNNING and self.run.max_steps > 0

    @property
    def words(self) -> str:
        """Where it stands, in a sentence."""
        run = self.run
        match run.state:
            case RunState.WAITING:
                return self._waits_for()
            case RunState.QUEUED:
                return self._queued()
            case RunState.RUNNING:
                return self._running()
            case RunState.EVALUATING:
                words = _("%(adapter)s is evaluated on %(set)s")
                return words % {"adapter": run.adapter, "set": run.evaluation_set}
            case RunState.FAILED | RunState.CANCELLED:
                return self._kept()
            case _:
                return _("made adapter %(adapter)s") % {"adapter": run.adapter}

    def _waits_for(self) -> str:
        run = self.run
        if run.after is not None and run.after.adapter_id is None:
            return _("waits for run %(run)d") % {"run": run.after_id}
        return _("waits for dataset %(dataset)s") % {"dataset": run.dataset}

    def _queued(self) -> str:
        if self.ahead is None:
            return _("starts when a worker is free")
        words = _("behind run %(run)d")
        left = about(seconds_left(self.ahead))
        return (words % {"run": self.ahead.pk}) + (f", {left}" if left else "")

    def _running(self) -> str:
        run = self.run
        if run.cancel_requested:
            return _("stops after this step, with a checkpoint")
        if not run.max_steps:
            return _("loads the model")
        words = _("step %(step)s of %(max_steps)s, loss %(loss).3f, %(left)s left")
        return words % {
            "step": intcomma(run.step),
            "max_steps": intcomma(run.max_steps),
            "loss": run.loss or 0.0,
            "left": about(run.seconds_left or 0.0),
        }

    def _kept(self) -> str:
        run = self.run
        if not run.checkpoint:
            return _("no checkpoint is kept")
        words = _("checkpoint kept at step %(step)s of %(max_steps)s")
        return words % {"step": intcomma(run.checkpoint_step), "max_steps": intcomma(run.max_steps)}

    @property
    def took(self) -> str:
        run = self.run
        return duration(run.finished - run.started) if run.finished and run.started else ""


def run_rows(runs: QuerySet[Run]) -> list[RunRow]:
    """Rows for a list of runs; those that wait know what trains now."""
    ahead = Run.objects.filter(state=RunState.RUNNING).select_related("base", "dataset").first()
    related = runs.select_related("base", "dataset", "start", "after", "adapter", "evaluation_set", "user")
    return [RunRow(run, ahead if run != ahead else None) for run in related]


def step_words(recipe: Recipe, evaluation_set: EvaluationSet | None) -> list[str]:
    """`SFT on D`, `DPO on D_comp`, `evaluation`."""
    words = [
        _("%(kind)s on %(data)s")
        % {"kind": step.kind.upper(), "data": str(DatasetKind(step.dataset).label).partition(":")[0]}
        for step in recipe.steps
    ]
    return [*words, _("evaluation")] if evaluation_set is not None else words


@dataclass(frozen=True)
class Chart:
    """One line over the steps of a run. Points are in units of the view box, y grows downwards."""

    title: str
    points: str
    low: float
    high: float
    last_step: int
    last: float

    WIDTH = 560
    HEIGHT = 120


def charts(run: Run) -> list[Chart]:
    """The loss, and the reward margin where the training has one; none before there are two points."""
    wanted = [(_("Loss, nats"), 1), (_("Reward margin, nats"), 2)]
    found = []
    for title, column in wanted:
        points = [(point[0], point[column]) for point in run.curve if point[column] is not None]
        if len(points) > 1:
            found.append(_chart(title, points, max(run.max_steps, points[-1][0])))
    return found


def _chart(title: str, points: Sequence[tuple[int, float]], last_step: int) -> Chart:
    low, high = min(value for _step, value in points), max(value for _step, value in points)
    height = (high - low) or 1.0
    placed = " ".join(
        f"{Chart.WIDTH * step / last_step:.1f},{Chart.HEIGHT * (high - value) / height:.1f}" for step, value in points
    )
    return Chart(title, placed, low, high, last_step, points[-1][1])

"""The page "Training" as a whole."""

from datetime import date, timedelta
from functools import cached_property

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.models import JobState
from audit.readiness import Readiness, ready_by_week
from extraction.models import Adapter, AdapterPromotion, AdapterRole
from training.config import RecipeError, load_recipe
from training.models import (
    BaseBuild,
    Dataset,
    DatasetKind,
    Evaluation,
    EvaluationSet,
    LearningSettings,
    Run,
    Weekday,
)
from training.presentation.adapters import AdapterRow, adapter_rows
from training.presentation.datasets import BUILDING, DatasetRow
from training.presentation.evaluations import EvaluationView
from training.presentation.runs import RunRow, run_rows
from training.schedule import new_judgments

LATEST = 20
DRAFTS_SHOWN_FOR = timedelta(days=1)


class Overview:
    """Everything on the page "Training"; each part is asked for once, when it is shown."""

    @cached_property
    def serving(self) -> AdapterPromotion | None:
        return _in_role(AdapterRole.SERVING)

    @cached_property
    def challenger(self) -> AdapterPromotion | None:
        return _in_role(AdapterRole.CHALLENGER)

    @property
    def challenged_percent(self) -> int:
        """The challenger's share of the reports."""
        return round(100 * self.challenger.share) if self.challenger else 0

    @cached_property
    def runs(self) -> list[RunRow]:
        return run_rows(Run.objects.all()[:LATEST])

    @cached_property
    def builds(self) -> list["DatasetRow"]:
        recent = timezone.now() - DRAFTS_SHOWN_FOR
        kept = Dataset.objects.exclude(state=JobState.DRAFT, at__lt=recent)
        return [DatasetRow(dataset) for dataset in kept.select_related("adapter", "excluded", "user")[:LATEST]]

    @property
    def kinds(self) -> list[tuple[str, str]]:
        return [(kind.value, str(kind.label)) for kind in DatasetKind]

    @cached_property
    def adapters(self) -> list[AdapterRow]:
        rows = adapter_rows(Adapter.objects.select_related("base", "parent", "user")[:LATEST])
        return sorted(rows, key=lambda row: not row.roles)  # those at work first

    @cached_property
    def candidates(self) -> list[EvaluationView]:
        """Evaluated adapters that wait for a person's decision, the newest first."""
        waiting = [row.evaluation for row in self.adapters if row.is_candidate and row.evaluation is not None]
        return [EvaluationView(evaluation) for evaluation in waiting]

    @cached_property
    def evaluating(self) -> list[Evaluation]:
        return list(Evaluation.objects.filter(state__in=BUILDING).select_related("adapter", "evaluation_set"))

    @property
    def in_progress(self) -> int:
        return sum(row.is_pending for row in self.runs)

    @property
    def is_pending(self) -> bool:
        """Whether the page should ask again for how far the work is."""
        return bool(self.in_progress or self.evaluating or any(row.is_pending for row in self.builds))

    @cached_property
    def ready(self) -> list[tuple[date, Readiness]]:
        """The weeks in which reports were opened, with how many of them had suggestions by then."""
        return [(monday, figures) for monday, figures in ready_by_week() if figures.opened]

    @cached_property
    def base_builds(self) -> list[BaseBuild]:
        """Those on their way, and the newest one where it failed."""
        newest = BaseBuild.objects.first()
        shown = list(BaseBuild.objects.filter(state__in=BUILDING))
        return [newest, *shown] if newest is not None and newest.state == JobState.FAILED else shown

    @cached_property
    def test_sets(self) -> list[EvaluationSet]:
        return list(EvaluationSet.objects.all()[:LATEST])


class Schedule:
    """When the site retrains by itself, in sentences."""

    def __init__(self) -> None:
        self.row = LearningSettings.load()

    @property
    def words(self) -> str:
        row = self.row
        if not row.recipe or (row.every is None and not row.after_judgments):
            return _("It retrains only when somebody launches it.")
        if not row.after_judgments:
            words = _("%(recipe)s: every %(weekday)s.")
        elif row.every is None:
            words = _("%(recipe)s: after %(count)s new judgments, %(now)s so far.")
        else:
            words = _("%(recipe)s: every %(weekday)s, or after %(count)s new judgments, %(now)s so far.")
        return words % {
            "recipe": self._recipe,
            "weekday": "" if row.every is None else Weekday(row.every).label,
            "count": intcomma(row.after_judgments or 0),
            "now": intcomma(new_judgments()) if row.after_judgments else "",
        }

    @property
    def kept(self) -> str:
        days = self.row.keep_checkpoints
        words = ngettext(
            "Checkpoints stay %(days)d day after a run is over.",
            "Checkpoints stay %(days)d days after a run is over.",
            days,
        )
        return words % {"days": days}

    @property
    def _recipe(self) -> str:
        try:
            return load_recipe(self.row.recipe).title
        except RecipeError as error:
            return str(error)


def _in_role(role: AdapterRole) -> AdapterPromotion | None:
    newest = AdapterPromotion.objects.filter(role=role).select_related("adapter").last()
    return newest if newest is not None and newest.adapter_id is not None else None

"""The card of one adapter."""

from datetime import datetime
from functools import cached_property
from typing import Any

from audit.models import JobState
from extraction.models import Adapter, AdapterPromotion, AdapterRole
from extraction.registry import adapter_in, adapters_at_work
from training.models import Refusal, Run, ShadowScore
from training.presentation.adapters import adapter_rows
from training.presentation.evaluations import EvaluationView, ScoreView
from training.shadow import Arm, arms, what_is_missing


class AdapterCard:
    """Everything that is known of an adapter."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.row = adapter_rows([adapter])[0]

    @cached_property
    def run(self) -> Run | None:
        return Run.objects.select_related("dataset", "user").filter(adapter=self.adapter).first()

    @property
    def settings(self) -> list[tuple[str, Any]]:
        return sorted(self.adapter.card.get("config", {}).items())

    @property
    def metrics(self) -> list[tuple[str, str]]:
        return [(name, f"{value:.4g}") for name, value in sorted(self.adapter.card.get("metrics", {}).items())]

    @cached_property
    def evaluations(self) -> list[EvaluationView]:
        rows = self.adapter.evaluations.select_related("baseline", "evaluation_set", "user", "adapter")
        return [EvaluationView(evaluation) for evaluation in rows]

    @property
    def newest(self) -> EvaluationView | None:
        return next((view for view in self.evaluations if view.evaluation.state == JobState.DONE), None)

    @cached_property
    def history(self) -> list[tuple[AdapterPromotion | Refusal, Adapter | None]]:
        """What happened to it, newest first; a promotion with the adapter that it replaced."""
        promotions = AdapterPromotion.objects.filter(adapter=self.adapter).select_related("user")
        rows: list[AdapterPromotion | Refusal] = [*promotions, *self.adapter.refusals.select_related("user")]
        return [(row, _replaced(row)) for row in sorted(rows, key=lambda row: row.at, reverse=True)]

    @cached_property
    def serving(self) -> Adapter | None:
        return adapter_in(AdapterRole.SERVING)

    @property
    def arms_since(self) -> datetime | None:
        """A challenger and who serves are compared over the same time: since it challenges."""
        promotion = self.row.promotion
        return promotion.at if promotion is not None and AdapterRole.CHALLENGER in self.row.roles else None

    @cached_property
    def arms(self) -> list[Arm]:
        """What people did with its queries, and with those of the adapter that serves."""
        beside = [adapter for adapter in (self.adapter, self.serving) if adapter is not None]
        return arms(since=self.arms_since, adapters=beside)

    @cached_property
    def newest_score(self) -> ShadowScore | None:
        """The newest, done or not."""
        return self.adapter.shadow_scores.select_related("other").first()

    @cached_property
    def score(self) -> ScoreView | None:
        """The newest that is done."""
        score = self.adapter.shadow_scores.select_related("adapter", "other").filter(state=JobState.DONE).first()
        return ScoreView(score) if score is not None else None

    @cached_property
    def missing(self) -> str:
        return what_is_missing(self.adapter, adapters_at_work())


def _replaced(row: AdapterPromotion | Refusal) -> Adapter | None:
    if isinstance(row, Refusal):
        return None
    before = AdapterPromotion.objects.filter(role=row.role, pk__lt=row.pk).select_related("adapter").last()
    return before.adapter if before is not None else None

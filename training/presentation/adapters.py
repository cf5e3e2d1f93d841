"""Adapters in a list: what each is to the site now, and why."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from audit.models import JobState
from extraction.models import Adapter, AdapterPromotion, AdapterRole
from extraction.registry import adapters_at_work
from training.models import Evaluation, Refusal


@dataclass(frozen=True)
class AdapterRow:
    """An adapter in the list: what it is to the site now, its newest evaluation, and why it stands where it does."""

    adapter: Adapter
    roles: tuple[AdapterRole, ...]
    promotion: AdapterPromotion | None
    refusal: Refusal | None
    evaluation: Evaluation | None

    @property
    def state(self) -> str:
        if self.roles:
            return pgettext("between things of a list", ", ").join(str(role.label) for role in self.roles)
        if self.is_refused:
            return _("refused")
        if self.promotion is not None:
            return _("served before")
        return _("candidate")

    @property
    def is_refused(self) -> bool:
        """Whether a refusal is the last word: it was neither promoted nor measured again since."""
        if self.roles or self.refusal is None:
            return False
        since = [row.at for row in [self.promotion] if row is not None]
        since += [row.finished for row in [self.evaluation] if row is not None and row.finished is not None]
        return all(self.refusal.at >= moment for moment in since)

    @property
    def is_candidate(self) -> bool:
        return not self.roles and not self.is_refused and self.promotion is None

    @property
    def is_open(self) -> bool:
        """Whether it may be promoted or refused: it has no role, and nobody refused it since it had one."""
        return not self.roles and not self.is_refused

    @property
    def serves(self) -> bool:
        return AdapterRole.SERVING in self.roles

    @property
    def why(self) -> str:
        if self.is_refused and self.refusal is not None:
            return self.refusal.reason
        return self.promotion.reason if self.promotion is not None else ""

    @property
    def since(self) -> Any:
        if self.is_refused and self.refusal is not None:
            return self.refusal.at
        return self.promotion.at if self.promotion is not None else self.adapter.created

    @property
    def by(self) -> Any:
        row = self.refusal if self.is_refused else self.promotion
        return row.user if row is not None else self.adapter.user


def adapter_rows(adapters: Iterable[Adapter]) -> list[AdapterRow]:
    """Rows for a list of adapters, in three queries for all of them."""
    listed = list(adapters)
    at_work = adapters_at_work()
    promotions = _newest_by_adapter(AdapterPromotion.objects.filter(adapter__in=listed).select_related("user"))
    refusals = _newest_by_adapter(Refusal.objects.filter(adapter__in=listed).select_related("user"))
    evaluations = _newest_by_adapter(
        Evaluation.objects.filter(adapter__in=listed, state=JobState.DONE).select_related(
            "adapter", "baseline", "evaluation_set"
        )
    )
    return [
        AdapterRow(
            adapter,
            tuple(role for role, holder in at_work.items() if holder == adapter),
            promotions.get(adapter.pk),
            refusals.get(adapter.pk),
            evaluations.get(adapter.pk),
        )
        for adapter in listed
    ]


def _newest_by_adapter(rows: "QuerySet[Any]") -> dict[int, Any]:
    return {row.adapter_id: row for row in rows.order_by("pk")}

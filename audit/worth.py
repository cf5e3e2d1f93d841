"""What a suggestion is worth to its reader, learnt from decisions: how many of a report's are shown follows from it.

A suggestion of `search` has its estimate to go by, one of an adapter also the adapter's confidence; either becomes a
probability of acceptance by what was decided on earlier ones (extraction.calibration). What reading costs is measured
too: the time that a decision takes, in queries that find something and that the same time brings otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from statistics import median
from typing import NamedTuple

from django.db.models import Exists, OuterRef, Sum

from audit.models import Decision, DecisionKind, Exposure, Judgment, QueryRun, Verdict
from extraction.calibration import Calibration, count_to_show, expected_yield, fit_calibration, reading_cost
from extraction.models import Adapter
from extraction.suggest import Proposal

LATEST = 5_000
"""Decisions that it is learnt from, the newest ones."""
RELEARNT_AFTER = 200


@dataclass(frozen=True)
class Worth:
    """Acceptance by the estimate, and by the confidence of each adapter that was decided on often enough."""

    by_estimate: Calibration
    by_confidence: Mapping[int, Calibration]
    cost: float
    """Of reading one suggestion, in queries that find something."""

    def count(self, proposals: Sequence[Proposal], adapter: Adapter | None) -> int:
        """How many of a report's proposals to show."""
        own = self.by_confidence.get(adapter.pk) if adapter else None
        return count_to_show([self._expected(proposal, own) for proposal in proposals], cost=self.cost)

    def _expected(self, proposal: Proposal, own: Calibration | None) -> float:
        confidence = proposal.candidate.confidence
        if own is not None and confidence is not None:
            acceptance = own.probability(confidence)
        else:
            acceptance = self.by_estimate.probability(proposal.score)
        return expected_yield(acceptance, proposal.score, proposal.unseen)


def worth() -> Worth | None:
    """What was learnt; None while too little was decided, or no query has found anything yet."""
    newest: int | None = Decision.objects.order_by("id").values_list("pk", flat=True).last()
    return None if newest is None else _learn(newest // RELEARNT_AFTER)


class _Decided(NamedTuple):
    report_id: int
    kind: str
    at: datetime
    duration_ms: int | None
    estimate: float | None
    confidence: float | None
    adapter_id: int | None

    @property
    def is_accepted(self) -> bool:
        """An edited suggestion counts as accepted."""
        return self.kind != DecisionKind.REJECTED


@lru_cache(maxsize=1)
def _learn(_decisions: int) -> Worth | None:
    decided = _newest_decisions()
    on_suggestions = [one for one in decided if one.estimate is not None]
    by_estimate = fit_calibration([one.estimate or 0.0 for one in on_suggestions], _accepted(on_suggestions))
    if by_estimate is None:
        return None
    cost = _cost(decided)
    return None if cost is None else Worth(by_estimate, dict(_by_confidence(on_suggestions)), cost)


def _newest_decisions() -> list[_Decided]:
    fields = (
        *("report_id", "kind", "at", "duration_ms"),
        *("suggestion__estimate", "suggestion__confidence", "suggestion__batch__adapter_id"),
    )
    newest = Decision.objects.standing().order_by("-id").values_list(*fields)[:LATEST]
    return [_Decided(*values) for values in reversed(newest)]


def _accepted(decided: Iterable[_Decided]) -> list[bool]:
    return [one.is_accepted for one in decided]


def _by_confidence(decided: Sequence[_Decided]) -> Iterable[tuple[int, Calibration]]:
    for adapter_id in {one.adapter_id for one in decided} - {None}:
        own = [one for one in decided if one.adapter_id == adapter_id and one.confidence is not None]
        fitted = fit_calibration([one.confidence or 0.0 for one in own], _accepted(own))
        if fitted is not None and adapter_id is not None:
            yield adapter_id, fitted


def _cost(decided: Sequence[_Decided]) -> float | None:
    """What reading one suggestion costs; None where nothing was found, or nobody's time was taken, since the oldest."""
    since = decided[0].at
    reading = list(_reading_s(decided))
    judged = Judgment.objects.filter(at__gte=since).aggregate(total=Sum("duration_ms"))["total"] or 0
    toxic = Exposure.objects.filter(run=OuterRef("pk"), item_text__standing_verdicts__verdict=Verdict.TOXIC)
    effective = QueryRun.objects.filter(at__gte=since).filter(Exists(toxic)).count()
    work_s = sum(seconds for _one, seconds in reading) + judged / 1000
    on_suggestions = [seconds for one, seconds in reading if one.estimate is not None]
    if not effective or not work_s or not on_suggestions:
        return None
    return reading_cost(reading_s=median(on_suggestions), effective_s=work_s / effective)


def _reading_s(decided: Iterable[_Decided]) -> Iterable[tuple[_Decided, float]]:
    """Seconds that each decision took. All suggestions of a report can be seen from the moment when its page opens, so
    a duration counts from the decision before where that came later.
    """
    before: dict[int, datetime] = {}
    for one in decided:
        if one.duration_ms is not None:
            seconds = one.duration_ms / 1000
            if one.report_id in before:
                seconds = min(seconds, (one.at - before[one.report_id]).total_seconds())
            yield one, seconds
        before[one.report_id] = one.at

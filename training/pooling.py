"""The judging task of an evaluation: what either adapter found and nobody judged, in random order, its source hidden.

One pool an evaluation. It is open while the gate waits for verdicts; then what is left of it is not asked for any more.
"""

import random
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from math import ceil

from django.db import transaction
from django.utils import timezone

from audit.models import ItemText, Policy, Pool, PoolItem, Report, StandingVerdict
from audit.presentation.pool import waiting
from training.gate import Found
from training.models import Evaluation, GateVerdict

_CHUNK = 5_000


@transaction.atomic
def ask_for(evaluation: Evaluation, found: Iterable[Found], judged: AbstractSet[int]) -> list[int]:
    """Pool every text that was found and that nobody judged; the texts that wait now, in the order they are asked in.

    A text is judged under the policy, in its present wording, of the report whose query ranked it highest. One that is
    pooled already keeps its place. The order is drawn from the evaluation's number, so it can be drawn again.
    """
    pool, _created = Pool.objects.get_or_create(name=_name(evaluation))
    Pool.objects.select_for_update(no_key=True).get(pk=pool.pk)  # one filling after the other
    asked = set(pool.items.values_list("item_text_id", flat=True))
    reports = {text: report for text, report in _best_report(found).items() if text not in judged | asked}
    fresh = _with_words(sorted(reports))
    random.Random(f"{pool} {len(asked)}").shuffle(fresh)  # noqa: S311 - an order, not a secret
    versions = _versions(set(reports.values()))
    PoolItem.objects.bulk_create(
        (
            PoolItem(pool=pool, item_text_id=text, policy_version_id=versions[reports[text]], position=position)
            for position, text in enumerate(fresh, start=len(asked) + 1)
        ),
        batch_size=_CHUNK,
    )
    return list(waiting().filter(pool=pool).values_list("item_text_id", flat=True))


def close(evaluations: Iterable[Evaluation]) -> None:
    """Ask for no more of these evaluations' texts."""
    names = [_name(evaluation) for evaluation in evaluations]
    Pool.objects.filter(name__in=names, closed=None).update(closed=timezone.now())


def close_superseded(evaluation: Evaluation) -> None:
    """An adapter that was measured again on the same set needs no verdicts for the earlier measurement."""
    earlier = Evaluation.objects.filter(adapter=evaluation.adapter_id, evaluation_set=evaluation.evaluation_set_id)
    close(earlier.filter(pk__lt=evaluation.pk, verdict=GateVerdict.UNDECIDED))


def close_of_another_baseline(serving_id: int | None) -> None:
    """Who is compared with an adapter that serves no more cannot be promoted by it: nobody need judge for that."""
    close(Evaluation.objects.filter(verdict=GateVerdict.UNDECIDED).exclude(baseline=serving_id))


def due() -> list[Evaluation]:
    """Evaluations for which enough was judged since to look again."""
    open_pools = {pool.name: pool for pool in Pool.objects.filter(closed=None)}
    undecided = Evaluation.objects.filter(verdict=GateVerdict.UNDECIDED).select_related("adapter", "evaluation_set")
    return [one for one in undecided if _name(one) in open_pools and _is_due(one, open_pools[_name(one)])]


def _is_due(evaluation: Evaluation, pool: Pool) -> bool:
    new = StandingVerdict.objects.filter(item_text__pool_items__pool=pool, judgment__at__gt=evaluation.finished)
    count = new.exclude(verdict="").values("item_text").distinct().count()
    return count > 0 and (count >= evaluation.to_judge or not waiting().filter(pool=pool).exists())


def how_many(order: Sequence[int], sides: Sequence[AbstractSet[int]], judged: AbstractSet[int], at_least: float) -> int:
    """How many of `order`, judged one after the other, bring judged@100 of every side to `at_least`.

    Where even all of them do not (some are in dispute), the number of all.

    >>> how_many([1, 2, 3], [{1, 2}, {3, 4}], {4}, at_least=0.5)
    1
    """
    missing = [ceil(at_least * len(side) - 1e-9) - len(side & judged) for side in sides]
    for count, text in enumerate(order):
        if all(short <= 0 for short in missing):
            return count
        missing = [short - (text in side) for short, side in zip(missing, sides, strict=True)]
    return len(order)


def _name(evaluation: Evaluation) -> str:
    return f"evaluation-{evaluation.pk}"


def _best_report(found: Iterable[Found]) -> dict[int, int]:
    """text → the report whose query ranked it highest, of two the earlier one."""
    best: dict[int, tuple[int, int]] = {}
    for one in found:
        for rank, text in enumerate(one.ids):
            place = (rank, one.report)
            if place < best.get(text, (rank + 1, 0)):
                best[text] = place
    return {text: report for text, (_rank, report) in best.items()}


def _with_words(text_ids: Sequence[int]) -> list[int]:
    """Those of the texts that were not erased."""
    return [
        pk
        for start in range(0, len(text_ids), _CHUNK)
        for pk in ItemText.objects.filter(pk__in=text_ids[start : start + _CHUNK])
        .exclude(text="")
        .order_by("pk")
        .values_list("pk", flat=True)
    ]


def _versions(report_ids: AbstractSet[int]) -> dict[int, int]:
    """report → the present wording of its policy, as it was corrected."""
    policies = dict(Report.objects.filter(pk__in=report_ids).values_list("pk", "policy_id"))
    current = {policy.pk: policy.current().pk for policy in Policy.objects.filter(pk__in=set(policies.values()))}
    return {report: current[policy] for report, policy in policies.items()}

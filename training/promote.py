"""Who serves: the gate lets an adapter serve, a person with a reason lets it challenge or shadow, one step goes back.

The gate cannot be overridden (docs/decisions/0019-promotion-gate.md). Taking an adapter out needs no gate: `search`
then serves alone, or the adapter before.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from audit.models import JobState
from audit.queueing import enqueue_after_commit
from audit.services.errors import Conflict, Invalid
from extraction.generation import AdapterRefused
from extraction.models import Adapter, AdapterPromotion, AdapterRole
from extraction.registry import (
    NothingToRollBack,
    ServesNoMore,
    adapter_in,
    check_usable,
    promote_adapter,
    rollback_adapter,
)
from training import gate, pooling
from training.models import Evaluation, GateVerdict, Run, RunState


class GateRefuses(Conflict):
    """The gate does not let an adapter serve; `reasons` are sentences with the figures."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(" ".join(reasons))
        self.reasons = list(reasons)


def promote(
    adapter: Adapter,
    *,
    evaluation: Evaluation | None = None,
    user: User | None = None,
    reason: str = "",
    role: AdapterRole = AdapterRole.SERVING,
    share: float = 1.0,
    seen: Adapter | None = None,
) -> AdapterPromotion:
    """Give an adapter a role. To serve it needs an evaluation that the gate passed, against who still serves.

    Another role needs no gate but a reason; `seen` is then who has that role as the person saw it. Raises GateRefuses,
    Invalid without a reason or where its files cannot be used, Conflict where somebody was faster.
    """
    if role != AdapterRole.SERVING:
        _need(reason)
        _check(adapter)
        return _change(adapter, role=role, share=share, seen=seen, user=user, reason=reason)
    reasons = why_not(adapter, evaluation)
    if reasons or evaluation is None:
        raise GateRefuses(reasons)
    _check(adapter)
    with transaction.atomic():
        Run.objects.filter(adapter=adapter).update(state=RunState.PROMOTED)
        return _change(
            adapter, role=role, seen=evaluation.baseline, user=user, reason=reason, grounds=_grounds(evaluation)
        )


def stand_down(
    *, role: AdapterRole, seen: Adapter | None, user: User | None = None, reason: str = ""
) -> AdapterPromotion:
    """Let nobody have a role. Raises Invalid without a reason, Conflict where another has it by now."""
    _need(reason)
    return _change(None, role=role, seen=seen, user=user, reason=reason)


@transaction.atomic
def rollback(*, from_adapter: Adapter | None, user: User | None = None, reason: str = "") -> AdapterPromotion:
    """Let who served before serve again, in one step; that may be nobody. `from_adapter`: who serves, as was seen.

    Raises Conflict where another serves by now, Invalid where nobody ever served.
    """
    try:
        promotion = rollback_adapter(seen=from_adapter, user_id=_id(user), reason=reason)
    except ServesNoMore as error:
        raise Conflict(_("Another adapter serves already. Nothing was changed.")) from error
    except NothingToRollBack as error:
        raise Invalid(_("No adapter served before: there is nothing to go back to.")) from error
    _follow()
    return promotion


def why_not(adapter: Adapter, evaluation: Evaluation | None) -> list[str]:
    """Why the gate does not let an adapter serve, in sentences with the figures; nothing where it does."""
    if evaluation is None or evaluation.adapter_id != adapter.pk:
        return [_("%(adapter)s was not evaluated on a frozen test set.") % {"adapter": adapter}]
    if evaluation.state != JobState.DONE:
        return [_("Its evaluation is not over.")]
    if evaluation.verdict != GateVerdict.PASSES:
        return [gate.sentence(rule) for rule in evaluation.gate if not rule["holds"]]
    serving = adapter_in(AdapterRole.SERVING)
    if evaluation.baseline != serving:
        words = _("It was compared with %(then)s, but %(now)s serves now: evaluate it again.")
        return [words % {"then": evaluation.baseline or _("nobody"), "now": serving or _("nobody")}]
    return []


def newest_evaluation(adapter: Adapter) -> Evaluation | None:
    """The newest finished evaluation of an adapter."""
    done = Evaluation.objects.filter(adapter=adapter, state=JobState.DONE).select_related("baseline", "evaluation_set")
    return done.order_by("-pk").first()


def _need(reason: str) -> None:
    if not reason.strip():
        raise Invalid(_("Give a reason, so that the next person knows."))


def _check(adapter: Adapter) -> None:
    """Before the transaction: fetching the files must not hold up those who write meanwhile."""
    try:
        check_usable(adapter)
    except AdapterRefused as error:
        raise Invalid(str(error)) from error


@transaction.atomic
def _change(
    adapter: Adapter | None,
    *,
    role: AdapterRole,
    seen: Adapter | None,
    user: User | None,
    reason: str,
    share: float = 1.0,
    grounds: Mapping[str, Any] | None = None,
) -> AdapterPromotion:
    try:
        promotion = promote_adapter(
            adapter, role=role, share=share, seen=seen, user_id=_id(user), reason=reason, grounds=grounds
        )
    except ServesNoMore as error:
        raise Conflict(_("Somebody changed who has this role meanwhile. Nothing was changed.")) from error
    _follow()
    return promotion


def _grounds(evaluation: Evaluation) -> dict[str, Any]:
    """What allowed it, as the log keeps it."""
    return {
        "evaluation": evaluation.pk,
        "evaluation_set": evaluation.evaluation_set.name,
        "digest": evaluation.evaluation_set.digest,
        "baseline": evaluation.baseline.name if evaluation.baseline else None,
        "gate": evaluation.gate,
    }


def _follow() -> None:
    """Evaluations against who serves no more are moot, and suggestions that wait are out of date."""
    serving = adapter_in(AdapterRole.SERVING)
    pooling.close_of_another_baseline(serving.pk if serving else None)
    enqueue_after_commit("suggest", "audit.jobs.refresh_suggestions", job_id="refresh-suggestions")


def _id(user: User | None) -> int | None:
    return None if user is None else user.pk

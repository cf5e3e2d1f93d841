"""Which models serve: read by the jobs, changed only here."""

import hashlib
import logging
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone

from extraction import risk
from extraction.artifacts import DamagedArtifact, UnsafeArtifact, artifact_name, fetch_folder, open_artifact
from extraction.generation import AdapterRefused, check_adapter
from extraction.models import Adapter, AdapterPromotion, AdapterRole, BaseModel, RiskModel, RiskPromotion

ReportId = TypeVar("ReportId", int, uuid.UUID)

logger = logging.getLogger(__name__)


class NothingToRollBack(Exception):
    """Nothing served before, so there is nothing to go back to."""


class ServesNoMore(Exception):
    """What the person saw serving does not serve any more: somebody was faster, or pressed twice."""


# --- risk models ----------------------------------------------------------------------------------------------------


def serving_row() -> RiskModel | None:
    """The row of the risk model that serves now; None before the first."""
    promotion = RiskPromotion.objects.select_related("model").order_by("id").last()
    return None if promotion is None else promotion.model


def serving_risk() -> tuple[int, risk.RiskModel] | None:
    """(version, model) that serves now. The weights are read once a process and version.

    None also where its file is missing or damaged: items are then indexed without a risk, toxic ones still leave the
    index, and the next refit replaces it. The log says so each time.
    """
    row = serving_row()
    if row is None:
        return None
    try:
        return row.version, _load(row.digest)
    except (risk.DamagedModel, OSError):
        logger.exception("Risk model %d cannot be read: nothing is scored until a refit or a rollback.", row.version)
        return None


def promote_risk(
    model: RiskModel, *, user_id: int | None = None, reason: str = "", at: datetime | None = None
) -> RiskPromotion:
    """Let `model` serve from now on."""
    return RiskPromotion.objects.create(model=model, user_id=user_id, reason=reason, at=at or timezone.now())


@transaction.atomic
def rollback_risk(*, from_version: int | None = None, user_id: int | None = None, reason: str = "") -> RiskPromotion:
    """Let the model serve again that served before the present one.

    Rolling back twice goes two steps back: promotions that a rollback took back do not count. `from_version` is what
    the person saw serving. Raises ServesNoMore where that changed meanwhile, NothingToRollBack.
    """
    RiskPromotion.objects.select_for_update().order_by("id").last()  # one rollback after the other
    serving = serving_row()
    if from_version is not None and (serving is None or serving.version != from_version):
        raise ServesNoMore
    trail: list[RiskPromotion] = []
    for promotion in RiskPromotion.objects.order_by("id"):
        if promotion.is_rollback:
            trail.pop()
        else:
            trail.append(promotion)
    if len(trail) < 2:
        raise NothingToRollBack
    return RiskPromotion.objects.create(model=trail[-2].model, is_rollback=True, user_id=user_id, reason=reason)


@lru_cache(maxsize=2)
def _load(digest: str) -> risk.RiskModel:
    with default_storage.open(artifact_name(digest)) as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != digest:
        raise risk.DamagedModel("The stored risk model is not the one that was fitted: its digest differs.")
    return risk.loads(data)


# --- adapters -------------------------------------------------------------------------------------------------------


def adapter_in(role: AdapterRole) -> Adapter | None:
    """The adapter that has this role now; None where nobody has it. `search` alone serves where nobody serves."""
    promotion = _newest(role)
    return None if promotion is None else promotion.adapter


def adapters_at_work() -> dict[AdapterRole, Adapter]:
    """Every role that is taken, and by whom: whose queries are to be generated."""
    found = {role: adapter_in(role) for role in AdapterRole}
    return {role: adapter for role, adapter in found.items() if adapter is not None}


def adapter_for(report_id: ReportId) -> tuple[Adapter | None, AdapterRole]:
    """Whose queries a report gets: the challenger's for its share of the reports, else those of who serves.

    A report keeps its side as long as the challenger stays, and none leaves the challenger when its share grows.
    """
    return adapters_for([report_id])[report_id]


def adapters_for(report_ids: Iterable[ReportId]) -> dict[ReportId, tuple[Adapter | None, AdapterRole]]:
    """The same for many reports, in as few queries as for one."""
    serving, promotion = adapter_in(AdapterRole.SERVING), _newest(AdapterRole.CHALLENGER)
    challenger = promotion.adapter if promotion else None
    sides: dict[ReportId, tuple[Adapter | None, AdapterRole]] = {}
    for report_id in report_ids:
        if promotion and challenger and _place(report_id, challenger.name) < promotion.share:
            sides[report_id] = (challenger, AdapterRole.CHALLENGER)
        else:
            sides[report_id] = (serving, AdapterRole.SERVING)
    return sides


def check_usable(adapter: Adapter) -> None:
    """Raise AdapterRefused unless the adapter can be put on its base, whose files are still there.

    Its own files are fetched to this machine, which can take a while the first time: call it outside a transaction too.
    """
    _check_base(adapter.base)
    try:
        check_adapter(fetch_folder(adapter.digest), adapter=adapter, base=adapter.base)
    except (DamagedArtifact, UnsafeArtifact) as error:
        raise AdapterRefused(f"The files of {adapter} cannot be used. {error}") from error


@transaction.atomic
def promote_adapter(
    adapter: Adapter | None,
    *,
    seen: Adapter | None,
    role: AdapterRole = AdapterRole.SERVING,
    share: float = 1.0,
    user_id: int | None = None,
    reason: str = "",
    grounds: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> AdapterPromotion:
    """Give a role to an adapter, or to nobody. One that begins to serve leaves the other roles that it had.

    `seen` is who had the role when the person (or the gate) decided: of two who decide at once, one is refused.
    Raises ServesNoMore, and AdapterRefused where the adapter's files are missing, unsafe or not for its base.
    """
    if not 0 < share <= 1:
        raise ValueError(f"A share of the reports is above 0 and at most 1, not {share}.")
    if adapter is not None:
        check_usable(adapter)
    _lock_promotions()
    if adapter_in(role) != seen:
        raise ServesNoMore
    at = at or timezone.now()
    if adapter is not None and role == AdapterRole.SERVING:
        for other in (AdapterRole.CHALLENGER, AdapterRole.SHADOW):
            if adapter_in(other) == adapter:
                AdapterPromotion.objects.create(role=other, adapter=None, user_id=user_id, reason=reason, at=at)
    return AdapterPromotion.objects.create(
        role=role, adapter=adapter, share=share, user_id=user_id, reason=reason, grounds=dict(grounds or {}), at=at
    )


@transaction.atomic
def rollback_adapter(
    *,
    seen: Adapter | None,
    role: AdapterRole = AdapterRole.SERVING,
    user_id: int | None = None,
    reason: str = "",
) -> AdapterPromotion:
    """Give a role back to who had it before, which may be nobody.

    Rolling back twice goes two steps back, as in `rollback_risk`. Raises ServesNoMore where `seen` does not have the
    role any more, NothingToRollBack.
    """
    _lock_promotions()
    if adapter_in(role) != seen:
        raise ServesNoMore
    trail: list[AdapterPromotion] = []
    for promotion in AdapterPromotion.objects.filter(role=role).select_related("adapter").order_by("id"):
        if promotion.is_rollback:
            trail.pop()
        else:
            trail.append(promotion)
    if not trail:
        raise NothingToRollBack
    before = trail[-2] if len(trail) > 1 else AdapterPromotion(role=role, adapter=None)
    return AdapterPromotion.objects.create(
        role=role, adapter=before.adapter, share=before.share, is_rollback=True, user_id=user_id, reason=reason
    )


def _newest(role: AdapterRole) -> AdapterPromotion | None:
    return AdapterPromotion.objects.select_related("adapter__base").filter(role=role).order_by("id").last()


def _place(report_id: int | uuid.UUID, challenger: str) -> float:
    """Where a report falls between 0 and 1; another challenger draws anew."""
    return int.from_bytes(hashlib.sha256(f"{challenger} {report_id}".encode()).digest()[:8]) / 2**64


def _lock_promotions() -> None:
    """One change after the other. The first adapter's row stands for all of them: a table of promotions may be empty,
    and an empty table has no row that two could wait for.
    """
    Adapter.objects.select_for_update(no_key=True).order_by("id").first()


def _check_base(base: BaseModel) -> None:
    if not base.digest:
        return  # one of the model hub: the worker that loads it fetches it at its pinned revision
    try:
        open_artifact(base.digest).close()
    except DamagedArtifact as error:
        raise AdapterRefused(f"The files of the base {base} are gone. {error}") from error

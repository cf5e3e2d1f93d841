"""Which model serves: read by the jobs, changed only here."""

from datetime import datetime
from functools import lru_cache

from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone

from extraction import risk
from extraction.models import RiskModel, RiskPromotion, artifact_name


class NothingToRollBack(Exception):
    """No other risk model served before this one."""


def serving_row() -> RiskModel | None:
    """The row of the risk model that serves now; None before the first."""
    promotion = RiskPromotion.objects.select_related("model").order_by("id").last()
    return None if promotion is None else promotion.model


def serving_risk() -> tuple[int, risk.RiskModel] | None:
    """(version, model) that serves now. The weights are read once a process and version.

    Raises risk.DamagedModel where the stored bytes cannot be read.
    """
    row = serving_row()
    return None if row is None else (row.version, _load(row.digest))


def promote_risk(
    model: RiskModel, *, user_id: int | None = None, reason: str = "", at: datetime | None = None
) -> RiskPromotion:
    """Let `model` serve from now on."""
    return RiskPromotion.objects.create(model=model, user_id=user_id, reason=reason, at=at or timezone.now())


@transaction.atomic
def rollback_risk(*, user_id: int | None = None, reason: str = "") -> RiskPromotion:
    """Let the model serve again that served before the present one. Raises NothingToRollBack.

    Rolling back twice goes two steps back: promotions that a rollback took back do not count.
    """
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
        return risk.loads(file.read())

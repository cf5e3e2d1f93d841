"""Which model serves: read by the jobs, changed only here."""

import hashlib
import logging
from datetime import datetime
from functools import lru_cache

from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone

from extraction import risk
from extraction.artifacts import artifact_name
from extraction.models import RiskModel, RiskPromotion

logger = logging.getLogger(__name__)


class NothingToRollBack(Exception):
    """No other risk model served before this one."""


class ServesNoMore(Exception):
    """The version to go back from does not serve any more: somebody was faster, or pressed twice."""


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

"""Judge what an evaluation needs judged: texts that adapters' queries found, without their source."""

import uuid
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from audit.models import Judgment, Pool, PoolItem, StandingVerdict, Verdict
from audit.services.errors import Conflict
from audit.services.once import record_request
from audit.verdicts import lock_item, record_verdict


@transaction.atomic
def judge_pool_item(
    *,
    pool_item: PoolItem,
    user: User,
    verdict: Verdict,
    key: uuid.UUID,
    reason: str = "",
    duration_ms: int | None = None,
    at: datetime | None = None,
) -> Judgment:
    """Judge a pooled text under the policy version that its pool names; what follows is as for any judgment.

    Raises Conflict where the text was judged meanwhile (under any policy), is not asked for any more, or was erased.
    """
    record_request(key=key, user=user, action="judge pool item", at=at)
    lock_item(pool_item.item_text.item_id)
    if not Pool.objects.filter(pk=pool_item.pool_id, closed=None).exists():
        raise Conflict(_("Enough was judged meanwhile: this text is not asked for any more. Nothing was recorded."))
    pool_item.item_text.refresh_from_db()
    if not pool_item.item_text.text:
        raise Conflict(_("This text was erased meanwhile. Nothing was recorded."))
    if StandingVerdict.objects.filter(item_text=pool_item.item_text).exclude(verdict="").exists():
        raise Conflict(_("This text was judged meanwhile. Here is the verdict; yours was not recorded."))
    return record_verdict(
        item_text=pool_item.item_text,
        policy_version=pool_item.policy_version,
        verdict=verdict,
        user=user,
        pool_item=pool_item,
        reason=reason,
        duration_ms=duration_ms,
        at=at,
    )

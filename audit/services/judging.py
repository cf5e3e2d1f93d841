"""Judge what was exposed, take a judgment back, reinstate an item."""

import uuid
from datetime import datetime

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.models import (
    Exposure,
    Item,
    Judgment,
    Policy,
    Removal,
    Report,
    ReportEvent,
    ReportEventKind,
    ReportStatus,
    StandingVerdict,
    Verdict,
)
from audit.services.errors import Conflict, Invalid, NotHeld
from audit.services.explorations import may_work
from audit.services.once import record_request
from audit.services.reports import lease_end
from audit.verdicts import index_soon, lock_item, record_undo, record_verdict, set_removed


@transaction.atomic
def judge(
    *,
    exposure: Exposure,
    user: User,
    verdict: Verdict,
    key: uuid.UUID,
    policy: Policy | None = None,
    reason: str = "",
    duration_ms: int | None = None,
    at: datetime | None = None,
) -> Judgment:
    """Judge an exposed text, under the policy of the report that it was found for unless another is named.

    Raises NotHeld for somebody else's exploration, Conflict where the text was judged since it was shown.
    """
    record_request(key=key, user=user, action="judge", at=at)
    lock_item(exposure.item_id)
    if not may_work(exposure.run.exploration_query.exploration, user):
        raise NotHeld(_("This exploration belongs to someone else. Nothing was recorded."))
    policy_version = (policy or policy_of(exposure)).current()
    standing = StandingVerdict.objects.filter(item_text=exposure.item_text, policy_version=policy_version).first()
    if standing is not None and standing.verdict and standing.judgment.at >= exposure.at:
        raise Conflict(_("This text was judged meanwhile. Here is the verdict; yours was not recorded."))
    return record_verdict(
        item_text=exposure.item_text,
        policy_version=policy_version,
        verdict=verdict,
        user=user,
        exposure=exposure,
        reason=reason,
        duration_ms=duration_ms,
        at=at,
    )


@transaction.atomic
def undo_judgment(*, judgment: Judgment, user: User, key: uuid.UUID, at: datetime | None = None) -> Judgment:
    """Take one's own judgment back; the item returns to the results if nothing else keeps it out.

    Raises Conflict where it was taken back before, is someone else's, or its report has moved on.
    """
    record_request(key=key, user=user, action="undo judgment", at=at)
    lock_item(judgment.item_text.item_id)
    if judgment.user_id != user.pk:
        raise Conflict(_("Only the person who judged can take a judgment back."))
    if judgment.undoes_id is not None or Judgment.objects.filter(undoes=judgment).exists():
        raise Conflict(_("This was already taken back."))
    if judgment.report is not None:
        _reopen(judgment.report, user, at)
    return record_undo(judgment=judgment, user=user, at=at)


@transaction.atomic
def reinstate(*, item: Item, user: User, reason: str, key: uuid.UUID, at: datetime | None = None) -> Removal:
    """Bring a removed item back into the results. Raises Invalid without a reason, Conflict where it is not removed."""
    record_request(key=key, user=user, action="reinstate", at=at)
    if not reason.strip():
        raise Invalid(_("Give a reason, so that the next person knows."))
    removal = set_removed(item=item, removed=False, user=user, reason=reason, at=at)
    item.refresh_from_db()
    if at is None:
        index_soon(item)
    if removal is None:
        raise Conflict(_("This item is not removed. Here is how it stands now."))
    return removal


def policy_of(exposure: Exposure) -> Policy:
    """The policy of the report that the exposure's query was decided for."""
    decision = exposure.run.exploration_query.decisions.select_related("report__policy").order_by("id").first()
    if decision is None:
        raise Invalid(_("This result names no report. Choose a policy."))
    policy: Policy = decision.report.policy
    return policy


def _reopen(report: Report, user: User, at: datetime | None) -> None:
    """The report goes back to `claimed`, as it was before its text was judged."""
    report.refresh_from_db(from_queryset=Report.objects.select_for_update(no_key=True))
    if report.decisions.exclude(kind="undone").filter(undone_by=None).exists():
        raise Conflict(_("Queries of this report were already decided. Take those back first."))
    if report.status != ReportStatus.CLOSED and report.claimed_by_id != user.pk:
        raise NotHeld(_("This report is not yours, or no longer. What you recorded is kept; take it again to go on."))
    report.status, report.outcome, report.closed, report.confirmed = ReportStatus.CLAIMED, "", None, None
    report.claimed_by, report.lease_until = user, lease_end()
    try:
        with transaction.atomic():
            report.save(update_fields=["status", "outcome", "closed", "confirmed", "claimed_by", "lease_until"])
    except IntegrityError as error:
        raise Conflict(_("A newer report about this item is open. Judge it there.")) from error
    ReportEvent.objects.create(report=report, kind=ReportEventKind.REOPENED, user=user, at=at or timezone.now())

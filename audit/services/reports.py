"""Claim, judge, release and close a report."""

import hashlib
import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.models import (
    Arm,
    Judgment,
    Outcome,
    Policy,
    Report,
    ReportEvent,
    ReportEventKind,
    ReportStatus,
    SiteSettings,
    Verdict,
)
from audit.queueing import enqueue_after_commit
from audit.services.errors import Conflict, Invalid, NotHeld
from audit.services.once import record_request
from audit.verdicts import lock_item, record_verdict


@transaction.atomic
def claim(*, report: Report, user: User, key: uuid.UUID, at: datetime | None = None) -> Report:
    """Take a free report for this user, with a lease. Raises Conflict where somebody else holds it or it is closed."""
    record_request(key=key, user=user, action="claim", at=at)
    if not _claim(report.pk, user, at or timezone.now()):
        raise Conflict(_("Someone else has taken this report. Nothing was changed."))
    report.refresh_from_db()
    return report


def take_next(*, user: User, key: uuid.UUID, at: datetime | None = None) -> Report | None:
    """Claim the free report that is due first; None where none waits. A report this user already holds comes first."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)  # two tabs of one person take one after the other
        held: Report | None = Report.objects.held_by(user).in_queue_order().first()
        if held is not None:
            return held
        record_request(key=key, user=user, action="take next", at=at)
        for pk in Report.objects.free().in_queue_order().values_list("pk", flat=True)[:50]:
            if _claim(pk, user, at or timezone.now()):
                return Report.objects.get(pk=pk)
    return None


def heartbeat(*, report: Report, user: User) -> Report:
    """Extend the lease. Raises NotHeld where it ran out and the report went to somebody else."""
    extended = Report.objects.held_rows(user).filter(pk=report.pk).update(lease_until=lease_end())
    report.refresh_from_db()
    if not extended:
        raise NotHeld(_("This report is no longer yours. What you recorded is kept."))
    return report


@transaction.atomic
def release(*, report: Report, user: User, key: uuid.UUID, at: datetime | None = None) -> Report:
    """Put the report back into the queue. What was decided stays; a confirmed report goes on where it stopped."""
    record_request(key=key, user=user, action="release", at=at)
    hold(report, user)
    Report.objects.filter(pk=report.pk).update(status=ReportStatus.WAITING, claimed_by=None, lease_until=None)
    _event(report, ReportEventKind.RELEASED, user, at)
    if at is None:  # what was rejected or taken back meanwhile makes the stored suggestions stale
        enqueue_after_commit("suggest", "audit.jobs.refresh_suggestions", job_id="refresh-suggestions")
    report.refresh_from_db()
    return report


@transaction.atomic
def judge_report(
    *,
    report: Report,
    user: User,
    verdict: Verdict,
    policy: Policy,
    key: uuid.UUID,
    reason: str = "",
    duration_ms: int | None = None,
    at: datetime | None = None,
) -> Judgment:
    """Judge the reported text itself, first of all; the policy may be corrected on the way.

    Toxic confirms the report: its item leaves the results and exploring begins. Normal closes it as unfounded. Can't
    tell closes it as escalated and needs a reason. Raises NotHeld, Invalid, or Conflict where it was judged before.
    """
    record_request(key=key, user=user, action="judge report", at=at)
    lock_item(report.item_id)
    hold(report, user)
    if report.status != ReportStatus.CLAIMED:
        raise Conflict(_("The reported text was already judged. Here is how it stands now."))
    if verdict == Verdict.CANT_TELL and not reason.strip():
        raise Invalid(_("Say what is missing to decide it. The report then goes to a second person."))
    if policy.pk != report.policy_id:
        report.policy = policy
        report.save(update_fields=["policy"])
        _event(report, ReportEventKind.POLICY, user, at, policy=policy)
    judgment = record_verdict(
        item_text=report.item_text,
        policy_version=policy.current(),
        verdict=verdict,
        user=user,
        report=report,
        reason=reason,
        duration_ms=duration_ms,
        at=at,
    )
    _event(report, ReportEventKind.JUDGED, user, at, reason=reason)
    if verdict == Verdict.TOXIC:
        report.status, report.confirmed = ReportStatus.EXPLORING, at or timezone.now()
        report.save(update_fields=["status", "confirmed"])
    else:
        outcome = Outcome.UNFOUNDED if verdict == Verdict.NORMAL else Outcome.ESCALATED
        _close(report, user, outcome, reason, at)
    return judgment


@transaction.atomic
def reveal_suggestions(*, report: Report, user: User, key: uuid.UUID, at: datetime | None = None) -> Report:
    """Show the suggestions of a report of the arm `own first`, after the auditor marked their own queries."""
    record_request(key=key, user=user, action="reveal", at=at)
    hold(report, user)
    if report.revealed is None:
        report.revealed = at or timezone.now()
        report.save(update_fields=["revealed"])
        _event(report, ReportEventKind.REVEALED, user, at)
    return report


@transaction.atomic
def close(
    *, report: Report, user: User, outcome: Outcome, key: uuid.UUID, reason: str = "", at: datetime | None = None
) -> Report:
    """End the work on a report: confirmed (done), or skipped or escalated with a reason.

    Raises NotHeld, or Invalid where the reason is missing or the reported text was not judged toxic before `confirmed`.
    """
    record_request(key=key, user=user, action="close", at=at)
    hold(report, user)
    if outcome == Outcome.UNFOUNDED or (outcome == Outcome.CONFIRMED and report.status != ReportStatus.EXPLORING):
        raise Invalid(_("Judge the reported text first."))
    if outcome in {Outcome.SKIPPED, Outcome.ESCALATED} and not reason.strip():
        raise Invalid(_("Give a reason, so that the next person knows."))
    _close(report, user, outcome, reason, at)
    return report


def close_for_all(report: Report, user: User, reason: str) -> Report:
    """Close an open report whoever holds it; it keeps the verdict that it has. The caller holds the transaction."""
    _close(report, user, Outcome.CONFIRMED if report.confirmed else Outcome.SKIPPED, reason, None)
    return report


def hold(report: Report, user: User) -> None:
    """Make sure that this user holds the report, lock its row and read its newest state into `report`.

    Every step extends the lease. A lease that ran out is still good while nobody else took the report: the work of its
    holder is not lost. Raises NotHeld.
    """
    held = Report.objects.held_rows(user).filter(pk=report.pk).update(lease_until=lease_end())
    report.refresh_from_db()
    if not held:
        raise NotHeld(_("This report is not yours, or no longer. What you recorded is kept; take it again to go on."))


def _claim(pk: int, user: User, now: datetime) -> bool:
    """Compare-and-swap: exactly one of two who try gets it (SELECT … FOR UPDATE is silently nothing on SQLite)."""
    report = Report.objects.only("confirmed", "revealed").get(pk=pk)
    arm = _draw_arm(pk) if report.confirmed is None else None
    changed = (
        Report.objects.open()
        .filter(pk=pk, confirmed=report.confirmed)
        .filter(Q(claimed_by=None) | Q(lease_until=None) | Q(lease_until__lte=timezone.now()) | Q(claimed_by=user))
        .update(
            status=ReportStatus.CLAIMED if report.confirmed is None else ReportStatus.EXPLORING,
            claimed_by=user,
            lease_until=lease_end(),
            **({"arm": arm} if arm and report.revealed is None else {}),
        )
    )
    if changed:
        fresh = Report.objects.get(pk=pk)
        _event(fresh, ReportEventKind.CLAIMED, user, now, arm=Arm(fresh.arm))
    return changed == 1


def lease_end() -> datetime:
    return timezone.now() + timedelta(minutes=settings.CLAIM_LEASE_MINUTES)


def _draw_arm(pk: int) -> Arm:
    """The arm of a report, drawn from its number: the same however often it is claimed and released."""
    share = SiteSettings.load().own_first_share
    draw = int.from_bytes(hashlib.sha256(f"arm {pk}".encode()).digest()[:4], "big") / 2**32
    return Arm.OWN_FIRST if draw < share else Arm.VISIBLE


def _close(report: Report, user: User, outcome: Outcome, reason: str, at: datetime | None) -> None:
    report.status, report.outcome = ReportStatus.CLOSED, outcome
    report.closed, report.lease_until = at or timezone.now(), None
    report.save(update_fields=["status", "outcome", "closed", "lease_until"])
    _event(report, ReportEventKind.CLOSED, user, at, outcome=outcome, reason=reason)


def _event(
    report: Report,
    kind: ReportEventKind,
    user: User,
    at: datetime | None,
    *,
    arm: Arm | None = None,
    policy: Policy | None = None,
    outcome: Outcome | None = None,
    reason: str = "",
) -> None:
    ReportEvent.objects.create(
        report=report,
        kind=kind,
        user=user,
        at=at or timezone.now(),
        arm=arm or "",
        policy=policy,
        outcome=outcome or "",
        reason=reason,
    )

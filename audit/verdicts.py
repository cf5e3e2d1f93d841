"""One place that writes judgments, and everything that follows from one: the standing verdict, the removal of a toxic
item or its return, the new index version, the event for the platform.
"""

from datetime import datetime

from django.contrib.auth.models import User
from django.db.models import F, QuerySet
from django.utils import timezone

from audit import outbox
from audit.models import (
    Exposure,
    Item,
    ItemState,
    ItemText,
    Judgment,
    PolicyVersion,
    PoolItem,
    Removal,
    RemovalKind,
    Report,
    StandingVerdict,
    Verdict,
)
from audit.queueing import enqueue_after_commit


def record_verdict(
    *,
    item_text: ItemText,
    policy_version: PolicyVersion,
    verdict: Verdict,
    user: User,
    exposure: Exposure | None = None,
    report: Report | None = None,
    pool_item: PoolItem | None = None,
    reason: str = "",
    duration_ms: int | None = None,
    at: datetime | None = None,
) -> Judgment:
    """Append a judgment and bring what follows from it up to date. The caller holds the transaction."""
    lock_item(item_text.item_id)
    judgment = Judgment.objects.create(
        item_text=item_text,
        policy_version=policy_version,
        verdict=verdict,
        exposure=exposure,
        report=report,
        pool_item=pool_item,
        reason=reason,
        user=user,
        duration_ms=duration_ms,
        at=at or timezone.now(),
    )
    _follow(judgment, user, at)
    return judgment


def record_undo(*, judgment: Judgment, user: User, at: datetime | None = None) -> Judgment:
    """Take a judgment back by a row that undoes it. The caller holds the transaction and has checked the right."""
    lock_item(judgment.item_text.item_id)
    undo = Judgment.objects.create(
        item_text=judgment.item_text,
        policy_version=judgment.policy_version,
        undoes=judgment,
        exposure=judgment.exposure,
        report=judgment.report,
        pool_item=judgment.pool_item,
        user=user,
        at=at or timezone.now(),
    )
    _follow(undo, user, at)
    return undo


def lock_item(item_id: int) -> None:
    """Let two transactions that judge one item come one after the other: each sees what the earlier one wrote.

    SQLite's IMMEDIATE transactions do so by themselves. Whoever locks an item and its report locks the item first, as
    the imports do. `no_key`: rows that only name the item may still be written.
    """
    Item.objects.select_for_update(no_key=True).filter(pk=item_id).first()


def set_removed(
    *,
    item: Item,
    removed: bool,
    user: User,
    judgment: Judgment | None = None,
    reason: str = "",
    at: datetime | None = None,
) -> Removal | None:
    """Take an item out of the results, or bring it back, unless it already is so. An item that is gone stays gone."""
    before, after = (ItemState.LIVE, ItemState.REMOVED) if removed else (ItemState.REMOVED, ItemState.LIVE)
    if not Item.objects.filter(pk=item.pk, state=before).update(state=after, version=F("version") + 1):
        return None
    kind = RemovalKind.REMOVED if removed else RemovalKind.REINSTATED
    removal = Removal.objects.create(
        item=item, kind=kind, judgment=judgment, user=user, reason=reason, at=at or timezone.now()
    )
    outbox.emit(item=item, kind=kind.value, payload={"reason": reason}, at=removal.at)
    return removal


def index_soon(item: Item) -> None:
    """Bring the index up to date right after the commit; the sweeper would do it within a minute."""
    enqueue_after_commit("explore", "audit.jobs.index_item", item.pk)


def standing_of(item_text: ItemText, policy_version: PolicyVersion) -> tuple[str, bool, Judgment | None]:
    """(verdict, is_disputed, newest judgment) from the judgments that nobody undid.

    Each person's newest verdict counts; where two people differ the text counts as unjudged until one of them agrees.
    """
    newest: dict[int, Judgment] = {}
    for judgment in _standing(item_text, policy_version):
        newest[judgment.user_id] = judgment
    if not newest:
        return "", False, None
    last = max(newest.values(), key=lambda judgment: judgment.pk)
    if len({judgment.verdict for judgment in newest.values()}) > 1:
        return "", True, last
    return last.verdict, False, last


def _standing(item_text: ItemText, policy_version: PolicyVersion) -> QuerySet[Judgment]:
    return Judgment.objects.standing().filter(item_text=item_text, policy_version=policy_version).order_by("pk")


def _follow(judgment: Judgment, user: User, at: datetime | None) -> None:
    verdict, is_disputed, last = standing_of(judgment.item_text, judgment.policy_version)
    StandingVerdict.objects.update_or_create(
        item_text=judgment.item_text,
        policy_version=judgment.policy_version,
        defaults={"verdict": verdict, "is_disputed": is_disputed, "judgment": last or judgment},
    )
    item = judgment.item_text.item
    if at is None:
        index_soon(item)
    if not _settle_item(item, judgment, is_disputed, user, at):
        # The verdict itself is part of the index entry (past precision), so the entry is behind now.
        Item.objects.filter(pk=item.pk).update(version=F("version") + 1)
    outbox.emit(
        item=item,
        kind="verdict",
        payload={
            "judgment": str(judgment.public_id),
            "verdict": verdict or ("disputed" if is_disputed else "none"),
            "policy": judgment.policy_version.policy.key,
            "policy_version": judgment.policy_version.number,
            "text_hash": judgment.item_text.text_hash,
        },
        at=judgment.at,
    )


def _settle_item(item: Item, judgment: Judgment, is_disputed: bool, user: User, at: datetime | None) -> bool:
    """Remove or reinstate the item as the standing verdicts on its present text say; True where that changed it.

    A verdict on an older text, or a disagreement, leaves the item as it is.
    """
    if is_disputed or item.text_id != judgment.item_text_id:
        return False
    is_toxic = StandingVerdict.objects.filter(item_text=judgment.item_text, verdict=Verdict.TOXIC).exists()
    return set_removed(item=item, removed=is_toxic, user=user, judgment=judgment, at=at) is not None

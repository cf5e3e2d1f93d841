"""Erase what a person wrote: the one change that reaches into the log, and only into texts.

Rows, figures and digests stay, so that nothing that was counted changes; the words go. What learned from them is looked
after by `training.withdrawing`: builds of datasets that hold the text are withdrawn, frozen indexes are made anew.
"""

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db.models import F, QuerySet
from django.utils.translation import gettext as _

from audit.append_only import maintenance_pass
from audit.exports import end_with_texts
from audit.models import Complaint, Item, ItemState, ItemText, MaintenancePass, Report
from audit.services.errors import Invalid
from audit.services.reports import close_for_all
from audit.verdicts import index_soon, lock_item

_REASON = "Erasure: "
LONGEST_REASON = 150


@dataclass(frozen=True)
class Erased:
    """How many rows lost their words, reports were closed and export files ended."""

    texts: int = 0
    complaints: int = 0
    reports: int = 0
    exports: int = 0

    def __add__(self, other: "Erased") -> "Erased":
        return Erased(
            self.texts + other.texts,
            self.complaints + other.complaints,
            self.reports + other.reports,
            self.exports + other.exports,
        )


def erase_item(*, item: Item, user: User, reason: str) -> Erased:
    """Blank every text of an item, its author and address, and what its complaints say; it leaves every index.

    The item counts as gone from the platform, takes nothing in any more, and an open report about it is closed. The
    digests stay. Export files that hold texts of items end. Doing it twice does no harm.

    Raises Invalid without a reason, or with one that is too long to keep.
    """
    words = _checked(reason)
    with maintenance_pass(f"{_REASON}{words}", user_id=user.pk):
        lock_item(item.pk)
        reports = [close_for_all(report, user, words) for report in Report.objects.open().filter(item=item)]
        texts = ItemText.objects.filter(item=item).exclude(text="").update(text="")
        complaints = Complaint.objects.filter(report__item=item).exclude(reason="").update(reason="")
        Item.objects.filter(pk=item.pk).update(
            author_key="", url="", state=ItemState.GONE, risk=None, risk_version=None, version=F("version") + 1
        )
        index_soon(item)
        return Erased(texts, complaints, len(reports), end_with_texts())


def erase_reporter(*, platform: str, reporter_key: str, user: User, reason: str) -> Erased:
    """Blank the key of a person who complained, and what they wrote. The complaints and their reports stay.

    Raises Invalid as `erase_item` does.
    """
    with maintenance_pass(f"{_REASON}{_checked(reason)}", user_id=user.pk):
        rows = Complaint.objects.filter(platform=platform, reporter_key=reporter_key)
        return Erased(complaints=rows.update(reporter_key="", reason=""))


def erasures() -> QuerySet[MaintenancePass]:
    """The log of what was erased, without what it was."""
    return MaintenancePass.objects.filter(reason__startswith=_REASON)


def _checked(reason: str) -> str:
    words = reason.strip()
    if not words:
        raise Invalid(_("Say why it is erased. The reason is kept."))
    if len(words) > LONGEST_REASON:
        raise Invalid(_("The reason may have %(most)d characters.") % {"most": LONGEST_REASON})
    return words

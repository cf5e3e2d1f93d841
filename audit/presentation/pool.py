"""The texts that evaluations need judged, as the page shows them: without who found them."""

from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, QuerySet

from audit.models import Judgment, Pool, PoolItem, StandingVerdict
from audit.presentation.results import Standing, standing_by_text


def waiting() -> QuerySet[PoolItem]:
    """What is still to judge: texts of open pools without a standing verdict, in the order of their pools.

    One in dispute waits for the two who differ, not for a third person.
    """
    return _asked().filter(~Exists(_settled().filter(item_text=OuterRef("item_text")))).order_by("pool_id", "position")


def _settled() -> QuerySet[StandingVerdict]:
    return StandingVerdict.objects.exclude(verdict="", is_disputed=False)


def _asked() -> QuerySet[PoolItem]:
    return PoolItem.objects.filter(pool__closed=None).exclude(item_text__text="")


def _texts(items: QuerySet[PoolItem]) -> int:
    """How many different texts these are. Two pools may ask for one; of a single pool, counting rows is quicker."""
    rows = items.order_by()
    return rows.count() if Pool.objects.filter(closed=None).count() < 2 else rows.values("item_text").distinct().count()


@dataclass
class PoolRow:
    """One text to judge, with one's own verdict on it or that of whoever was faster."""

    item: PoolItem
    own: Judgment | None = None
    standing: Standing | None = None
    was_judged_before = False  # such a text is not pooled

    @property
    def dom_id(self) -> str:
        return f"pooled-{self.item.public_id}"

    @property
    def verdict(self) -> str:
        if self.own is not None:
            return self.own.verdict
        return self.standing.verdict if self.standing else ""

    @property
    def by_other(self) -> bool:
        return self.own is None and bool(self.verdict)

    @property
    def is_todo(self) -> bool:
        return not self.verdict

    @property
    def is_disputed(self) -> bool:
        """Two people differ; said only after one's own verdict."""
        return self.own is not None and bool(self.standing and self.standing.is_disputed)


class PoolPage:
    """What waits to be judged: the next texts, or the one that is named."""

    def __init__(self, user: User, *, item: PoolItem | None = None) -> None:
        self.user = user
        self._item = item

    @cached_property
    def left(self) -> int:
        return _texts(waiting())

    @cached_property
    def asked(self) -> int:
        return _texts(_asked())

    @property
    def judged(self) -> int:
        return self.asked - self.left

    @cached_property
    def rows(self) -> list[PoolRow]:
        if self._item is not None:
            return [self.row_of(self._item)]
        return [PoolRow(item) for item in self._next]

    @property
    def has_more(self) -> bool:
        return self.left > len(self.rows)

    @property
    def _next(self) -> list[PoolItem]:
        """The first texts that wait; one that several pools ask for is shown once."""
        rows = waiting().select_related("item_text__item", "policy_version__policy")[: 2 * settings.PAGE_SIZE]
        by_text = {item.item_text_id: item for item in reversed(rows)}
        return sorted(by_text.values(), key=attrgetter("pool_id", "position"))[: settings.PAGE_SIZE]

    def row_of(self, item: PoolItem) -> PoolRow:
        """One text as it stands now."""
        judged = Judgment.objects.standing().filter(item_text=item.item_text_id)
        standing = standing_by_text(_settled().filter(item_text=item.item_text_id))
        own = judged.filter(user=self.user, pool_item__isnull=False).order_by("pk").last()
        return PoolRow(item, own=own, standing=standing.get(item.item_text_id))

    @cached_property
    def last_undoable(self) -> Judgment | None:
        """The user's newest verdict, if it was given on a pooled text: what the toast offers to take back."""
        last = Judgment.objects.standing().filter(user=self.user).select_related("pool_item").order_by("-pk").first()
        return last if last and last.pool_item else None

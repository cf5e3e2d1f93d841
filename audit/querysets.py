"""Questions about sets of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from audit.models import Decision, Item, Judgment, Report, Suggestion  # noqa: F401  (named as strings below)


class ItemQuerySet(models.QuerySet["Item"]):
    def to_index(self) -> Self:
        """Items whose index entry is behind, in id order."""
        return self.exclude(version=F("indexed_version")).order_by("id")


class ReportQuerySet(models.QuerySet["Report"]):
    def open(self) -> Self:
        return self.exclude(status="closed")

    def free(self) -> Self:
        """Open reports that nobody holds: never claimed, released, or with a lease that ran out."""
        return self.open().filter(Q(claimed_by=None) | Q(lease_until=None) | Q(lease_until__lte=timezone.now()))

    def held_by(self, user: AbstractBaseUser) -> Self:
        return self.open().filter(claimed_by=user, lease_until__gt=timezone.now())

    def held_rows(self, user: AbstractBaseUser) -> Self:
        """Reports taken by this user and not given back, whether or not the lease still runs."""
        return self.filter(claimed_by=user, status__in=["claimed", "exploring"])

    def in_queue_order(self) -> Self:
        return self.order_by("due", "id")


class SuggestionQuerySet(models.QuerySet["Suggestion"]):
    def of_batch(self, batch_id: int | None) -> Self:
        return self.filter(batch_id=batch_id).select_related("query").order_by("rank", "id")


class DecisionQuerySet(models.QuerySet["Decision"]):
    def standing(self) -> Self:
        """Decisions that nobody took back."""
        return self.exclude(kind="undone").filter(undone_by=None)

    def to_run(self) -> Self:
        """Standing decisions with a query (accepted, edited, own) that no exploration has taken up yet."""
        return self.standing().exclude(query=None).filter(exploration_queries=None)


class JudgmentQuerySet(models.QuerySet["Judgment"]):
    def standing(self) -> Self:
        """Judgments that nobody took back; an undo has no verdict. (Asked for `undoes=None`, SQLite would take that
        unique index for the best and walk through all judgments.)
        """
        return self.exclude(verdict="").filter(undone_by=None)

"""Run accepted queries together and open their pages of results."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.attached import make_rows
from audit.models import Decision, Exploration, ExplorationQuery, Exposure, QueryRun, Report, RunState
from audit.queueing import enqueue_after_commit
from audit.results import page_of
from audit.services.errors import Conflict, Invalid, NotHeld
from audit.services.once import record_request
from audit.services.reports import hold


@transaction.atomic
def explore(*, reports: Sequence[Report], user: User, key: uuid.UUID, at: datetime | None = None) -> Exploration:
    """Run all accepted queries of these reports that have not run yet; equal queries run once and credit each report.

    Raises NotHeld for a report of somebody else, Invalid where no query was accepted.
    """
    record_request(key=key, user=user, action="explore", at=at)
    for report in sorted(reports, key=attrgetter("pk")):  # one order for all: two tabs do not wait for each other
        hold(report, user)
    decisions = Decision.objects.to_run().filter(report__in=reports).select_related("query").order_by("id")
    by_query: dict[int, list[Decision]] = {}
    for decision in decisions:
        by_query.setdefault(decision.query_id or 0, []).append(decision)
    if not by_query:
        raise Invalid(_("Accept a query or make one of your own first."))
    exploration = Exploration.objects.create(created_by=user, at=at or timezone.now())
    for position, (query_id, served) in enumerate(by_query.items(), start=1):
        row = ExplorationQuery.objects.create(exploration=exploration, query_id=query_id, position=position)
        row.decisions.set(served)
    if at is None:  # history that is written afterwards runs where it is written
        _enqueue(exploration)
    return exploration


@transaction.atomic
def run_again(*, exploration: Exploration, user: User, key: uuid.UUID) -> Exploration:
    """Queue the failed queries of an exploration once more. Raises Conflict where none failed."""
    record_request(key=key, user=user, action="run again")
    _may_work(exploration, user)
    if not exploration.queries.filter(state=RunState.FAILED).update(state=RunState.QUEUED, error=""):
        raise Conflict(_("No query of this exploration has failed."))
    Exploration.objects.filter(pk=exploration.pk).update(state=RunState.QUEUED, finished=None)
    exploration.refresh_from_db()
    _enqueue(exploration)
    return exploration


def open_page(*, exploration: Exploration, user: User, number: int, key: uuid.UUID, at: datetime | None = None) -> int:
    """Open page `number` of the results (from 1): log what it shows and return how many items that is.

    A page that is open stays as it is. Raises Conflict where the exploration still runs or a page is left out, and
    NotHeld for somebody else's exploration; on an attached site SearchError.
    """
    make_rows(exploration)
    with transaction.atomic():
        return _open_page(exploration, user, number, key, at)


def _open_page(exploration: Exploration, user: User, number: int, key: uuid.UUID, at: datetime | None) -> int:
    record_request(key=key, user=user, action="open page", at=at)
    _may_work(exploration, user)
    if number <= exploration.pages_opened:
        return 0
    # The swap comes first: of two tabs that open one page, the second waits here and then finds it open.
    opened = Exploration.objects.filter(
        pk=exploration.pk, pages_opened=number - 1, state__in=[RunState.DONE, RunState.FAILED]
    ).update(pages_opened=number)
    if not opened:
        raise Conflict(_("This page cannot be opened yet. Here is how the exploration stands."))
    runs = list(
        QueryRun.objects.filter(exploration_query__exploration=exploration).order_by("exploration_query__position")
    )
    before = Exposure.objects.filter(run__in=runs)
    shown = page_of(runs, shown=set(before.values_list("item_id", flat=True)))
    first_position = (before.aggregate(last=Max("position"))["last"] or 0) + 1
    Exposure.objects.bulk_create(
        Exposure(
            run_id=place.run_id,
            rank=place.rank,
            item_id=found.item_id,
            item_text_id=found.text_id,
            page=number,
            position=position,
            user=user,
            at=at or timezone.now(),
        )
        for position, found in enumerate(shown, start=first_position)
        for place in found.places
    )
    exploration.refresh_from_db()
    return len(shown)


def may_work(exploration: Exploration, user: User) -> bool:
    """Whoever started it, or holds one of its reports now, works on an exploration."""
    if exploration.created_by_id == user.pk:
        return True
    return Report.objects.held_rows(user).filter(decisions__exploration_queries__exploration=exploration).exists()


def _may_work(exploration: Exploration, user: User) -> None:
    if not may_work(exploration, user):
        raise NotHeld(_("This exploration belongs to someone else. You can read it; take its report to go on with it."))


def _enqueue(exploration: Exploration) -> None:
    job_id = f"exploration-{exploration.pk}-{uuid.uuid4().hex[:8]}"
    Exploration.objects.filter(pk=exploration.pk).update(job_id=job_id)
    enqueue_after_commit("explore", "audit.jobs.run_exploration", exploration.pk, job_id=job_id)


def claim_run(exploration_id: int, *, at: datetime | None = None) -> bool:
    """A worker takes a queued exploration; exactly one of two who try gets True."""
    return (
        Exploration.objects.filter(pk=exploration_id, state=RunState.QUEUED).update(
            state=RunState.RUNNING, started=at or timezone.now(), finished=None
        )
        == 1
    )

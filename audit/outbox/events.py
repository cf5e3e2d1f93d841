"""Events, their cursor numbers, and the feed.

An event's id is taken before its transaction commits, so a lower id can appear after a higher one: a reader that
followed ids would lose it. `publish` therefore numbers the events that are committed; readers follow those numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Max, QuerySet

from audit.models import Item, OutboxEvent, OutboxPublication

PUBLISH_CHUNK = 1_000
MAX_FEED = 1_000

# Any fixed number: the advisory lock of the one publisher.
_PUBLISHER_LOCK = 0x51584F42


def emit(*, item: Item, kind: str, payload: dict[str, Any], at: datetime) -> OutboxEvent:
    """Write an event inside the transaction of its cause: either both are kept or neither."""
    return OutboxEvent.objects.create(item=item, kind=kind, payload=payload, at=at)


def publish() -> int:
    """Give every committed event that has none its number; how many. Numbers are consecutive and never change.

    Only one publisher works at a time; a second one waits for it and then finds its work done.
    """
    published = 0
    while chunk := _publish_chunk():
        published += chunk
    return published


def _publish_chunk() -> int:
    with _only_publisher():
        last = OutboxPublication.objects.aggregate(last=Max("sequence"))["last"] or 0
        waiting = _unpublished().order_by("id").values_list("pk", flat=True)
        numbered = [
            OutboxPublication(sequence=sequence, event_id=pk)
            for sequence, pk in enumerate(waiting[:PUBLISH_CHUNK], start=last + 1)
        ]
        OutboxPublication.objects.bulk_create(numbered)
    return len(numbered)


def _unpublished() -> QuerySet[OutboxEvent]:
    """Events without a number. SQLite commits in the order of ids, so only those after the last published one are
    looked at: to walk through all of a million would hold up every writer for a second.
    """
    events = OutboxEvent.objects.filter(publication=None)
    if connection.vendor != "sqlite":
        return events
    return events.filter(pk__gt=OutboxPublication.objects.aggregate(last=Max("event_id"))["last"] or 0)


@contextmanager
def _only_publisher() -> Iterator[None]:
    """A transaction that no other publisher enters. On SQLite every transaction is such a one (IMMEDIATE mode).

    On PostgreSQL a statement of its own takes the lock: those after it see what the publisher before us committed.
    """
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_PUBLISHER_LOCK])
        yield


@dataclass(frozen=True)
class Feed:
    """A page of events after a cursor. `next` is the cursor for the next call; `more` where another page waits."""

    events: list[dict[str, Any]]
    next: int
    more: bool


def feed(*, after: int, limit: int, platform: str) -> Feed:
    """Published events of one platform after the cursor `after`, oldest first, at most `limit`.

    The numbers of other platforms' events are passed over, so a platform sees gaps; none of its own is ever missing.
    """
    limit = max(1, min(limit, MAX_FEED))
    newest = OutboxPublication.objects.aggregate(last=Max("sequence"))["last"] or 0
    found = list(
        OutboxPublication.objects.filter(sequence__gt=after, sequence__lte=newest, event__item__platform=platform)
        .select_related("event__item")
        .order_by("sequence")[: limit + 1]
    )
    more = len(found) > limit
    page = found[:limit]
    following = page[-1].sequence if more else max(after, newest)
    return Feed([event_as_dict(publication) for publication in page], following, more)


def event_as_dict(publication: OutboxPublication) -> dict[str, Any]:
    """An event as feed and webhook show it. The names of the payload never hide those of the event."""
    event = publication.event
    return {
        **event.payload,
        "sequence": publication.sequence,
        "id": str(event.public_id),
        "kind": event.kind,
        "platform": event.item.platform,
        "external_id": event.item.external_id,
        "at": event.at.astimezone(UTC).isoformat(),
    }

"""Events, their cursor numbers and the feed."""

from datetime import UTC, datetime
from threading import Event, Thread

import pytest
from django.db import connection, transaction

from audit import outbox
from audit.models import Item, OutboxEvent, OutboxPublication
from audit.outbox import events
from tests.factories import make_item

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def emit(item: Item | None = None, **payload: object) -> OutboxEvent:
    return outbox.emit(item=item or make_item(platform="forum"), kind="verdict", payload=payload, at=NOW)


def follow(after: int = 0, platform: str = "forum") -> tuple[list[str], int]:
    """What a reader gets that goes on from a cursor: ids of events, and the next cursor."""
    page = outbox.feed(after=after, limit=100, platform=platform)
    return [event["id"] for event in page.events], page.next


@pytest.mark.django_db
def test_an_event_is_kept_only_with_its_cause() -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        emit()
        raise RuntimeError
    assert not OutboxEvent.objects.exists()


@pytest.mark.django_db
def test_an_event_is_not_in_the_feed_before_it_is_published() -> None:
    event = emit()
    assert follow() == ([], 0)
    assert outbox.publish() == 1
    assert follow() == ([str(event.public_id)], 1)


@pytest.mark.django_db
def test_numbers_are_consecutive_over_chunks_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PUBLISH_CHUNK", 2)
    first = [emit() for _ in range(5)]
    outbox.publish()
    second = [emit() for _ in range(2)]
    outbox.publish()
    numbers = OutboxPublication.objects.order_by("sequence").values_list("sequence", "event")
    assert list(numbers) == [(number, event.pk) for number, event in enumerate(first + second, start=1)]


@pytest.mark.django_db
def test_publishing_again_gives_no_event_a_second_number() -> None:
    emit()
    outbox.publish()
    assert outbox.publish() == 0


@pytest.mark.django_db
def test_the_feed_comes_in_pages_and_says_where_to_go_on() -> None:
    for _ in range(5):
        emit()
    outbox.publish()
    first = outbox.feed(after=0, limit=3, platform="forum")
    second = outbox.feed(after=first.next, limit=3, platform="forum")
    assert ([event["sequence"] for event in first.events], first.more) == ([1, 2, 3], True)
    assert ([event["sequence"] for event in second.events], second.more, second.next) == ([4, 5], False, 5)


@pytest.mark.django_db
def test_a_platform_sees_its_own_events_only_and_passes_over_the_others() -> None:
    emit()
    own = emit(make_item(platform="chat"))
    emit()
    outbox.publish()
    assert follow(platform="chat") == ([str(own.public_id)], 3)


@pytest.mark.django_db
def test_a_cursor_beyond_the_end_stays_where_it_is() -> None:
    assert follow(after=17) == ([], 17)


@pytest.mark.django_db
def test_an_event_names_its_item_as_the_platform_knows_it() -> None:
    event = emit(make_item(platform="forum", external_id="x1"), verdict="toxic", id="hidden")
    outbox.publish()
    (shown,) = outbox.feed(after=0, limit=10, platform="forum").events
    assert shown == {
        "sequence": 1,
        "id": str(event.public_id),
        "kind": "verdict",
        "platform": "forum",
        "external_id": "x1",
        "at": "2026-05-04T12:00:00+00:00",
        "verdict": "toxic",
    }


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="on SQLite one transaction writes at a time; runs on PostgreSQL"
)
@pytest.mark.django_db(transaction=True)
def test_an_event_that_commits_late_is_not_lost_to_a_reader_who_follows_the_cursor() -> None:
    item = make_item(platform="forum")
    written, may_commit = Event(), Event()

    def write_slowly() -> None:
        with transaction.atomic():
            emit(item, order="early id, late commit")
            written.set()
            may_commit.wait(10)
        connection.close()

    slow = Thread(target=write_slowly)
    slow.start()
    assert written.wait(10)
    quick = emit(item, order="late id, early commit")
    outbox.publish()
    seen, cursor = follow()
    assert seen == [str(quick.public_id)]
    may_commit.set()
    slow.join()
    outbox.publish()
    seen_next, cursor = follow(cursor)
    late = OutboxEvent.objects.exclude(pk=quick.pk).get()
    assert late.pk < quick.pk
    assert seen_next == [str(late.public_id)]
    assert cursor == 2


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="on SQLite one transaction writes at a time; runs on PostgreSQL"
)
@pytest.mark.django_db(transaction=True)
def test_publishers_that_run_together_number_every_event_once() -> None:
    item = make_item(platform="forum")
    for _ in range(50):
        emit(item)

    def publish() -> None:
        outbox.publish()
        connection.close()

    publishers = [Thread(target=publish) for _ in range(4)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()
    assert list(OutboxPublication.objects.values_list("sequence", flat=True)) == list(range(1, 51))

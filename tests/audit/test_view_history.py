"""One's own history, and the page of an item with its reinstatement."""

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from audit.models import Item, ItemState, RemovalKind
from audit.presentation.log import PAGE_SIZE
from tests.factories import (
    make_claimed_report,
    make_decision,
    make_exploration,
    make_item,
    make_item_text,
    make_judgment,
    make_removal,
    make_report,
    make_report_event,
    make_suggestion,
)


@pytest.fixture
def client(auditor: User, login: Callable[[User], Client]) -> Client:
    return login(auditor)


def history(client: Client, **query: str) -> str:
    response = client.get(reverse("audit:history"), query)
    assert response.status_code == 200
    return response.content.decode()


def test_the_history_lists_what_this_person_did_and_nothing_else(
    client: Client, auditor: User, second_auditor: User
) -> None:
    report = make_claimed_report(user=auditor, text="the reported words")
    make_judgment(report=report, user=auditor, verdict="toxic")
    make_decision(suggestion=make_suggestion("stamp", report=report), user=auditor)
    make_decision(report=report, user=auditor, text="diploma")
    make_decision(report=report, user=second_auditor, text="of somebody else")
    markup = history(client)
    assert "the reported words" in markup
    assert "stamp" in markup
    assert "diploma" in markup
    assert "of somebody else" not in markup


def test_an_empty_history_says_what_will_stand_here(client: Client) -> None:
    assert "Nothing yet." in history(client)


def test_what_was_undone_is_struck_and_kept(client: Client, auditor: User) -> None:
    decision = make_decision(report=make_claimed_report(user=auditor), user=auditor, text="diploma")
    make_decision(undoes=decision)
    markup = history(client)
    assert "data-undone" in markup
    assert "/undo/" not in markup


def test_what_has_run_cannot_be_taken_back(client: Client, auditor: User) -> None:
    decision = make_decision(report=make_claimed_report(user=auditor), user=auditor, text="diploma")
    make_exploration(decisions=[decision])
    assert "has run" in history(client)


def test_one_kind_can_be_picked(client: Client, auditor: User) -> None:
    report = make_claimed_report(user=auditor, text="the reported words")
    make_judgment(report=report, user=auditor)
    make_decision(report=report, user=auditor, text="diploma")
    make_report_event(report=report, kind="closed", user=auditor, outcome="skipped", reason="not my language")
    assert "diploma" not in history(client, what="judgments")
    assert "the reported words" not in history(client, what="decisions")
    assert "not my language" in history(client, what="reports")


def test_an_unknown_kind_is_422(client: Client) -> None:
    assert client.get(reverse("audit:history"), {"what": "secrets"}).status_code == 422


def test_earlier_pages_go_on_where_the_page_ends(client: Client, auditor: User) -> None:
    report = make_claimed_report(user=auditor)
    now = timezone.now()
    for age in reversed(range(PAGE_SIZE + 5)):
        make_decision(report=report, user=auditor, text=f"query number {age}", at=now - timedelta(minutes=age))
    first = client.get(reverse("audit:history"))
    earlier = first.context["page"].earlier
    assert earlier is not None
    second = client.get(reverse("audit:history"), {"before": earlier.isoformat()})
    assert sum(len(rows) for _day, rows in second.context["page"].days) == 5


@pytest.mark.parametrize("before", ["", "nonsense", "2026-02-31T00:00:00", "2026-02-03T00:00:00"])
def test_a_moment_that_is_none_is_ignored(client: Client, before: str) -> None:
    history(client, before=before)


def test_the_number_of_queries_does_not_grow_with_the_history(client: Client, auditor: User) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            history(client)
        return len(captured)

    def work() -> None:
        report = make_claimed_report(user=auditor)
        make_judgment(report=report, user=auditor)
        make_exploration(decisions=[make_decision(report=report, user=auditor)])
        make_report_event(report=report, kind="closed", user=auditor, outcome="confirmed")

    work()
    count()
    few = count()
    for _number in range(6):
        work()
    assert count() == few
    assert few <= 18


def test_an_item_shows_its_texts_reports_and_removals(client: Client, auditor: User) -> None:
    item = make_item("the present words")
    make_item_text("the earlier words", item=item)
    make_report(item=item)
    make_removal(item=item, user=auditor, reason="sold papers")
    markup = client.get(reverse("audit:item", args=[item.public_id])).content.decode()
    for words in ("the present words", "the earlier words", "sold papers", "Reinstate"):
        assert words in markup


def test_a_link_that_is_no_web_address_is_not_linked(client: Client) -> None:
    item = make_item(url="javascript:alert(1)")
    markup = client.get(reverse("audit:item", args=[item.public_id])).content.decode()
    assert "javascript:" not in markup


def test_reinstating_needs_a_reason(client: Client, auditor: User) -> None:
    item = make_removal(user=auditor).item
    address = reverse("audit:reinstate", args=[item.public_id])
    response = client.post(address, {"key": str(uuid.uuid4()), "reason": " "})
    assert response.status_code == 422
    assert b"Give a reason" in response.content
    response = client.post(address, {"key": str(uuid.uuid4()), "reason": "The seller has a licence."})
    assert response.status_code == 303
    item = Item.objects.get(pk=item.pk)
    assert item.state == ItemState.LIVE
    assert item.removals.latest("id").kind == RemovalKind.REINSTATED


def test_reinstating_twice_is_409_with_the_present_state(client: Client, auditor: User) -> None:
    item = make_item()
    response = client.post(
        reverse("audit:reinstate", args=[item.public_id]), {"key": str(uuid.uuid4()), "reason": "again"}
    )
    assert response.status_code == 409
    assert b"not removed" in response.content

"""The queue: filters in the address, claiming, newer reports, a constant number of queries."""

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

from audit.append_only import maintenance_pass
from audit.models import ItemText, Report, ReportStatus
from audit.services import claim
from tests.factories import make_claimed_report, make_item, make_policy, make_report, make_suggestion

HTMX = {"HX-Request": "true"}


@pytest.fixture
def client(auditor: User, login: Callable[[User], Client]) -> Client:
    return login(auditor)


def texts(response: object) -> list[str]:
    return [row.report.item_text.text for row in response.context["rows"]]  # type: ignore[attr-defined]


def test_waiting_reports_stand_in_the_order_they_are_due(client: Client) -> None:
    now = timezone.now()
    make_report(text="later", due=now + timedelta(hours=5))
    make_report(text="sooner", due=now + timedelta(hours=1))
    make_report(text="closed", status=ReportStatus.CLOSED)
    assert texts(client.get(reverse("audit:queue"))) == ["sooner", "later"]


def test_filters_stand_in_the_address(client: Client, auditor: User, second_auditor: User) -> None:
    forged = make_policy("forged")
    make_report(text="伪造证书文凭办理", policy=forged, complaint_count=12)
    make_report(text="a plain text in English")
    make_claimed_report(user=auditor, text="mine")
    make_claimed_report(user=second_auditor, text="hers")
    make_report(text="skipped one", status=ReportStatus.CLOSED, outcome="skipped")
    address = reverse("audit:queue")
    assert texts(client.get(address, {"policy": "forged"})) == ["伪造证书文凭办理"]
    assert texts(client.get(address, {"complaints": "10"})) == ["伪造证书文凭办理"]
    assert texts(client.get(address, {"language": "zh-Hans"})) == ["伪造证书文凭办理"]
    assert texts(client.get(address, {"status": "mine"})) == ["mine"]
    assert texts(client.get(address, {"claim": "taken"})) == ["hers"]
    assert texts(client.get(address, {"status": "skipped"})) == ["skipped one"]
    assert "hers" not in texts(client.get(address, {"claim": "free"}))


def test_a_report_is_found_by_number_id_and_author(client: Client) -> None:
    report = make_report(item=make_item("the one", external_id="x-77", author_key="seller9"))
    make_report(text="another")
    address = reverse("audit:queue")
    for name in (report.number, f"r{report.pk}", "x-77", "seller9"):
        assert texts(client.get(address, {"text": name})) == ["the one"], name


def test_an_unknown_filter_says_so_and_shows_all(client: Client) -> None:
    make_report(text="shown all the same")
    response = client.get(reverse("audit:queue"), {"policy": "no-such-policy"})
    assert response.status_code == 422
    assert texts(response) == ["shown all the same"]
    assert b'role="alert"' in response.content


def test_htmx_gets_the_list_alone(client: Client) -> None:
    make_report()
    response = client.get(reverse("audit:queue"), headers=HTMX)
    assert response.content.lstrip().startswith(b'<div id="reports"')
    assert b"<html" not in response.content
    assert "HX-Request" in response["Vary"]
    assert "no-store" in response["Cache-Control"]


def test_claiming_from_the_list_swaps_the_row(client: Client, auditor: User) -> None:
    report = make_report()
    response = client.post(reverse("audit:claim", args=[report.public_id]), {"key": str(uuid.uuid4())}, headers=HTMX)
    assert response.status_code == 200
    assert b'data-claim="mine"' in response.content
    report.refresh_from_db()
    assert report.is_held_by(auditor.pk)


def test_a_lost_race_is_409_with_the_row_as_it_stands(client: Client, second_auditor: User) -> None:
    report = make_report()
    claim(report=report, user=second_auditor, key=uuid.uuid4())
    response = client.post(reverse("audit:claim", args=[report.public_id]), {"key": str(uuid.uuid4())}, headers=HTMX)
    assert response.status_code == 409
    assert b'data-claim="taken"' in response.content
    assert b"Someone else has taken this report" in response.content


def test_a_double_click_claims_once(client: Client) -> None:
    report = make_report()
    address, data = reverse("audit:claim", args=[report.public_id]), {"key": str(uuid.uuid4())}
    assert client.post(address, data, headers=HTMX).status_code == 200
    assert client.post(address, data, headers=HTMX).status_code == 409
    assert report.events.filter(kind="claimed").count() == 1


def test_taking_the_next_opens_the_one_due_first(client: Client) -> None:
    make_report(due=timezone.now() + timedelta(hours=9))
    first = make_report(due=timezone.now() + timedelta(hours=1))
    response = client.post(reverse("audit:take-next"), {"key": str(uuid.uuid4())})
    assert response.status_code == 303
    assert response["Location"] == reverse("audit:report", args=[first.public_id])


def test_taking_the_next_of_none_says_so(client: Client) -> None:
    response = client.post(reverse("audit:take-next"), {"key": str(uuid.uuid4())}, follow=True)
    assert b"No report waits for anyone" in response.content


def test_newer_reports_wait_behind_a_line(client: Client) -> None:
    shown = make_report()
    make_report()
    make_report()
    response = client.get(reverse("audit:newer"), {"after": shown.pk}, headers=HTMX)
    assert b"2 new reports" in response.content
    response = client.get(reverse("audit:newer"), {"after": Report.objects.latest("pk").pk}, headers=HTMX)
    assert b"new report" not in response.content


def test_an_erased_text_is_named_as_such(client: Client) -> None:
    report = make_report()
    with maintenance_pass("erasure in a test"):
        ItemText.objects.filter(pk=report.item_text_id).update(text="")
    assert b"the text was erased" in client.get(reverse("audit:queue")).content


def test_the_number_of_queries_does_not_grow_with_the_list(client: Client) -> None:
    def count() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert client.get(reverse("audit:queue")).status_code == 200
        return len(captured)

    make_suggestion("stamp", report=make_report())
    count()
    few = count()
    for _number in range(12):
        make_suggestion("stamp", report=make_report())
    assert count() == few
    assert few <= 16

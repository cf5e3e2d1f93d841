"""Complaints on their way in, and the report that collects them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import django_rq
import pytest
from django.utils import timezone
from redis import Redis

from audit.intake import ComplaintRow, ItemRow, store_complaints, store_items
from audit.models import Complaint, Item, Outcome, Policy, Report, ReportEvent, ReportEventKind, SiteSettings
from tests.factories import make_item, make_policy

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
def item() -> Item:
    make_policy("spam")
    return make_item(platform="forum", external_id="a", text="first")


def row(external_id: str = "c1", **kwargs: Any) -> ComplaintRow:
    values: dict[str, Any] = {"platform": "forum", "item_external_id": "a", "policy": "spam", "at": NOW}
    return ComplaintRow(external_id=external_id, **(values | kwargs))


def close(report: Report) -> None:
    Report.objects.filter(pk=report.pk).update(status="closed", outcome=Outcome.UNFOUNDED, closed=timezone.now())


def test_complaints_about_one_item_merge_into_one_open_report(item: Item) -> None:
    store_complaints([row("c1"), row("c2", reason="again")])
    counts = store_complaints([row("c3")])
    report = Report.objects.get()
    assert (counts.created, report.item, report.complaint_count) == (1, item, 3)


def test_the_same_complaint_again_changes_nothing(item: Item) -> None:
    store_complaints([row()])
    counts = store_complaints([row()])
    assert (counts.same, Complaint.objects.count(), Report.objects.get().complaint_count) == (1, 1, 1)


def test_a_new_report_is_due_after_the_hours_that_the_site_sets(item: Item) -> None:
    SiteSettings.objects.update_or_create(pk=1, defaults={"due_hours": 6})
    store_complaints([row()], at=NOW)
    report = Report.objects.get()
    assert (report.opened, report.due) == (NOW, NOW + timedelta(hours=6))


def test_opening_a_report_is_written_into_its_history(item: Item) -> None:
    store_complaints([row("c1"), row("c2")], at=NOW)
    assert list(ReportEvent.objects.values_list("kind", "at")) == [(ReportEventKind.OPENED, NOW)]


def test_a_complaint_after_closing_opens_a_report_that_names_the_earlier_one(item: Item) -> None:
    store_complaints([row("c1")])
    earlier = Report.objects.get()
    close(earlier)
    store_complaints([row("c2")])
    assert Report.objects.open().get().previous == earlier


def test_a_complaint_about_an_edited_item_points_to_the_new_text_and_the_report_to_the_old(item: Item) -> None:
    store_complaints([row("c1")])
    store_items([ItemRow(platform="forum", external_id="a", text="second", created=NOW)])
    store_complaints([row("c2")])
    assert list(Complaint.objects.order_by("pk").values_list("item_text__text", flat=True)) == ["first", "second"]
    assert Report.objects.get().item_text.text == "first"


def test_an_unknown_item_is_a_problem_and_the_other_rows_are_kept(item: Item) -> None:
    counts = store_complaints([row("c1", item_external_id="zzz", line=3), row("c2", line=4)])
    assert counts.created == 1
    assert [(problem.line, "zzz" in problem.reason) for problem in counts.problems] == [(3, True)]


def test_an_unknown_policy_is_a_problem(item: Item) -> None:
    counts = store_complaints([row(policy="nowhere", line=5)])
    assert [(problem.line, "nowhere" in problem.reason) for problem in counts.problems] == [(5, True)]
    assert not Report.objects.exists()


def test_an_unknown_policy_is_created_when_asked_for(item: Item) -> None:
    store_complaints([row(policy="fake-jobs")], create_policies=True)
    assert Policy.objects.get(key="fake-jobs").current().number == 1


def test_a_policy_key_that_cannot_be_one_is_a_problem_even_then(item: Item) -> None:
    counts = store_complaints([row(policy="Not A Key!")], create_policies=True)
    assert len(counts.problems) == 1


def test_a_complaint_that_comes_twice_in_one_input_is_a_problem(item: Item) -> None:
    counts = store_complaints([row(line=1), row(line=2)])
    assert (counts.created, [problem.line for problem in counts.problems]) == (1, [2])


def test_a_new_report_asks_for_its_suggestions_after_commit(
    item: Item, django_capture_on_commit_callbacks: Any
) -> None:
    queue = django_rq.get_queue("suggest")
    with django_capture_on_commit_callbacks(execute=True):
        store_complaints([row("c1"), row("c2")])
    report_id = Report.objects.get().pk
    jobs = [job for job in queue.jobs if job.args == (report_id,)]
    assert [job.func_name for job in jobs] == ["audit.jobs.suggest_for_report"]
    queue.empty()


@pytest.mark.django_db(transaction=True)
def test_without_the_queue_the_complaint_is_kept_and_the_report_pending(
    item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = django_rq.get_queue("suggest")
    queue.connection = Redis(unix_socket_path="/nowhere/redis.sock")
    monkeypatch.setattr("audit.queueing.django_rq.get_queue", lambda name, **_options: queue)
    store_complaints([row()])
    assert Report.objects.get().suggestions_state == "pending"

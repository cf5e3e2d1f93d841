"""The questions that pages and ticks ask of large tables go by an index, also where SQLite has no statistics."""

import pytest
from django.db import connection

from audit.models import Item, Judgment, OutboxEvent, Report
from audit.outbox.events import _unpublished

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL plans by its statistics"),
]


def test_the_standing_judgments_of_a_text_are_found_by_the_text():
    plan = Judgment.objects.standing().filter(item_text=1, policy_version=1).explain()
    assert "judgment_standing" in plan


def test_the_standing_judgments_of_a_report_are_found_by_the_report():
    assert "undoes_id" not in Judgment.objects.standing().filter(report=1).explain().splitlines()[0]


def test_the_queue_is_read_in_its_order():
    for rows in (Report.objects.open(), Report.objects.free()):
        plan = rows.in_queue_order()[:50].explain()
        assert "report_open" in plan
        assert "TEMP B-TREE" not in plan


def test_items_behind_are_found_without_walking_through_all():
    assert "item_to_index" in Item.objects.to_index().explain()


def test_new_events_are_found_after_the_published_ones():
    assert _unpublished().model is OutboxEvent
    assert "rowid>?" in _unpublished().order_by("id").explain()

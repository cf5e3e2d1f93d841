"""Two imports of the same rows at once, and an import that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from audit.intake import ComplaintRow, ItemRow, store_complaints, store_items
from audit.models import Complaint, Item, ItemText, Report
from tests.factories import make_policy

NOW = datetime(2026, 5, 4, tzinfo=UTC)
on_postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="on SQLite one transaction writes at a time; runs on PostgreSQL"
)


def together(*work: Callable[[], object]) -> list[object]:
    """Run all of it at once, each in a thread with its own connection."""

    def run(one: Callable[[], object]) -> object:
        try:
            return one()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(run, work))


def items(numbers: range, text: str) -> list[ItemRow]:
    return [
        ItemRow(platform="forum", external_id=f"i{number}", text=f"{text} {number}", created=NOW) for number in numbers
    ]


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_two_imports_of_the_same_items_end_in_one_state() -> None:
    forward, backward = range(800), range(799, -1, -1)
    together(*[lambda order=order: store_items(items(order, "same")) for order in (forward, backward, forward)])
    assert (Item.objects.count(), ItemText.objects.count()) == (800, 800)
    assert not Item.objects.filter(text=None).exists()


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_two_edits_of_the_same_items_lose_none() -> None:
    store_items(items(range(300), "first"))
    together(lambda: store_items(items(range(300), "second")), lambda: store_items(items(range(299, -1, -1), "third")))
    assert ItemText.objects.count() == 900
    assert set(Item.objects.values_list("version", flat=True)) == {3}


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_complaints_about_one_item_that_arrive_at_once_open_one_report() -> None:
    make_policy("spam")
    store_items(items(range(20), "post"))

    def complain(sender: int) -> None:
        store_complaints(
            ComplaintRow(
                platform="forum",
                external_id=f"c{sender}-{number}",
                item_external_id=f"i{number if sender % 2 else 19 - number}",
                policy="spam",
                at=NOW,
            )
            for number in range(20)
        )

    together(*[lambda sender=sender: complain(sender) for sender in range(4)])
    assert (Report.objects.count(), Complaint.objects.count()) == (20, 80)
    assert set(Report.objects.values_list("complaint_count", flat=True)) == {4}


@pytest.mark.slow
def test_an_import_that_is_killed_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    lines = [
        json.dumps({"external_id": f"i{number}", "text": f"post {number}", "created": "2026-05-04T00:00:00Z"})
        for number in range(6_000)
    ]
    path.write_text("\n".join([*lines[:4_000], "broken", *lines[4_000:]]))
    env = os.environ | {"QX_VAR_DIR": str(tmp_path), "DATABASE_URL": ""}
    command = [sys.executable, "manage.py", "import_items", str(path), "--platform", "forum"]
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=settings.BASE_DIR, env=env, check=True)
    killed = subprocess.Popen(command, cwd=settings.BASE_DIR, env=env, start_new_session=True)
    wait_for_rows(tmp_path / "db.sqlite3", 1_000)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    again = subprocess.run(command, cwd=settings.BASE_DIR, env=env, capture_output=True, text=True, check=False)
    assert "Going on after line" in again.stdout
    assert "6001 lines: 6000 new, 0 changed, 0 as before, 1 refused." in again.stdout
    assert "line 4001: not JSON" in again.stderr
    assert again.returncode == 1


def wait_for_rows(path: Path, rows: int) -> None:
    """Until so many items are stored, looked at from outside."""
    import sqlite3

    for _ in range(600):
        database = sqlite3.connect(path)
        stored = database.execute("SELECT COUNT(*) FROM audit_item").fetchone()[0]
        database.close()
        if stored >= rows:
            return
        time.sleep(0.1)
    pytest.fail("the import stored nothing in a minute")

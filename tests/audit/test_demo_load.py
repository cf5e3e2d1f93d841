"""Loading the demo: twice, interrupted, beside data of somebody's own."""

from collections.abc import Callable
from datetime import datetime
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from audit.demo.load import DemoOptions, is_complete, load
from audit.demo.past import Shift
from audit.models import Decision, Exposure, Item, Judgment, QueryRun, Report, ReportStatus, Suggestion, SuggestionBatch
from audit.suggesting import suggest
from tests.factories import make_item

SMALL = DemoOptions(seed=5, size=600, past=10, waiting=6)

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.usefixtures("engine_file")]


def _command(**options: object) -> str:
    out = StringIO()
    small: dict[str, object] = {"seed": 5, "items": 600, "past": 10, "waiting": 6}
    call_command("load_demo", stdout=out, **(small | options))
    return out.getvalue()


def _counts() -> list[int]:
    tables = (Item, Report, Suggestion, Decision, QueryRun, Exposure, Judgment, User)
    return [table.objects.count() for table in tables]


def test_a_second_load_changes_nothing():
    _command()
    before = _counts()
    assert "The demo is loaded." in _command(if_empty=True)
    assert _counts() == before


def test_an_interrupted_load_is_completed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Shift, "work", _dies_at_the_fifth(Shift.work))
    with pytest.raises(KeyboardInterrupt):
        load(SMALL)
    assert not is_complete()
    closed = Report.objects.filter(status=ReportStatus.CLOSED).count()
    monkeypatch.undo()
    assert "The demo is loaded." in _command(if_empty=True)
    assert is_complete()
    assert Report.objects.filter(status=ReportStatus.CLOSED).count() > closed
    assert Item.objects.filter(platform="demo").count() == 600


def test_a_load_interrupted_at_its_end_is_completed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("audit.demo.load.suggest", _suggest_in_the_past_only)
    with pytest.raises(KeyboardInterrupt):
        load(SMALL)
    worked = _counts()[3:7]
    monkeypatch.undo()
    load(SMALL)
    assert is_complete()
    assert _counts()[3:7] == worked


def test_a_database_with_data_of_its_own_is_left_alone():
    make_item("somebody's own item")
    assert "not loaded" in _command(if_empty=True)
    assert Item.objects.count() == 1
    assert not User.objects.exists()


def test_a_site_attached_to_a_foreign_index_gets_no_demo(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("audit.management.commands.load_demo.get_attached", object)
    assert "not loaded" in _command(if_empty=True)
    assert not User.objects.exists()


def test_a_login_that_is_somebody_s_own_is_not_taken():
    User.objects.create_user("auditor", password="their-own-password")
    with pytest.raises(CommandError, match="auditor"):
        _command()


def _dies_at_the_fifth(work: Callable[[Shift], None]) -> Callable[[Shift], None]:
    calls: list[Shift] = []

    def working(shift: Shift) -> None:
        calls.append(shift)
        if len(calls) == 5:
            raise KeyboardInterrupt
        work(shift)

    return working


def _suggest_in_the_past_only(report: Report, *, at: datetime | None = None) -> SuggestionBatch | None:
    if at is None:
        raise KeyboardInterrupt
    return suggest(report, at=at)

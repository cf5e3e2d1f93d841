"""Erasure: the words go, rows and figures stay."""

from dataclasses import replace

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from audit.exports import request_export, run_export
from audit.indexing import sweep
from audit.intake.rows import ItemRow
from audit.intake.store import store_items
from audit.models import Complaint, Export, ExportFormat, Item, ItemState, ItemText, JobState, MaintenancePass
from audit.services import Invalid
from audit.services.erasing import LONGEST_REASON, erase_item, erase_reporter, erasures
from extraction.search import SearchRequest, get_engine
from extraction.text import MatchMode
from tests import factories as make
from tests.audit.loop import make_indexed

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin():
    return make.make_user("root", is_superuser=True)


@pytest.fixture(autouse=True)
def _places(settings, tmp_path):
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"


def found_ids(query):
    engine = get_engine()
    engine.refresh()
    return [hit.id for hit in engine.search(SearchRequest(text=query, mode=MatchMode.PHRASE, live=None)).hits]


def texts_of(item):
    return list(ItemText.objects.filter(item=item).values_list("text", flat=True))


def test_every_text_of_the_item_its_author_and_its_address_go(admin):
    item = make.make_item("the first wording", author_key="writer", url="https://market.example/1")
    make.make_item_text(item=item, text="the second wording")
    erased = erase_item(item=item, user=admin, reason="asked by the author")
    item.refresh_from_db()
    assert erased.texts == 2
    assert texts_of(item) == ["", ""]
    assert (item.author_key, item.url, item.state) == ("", "", ItemState.GONE)


def test_digests_judgments_and_other_items_stay(admin):
    judgment = make.make_judgment()
    item, other = judgment.item_text.item, make.make_item("somebody else's")
    digest = judgment.item_text.text_hash
    erase_item(item=item, user=admin, reason="asked")
    judgment.refresh_from_db()
    assert judgment.item_text.text_hash == digest
    assert texts_of(other) == ["somebody else's"]


def test_no_query_finds_it_any_more(admin):
    (item,) = make_indexed("cheap diploma here")
    assert found_ids("cheap diploma") == [item.pk]
    erase_item(item=item, user=admin, reason="asked")
    sweep()
    assert found_ids("cheap diploma") == []


def test_complaints_lose_their_words_and_stay(admin):
    complaint = make.make_complaint(reason="she lives in my street")
    erase_item(item=complaint.report.item, user=admin, reason="asked")
    complaint.refresh_from_db()
    assert complaint.reason == ""


@pytest.mark.parametrize(("is_confirmed", "outcome"), [(True, "confirmed"), (False, "skipped")])
def test_an_open_report_is_closed_with_the_verdict_that_it_has(admin, is_confirmed, outcome):
    confirmed = timezone.now() if is_confirmed else None
    report = make.make_claimed_report(user=make.make_user(role="auditor"), confirmed=confirmed)
    erase_item(item=report.item, user=admin, reason="asked")
    report.refresh_from_db()
    assert (report.status, report.outcome) == ("closed", outcome)


@pytest.mark.parametrize("text", ["words to forget", "other words"])
def test_an_erased_item_takes_nothing_in_any_more(admin, text):
    row = ItemRow("market", "1", "words to forget", timezone.now(), author_key="writer", url="https://market.example/1")
    store_items([row])
    item = Item.objects.get(platform="market", external_id="1")
    erase_item(item=item, user=admin, reason="asked")
    counts = store_items([replace(row, text=text)])
    item.refresh_from_db()
    assert (counts.created, counts.changed, counts.same) == (0, 0, 1)
    assert texts_of(item) == [""]
    assert (item.author_key, item.url, item.state) == ("", "", ItemState.GONE)


def test_it_is_logged_with_who_and_why_and_without_what(admin):
    item = make.make_item("a secret", external_id="kept-apart")
    erase_item(item=item, user=admin, reason="article 17")
    entry = erasures().get()
    assert (entry.reason, entry.user) == ("Erasure: article 17", admin)
    assert entry.closed is not None
    assert MaintenancePass.objects.count() == 1


@pytest.mark.parametrize("reason", ["", "   ", "x" * (LONGEST_REASON + 1)])
def test_without_a_reason_that_can_be_kept_nothing_is_erased(admin, reason):
    item = make.make_item("stays")
    with pytest.raises(Invalid):
        erase_item(item=item, user=admin, reason=reason)
    assert texts_of(item) == ["stays"]


def test_twice_does_no_harm(admin):
    item = make.make_item("once")
    erase_item(item=item, user=admin, reason="asked")
    assert erase_item(item=item, user=admin, reason="asked").texts == 0


def test_a_reporter_is_forgotten_and_the_report_stays(admin):
    complaint = make.make_complaint(platform="market", reporter_key="r1", reason="my number is below")
    other = make.make_complaint(platform="market", reporter_key="r2", reason="spam")
    assert erase_reporter(platform="market", reporter_key="r1", user=admin, reason="asked").complaints == 1
    complaint.refresh_from_db()
    assert (complaint.reporter_key, complaint.reason) == ("", "")
    assert Complaint.objects.get(pk=other.pk).reason == "spam"


@pytest.mark.django_db(transaction=True)
def test_export_files_that_hold_texts_end_and_the_others_stay(admin, tmp_path):
    with override_settings(MEDIA_ROOT=tmp_path / "media", VAR_DIR=tmp_path):
        rows, flat = (
            request_export(user=admin, stream=stream, format=ExportFormat.JSONL, key=make.make_key())
            for stream in ("sft_rows", "flat")
        )
        for export in (rows, flat):
            run_export(export.pk)
        assert Export.objects.filter(state=JobState.DONE).exclude(file="").count() == 2
        erase_item(item=make.make_item("words"), user=admin, reason="asked")
        assert list(Export.objects.exclude(file="")) == [flat]


# --- the command ------------------------------------------------------------------------------------------------------


def erase(**kwargs):
    call_command("erase", platform="market", user="root", reason="asked", **kwargs)


def test_command_erases_everything_of_an_author(admin, capsys):
    for text in ("one", "two"):
        make.make_item(text, platform="market", author_key="writer")
    other = make.make_item("three", platform="market", author_key="another")
    erase(author="writer")
    assert "Erased 2 texts" in capsys.readouterr().out
    assert texts_of(other) == ["three"]


def test_command_only_counts_in_a_dry_run(admin, capsys):
    item = make.make_item("one", platform="market", external_id="7")
    erase(item="7", dry_run=True)
    assert "1 items" in capsys.readouterr().out
    assert texts_of(item) == ["one"]


def test_command_says_who_is_missing():
    make.make_user("root")
    with pytest.raises(CommandError, match="no superuser 'root'"):
        erase(item="7")


def test_command_says_that_nothing_is_there(admin):
    with pytest.raises(CommandError, match="No such item"):
        erase(item="7")
    with pytest.raises(CommandError, match="No complaint"):
        erase(reporter="nobody")

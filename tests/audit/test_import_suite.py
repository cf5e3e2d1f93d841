"""A labelled suite as items, index, policies and reports."""

import gzip
import io
import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.intake.suite import policy_key, suite_time
from audit.models import Item, Policy, Report
from extraction.search import Order, SearchRequest, get_engine
from extraction.text import MatchMode

pytestmark = pytest.mark.django_db
TEXTS = ["加微信领取", "好吃的面包", "加微信看图", "天气很好", "免費领取"]


@pytest.fixture
def suite(settings: Any, tmp_path: Path) -> Path:
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"
    folder = tmp_path / "zh-toy"
    folder.mkdir()
    items = [
        {"id": f"i{number}", "text": text, "toxic": 1, "category": "AD", "split": "test" if number else "train"}
        for number, text in enumerate(TEXTS)
    ]
    reports = [
        {"id": "r0", "item_id": "i0", "category": "FR:Phishing(Bank)", "split": "train"},
        {"id": "r2", "item_id": "i2", "category": "IL:Gambling", "split": "test"},
    ]
    with gzip.open(folder / "items.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)
    (folder / "reports.jsonl").write_text("".join(json.dumps(report) + "\n" for report in reports))
    return folder


def load(folder: Path, **options: Any) -> str:
    out = io.StringIO()
    call_command("import_suite", folder, stdout=out, **options)
    return out.getvalue()


def test_a_suite_is_searched_by_its_own_token_rule(suite: Path) -> None:
    load(suite)
    engine = get_engine()
    assert engine.analysis == "bench-zh-1"
    assert engine.search(SearchRequest("加微信", MatchMode.PHRASE)).counts.live == 2
    assert engine.search(SearchRequest("免费", MatchMode.PHRASE)).counts.live == 0


def test_every_report_opens_with_the_policy_of_its_category(suite: Path) -> None:
    load(suite)
    assert set(Policy.objects.values_list("key", "name")) == {
        ("fr-phishing-bank", "FR:Phishing(Bank)"),
        ("il-gambling", "IL:Gambling"),
    }
    assert Report.objects.get(item__external_id="i2").policy.key == "il-gambling"


def test_one_split_can_be_loaded(suite: Path) -> None:
    load(suite, split="test")
    assert set(Item.objects.values_list("external_id", flat=True)) == {"i1", "i2", "i3", "i4"}
    assert Report.objects.count() == 1


def test_a_limit_keeps_the_reported_items(suite: Path) -> None:
    load(suite, limit=3, reports=2)
    assert set(Item.objects.values_list("external_id", flat=True)) == {"i0", "i1", "i2"}


def test_loading_twice_changes_nothing(suite: Path) -> None:
    load(suite)
    load(suite)
    assert (Item.objects.count(), Report.objects.count(), Policy.objects.count()) == (5, 2, 2)


def test_newest_first_is_the_order_of_the_suite(suite: Path) -> None:
    load(suite)
    hits = get_engine().search(SearchRequest("加微信", MatchMode.PHRASE, order=Order.RECENT)).hits
    found = [Item.objects.get(pk=hit.id).external_id for hit in hits]
    assert found == sorted(found, key=lambda one: blake2b(f"20250218rank{one}".encode(), digest_size=8).digest())


def test_times_of_different_items_differ() -> None:
    assert suite_time("a") != suite_time("b")


def test_labels_are_not_loaded(suite: Path) -> None:
    load(suite)
    assert get_engine().search(SearchRequest("加微信", MatchMode.PHRASE)).counts.toxic == 0


def test_a_key_is_made_of_every_category() -> None:
    assert policy_key("Sexism/Racism") == "sexism-racism"
    assert policy_key("其他") == "other"


def test_a_folder_that_is_no_suite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="is no suite"):
        load(tmp_path)

"""Items on their way in."""

from datetime import UTC, datetime
from typing import Any

import pytest

from audit.intake import ItemRow, equal_known_toxic, mark_gone, store_items
from audit.models import Item, ItemState, ItemText
from tests.factories import make_item, make_judgment, make_report

pytestmark = pytest.mark.django_db


def row(external_id: str = "a", text: str = "加微信领取", **kwargs: Any) -> ItemRow:
    values: dict[str, Any] = {"platform": "forum", "created": datetime(2026, 5, 4, tzinfo=UTC)}
    return ItemRow(external_id=external_id, text=text, **(values | kwargs))


def test_a_new_item_has_its_text_with_hashes_and_language() -> None:
    counts = store_items([row(author_key="u1", url="https://forum.example/a")])
    item = Item.objects.select_related("text").get()
    assert (counts.created, counts.changed, counts.same) == (1, 0, 0)
    assert item.text is not None
    assert (item.text.text, item.text.language, item.text.item_id) == ("加微信领取", "zh-Hans", item.pk)
    assert item.text.text_hash != item.text.norm_hash
    assert (item.version, item.indexed_version, item.state) == (1, 0, ItemState.LIVE)


def test_the_same_item_again_changes_nothing() -> None:
    store_items([row()])
    counts = store_items([row()])
    assert (counts.created, counts.changed, counts.same) == (0, 0, 1)
    assert Item.objects.get().version == 1


def test_an_edited_item_keeps_its_older_text_and_rises_in_version() -> None:
    store_items([row()])
    Item.objects.update(risk=0.9, risk_version=1)
    counts = store_items([row(text="加薇信领取")])
    item = Item.objects.select_related("text").get()
    assert counts.changed == 1
    assert item.text is not None and item.text.text == "加薇信领取"
    assert (item.version, item.risk) == (2, None)
    assert list(ItemText.objects.order_by("pk").values_list("text", flat=True)) == ["加微信领取", "加薇信领取"]


def test_an_edit_back_to_an_earlier_wording_finds_the_earlier_text_again() -> None:
    for text in ("one", "two", "one"):
        store_items([row(text=text)])
    item = Item.objects.select_related("text").get()
    assert item.text is not None and item.text.text == "one"
    assert (item.version, ItemText.objects.count()) == (3, 2)


def test_a_new_url_alone_changes_the_item_and_not_its_text() -> None:
    store_items([row()])
    counts = store_items([row(url="https://forum.example/new")])
    assert (counts.changed, ItemText.objects.count()) == (1, 1)


def test_an_edit_does_not_bring_a_removed_item_back() -> None:
    store_items([row()])
    Item.objects.update(state=ItemState.REMOVED)
    store_items([row(text="edited")])
    assert Item.objects.get().state == ItemState.REMOVED


def test_the_same_id_on_two_platforms_is_two_items() -> None:
    counts = store_items([row(), row(platform="chat")])
    assert counts.created == 2


def test_a_second_row_of_one_item_is_a_problem_that_names_the_first() -> None:
    counts = store_items([row(line=2), row(line=7, text="other")])
    assert counts.created == 1
    assert [(problem.line, "number 2" in problem.reason) for problem in counts.problems] == [(7, True)]
    assert Item.objects.select_related("text").get().text.text == "加微信领取"  # type: ignore[union-attr]


def test_more_rows_than_one_chunk_are_all_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.intake.store.CHUNK", 3)
    counts = store_items(row(external_id=str(number), text=f"text {number}") for number in range(10))
    assert counts.created == Item.objects.exclude(text=None).count() == 10
    assert all(item.text is not None and item.text.item_id == item.pk for item in Item.objects.select_related("text"))


def test_lone_surrogates_never_reach_the_database() -> None:
    store_items([row(text="a\ud800b")])
    assert ItemText.objects.get().text == "ab"


def test_a_text_of_punctuation_alone_equals_nothing() -> None:
    store_items([row("a", "!!!"), row("b", "???")])
    assert set(ItemText.objects.values_list("norm_hash", flat=True)) == {""}


def test_an_item_that_is_gone_stays_gone_when_it_is_sent_again() -> None:
    store_items([row()])
    ids, unknown = mark_gone("forum", ["a", "nowhere"])
    store_items([row(text="edited")])
    item = Item.objects.get()
    assert (ids, unknown, item.state, item.version) == ([item.pk], ["nowhere"], ItemState.GONE, 3)


def test_gone_twice_counts_once() -> None:
    store_items([row()])
    mark_gone("forum", ["a"])
    assert mark_gone("forum", ["a"]) == ([], [])
    assert Item.objects.get().version == 2


def test_a_text_that_equals_a_known_toxic_one_after_normalisation_is_found() -> None:
    toxic = make_item(text="加微信 VX123")
    make_judgment(report=make_report(item=toxic))
    store_items([row(text="加.微.信 ＶＸ１２３")])
    arrived = ItemText.objects.latest("pk")
    found = equal_known_toxic(arrived)
    assert found is not None and found.item == toxic


def test_a_text_does_not_equal_itself() -> None:
    toxic = make_item(text="加微信")
    make_judgment(report=make_report(item=toxic))
    assert toxic.text is not None and equal_known_toxic(toxic.text) is None

"""The demo's texts: reproducible, varied, harmless, and a picture of why a good query matters."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit.demo.campaigns import Campaign
from audit.demo.grammar import GrammarError, expand
from audit.demo.policies import POLICIES
from audit.demo.texts import CAMPAIGNS, DAYS, MINUTES_A_DAY, DemoItem, digest, generate
from extraction.search import Document, SearchRequest
from extraction.search.fts5 import Fts5Engine
from extraction.text import MatchMode, detect_language

BY_KEY = pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda campaign: campaign.key)


@pytest.fixture(scope="module")
def items() -> list[DemoItem]:
    return generate()


@pytest.fixture(scope="module")
def engine(items: list[DemoItem], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fts5Engine]:
    """All the posts in a real index; the key of a post is its place in the list."""
    engine = Fts5Engine(Path(tmp_path_factory.mktemp("demo")) / "search.sqlite3")
    engine.rebuild(_document(place, item) for place, item in enumerate(items))
    yield engine
    engine.close()


def _document(place: int, item: DemoItem) -> Document:
    return Document(
        id=place,
        text=item.text,
        version=1,
        live=True,
        created=datetime(2026, 6, 1, tzinfo=UTC) - timedelta(minutes=item.minutes_back),
        risk=None,
        verdict="",
        language=item.language,
        platform="demo",
        author=item.author_key,
    )


def _found(engine: Fts5Engine, items: list[DemoItem], query: str) -> list[DemoItem]:
    page = engine.search(SearchRequest(query, MatchMode.PHRASE, size=1000))
    return [items[hit.id] for hit in page.hits]


def _toxic(found: list[DemoItem], campaign: Campaign) -> int:
    return sum(item.toxic and item.campaign == campaign.key for item in found)


def test_same_seed_gives_same_digest():
    assert digest(generate(seed=3, size=400)) == digest(generate(seed=3, size=400))


def test_other_seed_gives_other_texts():
    assert digest(generate(seed=3, size=400)) != digest(generate(seed=4, size=400))


def test_there_are_enough_items_in_two_languages(items: list[DemoItem]):
    languages = Counter(item.language for item in items)
    assert len(items) >= 20_000
    assert 0.55 <= languages["zh-Hans"] / len(items) <= 0.65
    assert languages["en"] + languages["zh-Hans"] == len(items)


def test_there_are_enough_campaigns_and_each_has_a_policy():
    assert len(CAMPAIGNS) >= 12
    assert {campaign.policy for campaign in CAMPAIGNS} == {policy.key for policy in POLICIES}


def test_few_items_are_toxic(items: list[DemoItem]):
    assert 0.03 <= sum(item.toxic for item in items) / len(items) <= 0.05


def test_texts_are_distinct_and_neither_short_nor_long(items: list[DemoItem]):
    assert len({item.text for item in items}) == len(items)
    assert all(10 <= len(item.text) <= 200 for item in items)


def test_external_ids_and_addresses_are_unique(items: list[DemoItem]):
    assert len({item.external_id for item in items}) == len({item.url for item in items}) == len(items)


def test_items_are_spread_over_the_month_oldest_first(items: list[DemoItem]):
    ages = [item.minutes_back for item in items]
    assert ages == sorted(ages, reverse=True)
    assert 0 <= ages[-1] < MINUTES_A_DAY
    assert (DAYS - 1) * MINUTES_A_DAY < ages[0] <= DAYS * MINUTES_A_DAY


def test_the_stated_language_is_the_one_a_reader_sees(items: list[DemoItem]):
    assert all(detect_language(item.text) == item.language for item in items[::7])


@pytest.mark.parametrize(
    "pattern",
    [r"\d{7,}", r"\d[\d -]{8,}\d", r"[\w.]+@[\w.]+", r"https?:|www\.|\.(com|cn|net|org|io)\b", r"[{}<>|⟦⟧]"],
    ids=["phone", "spaced phone", "mail", "address", "left-over mark-up"],
)
def test_no_text_holds(items: list[DemoItem], pattern: str):
    found = [item.text for item in items if re.search(pattern, item.text)]
    assert found == []


def test_no_real_brand_is_named(items: list[DemoItem]):
    brands = (
        "微信",
        "淘宝",
        "闲鱼",
        "支付宝",
        "京东",
        "抖音",
        "苹果",
        "华为",
        "whatsapp",
        "wechat",
        "apple",
        "nike",
        "amazon",
    )
    assert [item.text for item in items if any(brand in item.text.lower() for brand in brands)] == []


def test_every_address_is_void(items: list[DemoItem]):
    assert all(item.url.startswith("https://example.invalid/") for item in items)


@BY_KEY
def test_a_good_query_finds_five_times_what_the_naive_one_finds(
    campaign: Campaign, items: list[DemoItem], engine: Fts5Engine
):
    naive = _toxic(_found(engine, items, campaign.naive), campaign)
    good = max(_toxic(_found(engine, items, query), campaign) for query in campaign.good)
    assert naive >= 1
    assert good >= 5 * naive


@BY_KEY
def test_the_naive_query_finds_mostly_honest_posts(campaign: Campaign, items: list[DemoItem], engine: Fts5Engine):
    found = _found(engine, items, campaign.naive)
    assert sum(item.toxic for item in found) < len(found) / 2 + 1


@BY_KEY
def test_wording_moves_over_the_month(campaign: Campaign):
    first, last = campaign.waves[0], campaign.waves[-1]
    assert first.first_day > last.first_day
    assert not set(first.slots["word"]) & set(last.slots["word"])


def test_a_template_that_names_an_unknown_slot_is_refused():
    with pytest.raises(GrammarError, match="nothing"):
        expand("{nothing}", {}, random.Random(0))


def test_an_open_choice_is_refused():
    with pytest.raises(GrammarError, match="stays open"):
        expand("<a|b", {}, random.Random(0))

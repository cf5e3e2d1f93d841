"""Attach mode on a real index with somebody else's mapping: `standard` analyzer, own field names, own ids."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from pytest_django.fixtures import Settings

from extraction.errors import BadQuery, EmptyQuery, IndexMissing, SearchUnavailable
from extraction.search import Counts, Order, SearchRequest, get_attached, get_engine
from extraction.search.attached import AttachedEngine
from extraction.search.elasticsearch import Connection
from extraction.search.foreign import AttachMapping, EmptyOverlay, ForeignState, stand_in_id
from extraction.text import MatchMode, get_analysis
from tests.extraction.corpora import sentences

PHRASE, CHARACTERS = MatchMode.PHRASE, MatchMode.CHARACTERS
START = datetime(2026, 3, 1, tzinfo=UTC)
_MAPPINGS = {
    "properties": {
        "post_id": {"type": "keyword"},
        "body": {"type": "text"},
        "posted": {"type": "date"},
        "user": {"properties": {"name": {"type": "keyword"}}},
        "link": {"type": "keyword"},
        "section": {"type": "keyword"},
    }
}


@dataclass
class Rows:
    """What an application knows, for tests. Risk: the length of the text."""

    known: dict[str, ForeignState] = field(default_factory=dict)
    has_model: bool = True
    scored: list[int] = field(default_factory=list)

    def states(self, external_ids: Sequence[str]) -> Mapping[str, ForeignState]:
        return {id: self.known[id] for id in external_ids if id in self.known}

    def score(self, texts: Sequence[str]) -> Sequence[float] | None:
        self.scored.append(len(texts))
        return [min(len(text), 100) / 100 for text in texts] if self.has_model else None


@dataclass
class Foreign:
    """A foreign index that tests fill, and the engine attached to it."""

    client: Elasticsearch
    index: str
    rows: Rows
    engine: AttachedEngine

    def add(self, *texts: str, **fields: Any) -> None:
        operations: list[dict[str, Any]] = []
        for text in texts:
            number = len(operations) // 2
            operations += [
                {"index": {}},
                {
                    "post_id": f"p{number}",
                    "body": text,
                    "posted": (START + timedelta(minutes=number)).isoformat(),
                    "user": {"name": f"u{number}"},
                    "link": f"https://example.org/{number}",
                    "section": "market",
                    **fields,
                },
            ]
        answer = self.client.bulk(index=self.index, operations=operations, refresh=True)
        assert not answer["errors"]


@pytest.fixture
def foreign(elasticsearch_8: str) -> Iterator[Foreign]:
    client = Elasticsearch(elasticsearch_8)
    index = f"qx-foreign-{secrets.token_hex(6)}"
    client.indices.create(index=index, mappings=_MAPPINGS, settings={"number_of_replicas": 0})
    mapping = AttachMapping(
        index=index, text="body", time="posted", id="post_id", author="user.name", url="link", platform="forum"
    )
    rows = Rows()
    yield Foreign(client, index, rows, AttachedEngine(Connection(elasticsearch_8), mapping, lambda: rows))
    client.indices.delete(index=index)


def ids(foreign: Foreign, text: str, mode: MatchMode = PHRASE, **fields: Any) -> list[str]:
    return [hit.external_id for hit in foreign.engine.search_foreign(SearchRequest(text, mode, **fields)).hits]


@pytest.mark.elasticsearch
def test_hit_carries_what_an_item_row_needs(foreign: Foreign):
    foreign.add("请加.微.信领取")
    (hit,) = foreign.engine.search_foreign(SearchRequest("加微信", PHRASE)).hits
    assert (hit.external_id, hit.text, hit.author, hit.url) == ("p0", "请加.微.信领取", "u0", "https://example.org/0")
    assert (hit.created, hit.state, hit.is_live) == (START, None, True)


@pytest.mark.elasticsearch
def test_what_the_foreign_analyzer_finds_is_checked_again(foreign: Foreign):
    foreign.add("加微信", "加 微 信", "加微的信", "a+b vx.com")
    assert sorted(ids(foreign, "加微信")) == ["p0", "p1"]
    assert ids(foreign, "加微信", CHARACTERS) == ["p0"]


@pytest.mark.elasticsearch
@pytest.mark.parametrize("mode", list(MatchMode))
def test_every_result_matches_by_our_rules(foreign: Foreign, mode: MatchMode):
    texts = sentences(400, seed=21)
    foreign.add(*texts)
    analysis = get_analysis()
    for query in ("加微信", "微信", "咨询", "a day from home", "兼职日结", "😊", "don't be"):
        key = analysis.key(query, mode)
        page = foreign.engine.search_foreign(SearchRequest(query, mode, size=400))
        assert all(analysis.matches(hit.text, key, mode) for hit in page.hits)
        assert len({hit.external_id for hit in page.hits}) == len(page.hits)


@pytest.mark.elasticsearch
def test_phrases_that_its_analyzer_can_find_are_all_found(foreign: Foreign):
    texts = sentences(400, seed=22)
    foreign.add(*texts)
    analysis = get_analysis()
    key = analysis.key("兼职日结", PHRASE)
    expected = {f"p{number}" for number, text in enumerate(texts) if analysis.matches(text, key, PHRASE)}
    assert set(ids(foreign, "兼职日结", size=400)) == expected


@pytest.mark.elasticsearch
def test_totals_are_about(foreign: Foreign):
    foreign.add(*["加微信"] * 600, *["加.微,信?的"] * 300)
    page = foreign.engine.search(SearchRequest("加微信", PHRASE, size=100))
    assert not page.exact
    assert page.counts == Counts(live=900, removed=0, toxic=0, normal=0)


@pytest.mark.elasticsearch
def test_share_of_false_results_lowers_the_total(foreign: Foreign):
    foreign.add(*["加+微信", "加 微信"] * 500)
    page = foreign.engine.search_foreign(SearchRequest("加+微", CHARACTERS, size=100))
    assert page.total == 1000 and page.checked < 1000
    assert 450 <= page.counts.live <= 550


@pytest.mark.elasticsearch
def test_first_two_hundred_by_time_are_scored_and_ordered_by_risk(foreign: Foreign):
    foreign.add(*[f"加微信{'长' * (number % 50)}" for number in range(450)])
    page = foreign.engine.search_foreign(SearchRequest("加微信", PHRASE, size=300))
    risks = [hit.risk for hit in page.hits]
    assert foreign.rows.scored == [200]
    assert risks[:200] == sorted(risks[:200], key=lambda risk: -(risk or 0)) and set(risks[200:]) == {None}
    assert {hit.external_id for hit in page.hits[:200]} == {f"p{number}" for number in range(250, 450)}
    assert [hit.external_id for hit in page.hits[200:]] == [f"p{number}" for number in range(249, 149, -1)]


@pytest.mark.elasticsearch
def test_recent_order_is_by_time(foreign: Foreign):
    foreign.add("加微信长长长", "加微信", "加微信长")
    assert ids(foreign, "加微信", order=Order.RECENT) == ["p2", "p1", "p0"]


@pytest.mark.elasticsearch
def test_without_a_model_the_order_is_by_time(foreign: Foreign):
    foreign.rows.has_model = False
    foreign.add("加微信长长长", "加微信")
    assert ids(foreign, "加微信") == ["p1", "p0"]


@pytest.mark.elasticsearch
def test_removed_items_are_filtered_and_the_page_is_filled_with_others(foreign: Foreign):
    foreign.add(*["加微信"] * 700)
    foreign.rows.known = {f"p{number}": ForeignState(number, live=False, verdict="toxic") for number in range(300, 700)}
    page = foreign.engine.search_foreign(SearchRequest("加微信", PHRASE, size=100, order=Order.RECENT))
    assert [hit.external_id for hit in page.hits] == [f"p{number}" for number in range(299, 199, -1)]
    assert page.counts.removed > 0 and page.counts.toxic > 0
    foreign.rows.known = {}
    assert ids(foreign, "加微信", order=Order.RECENT)[0] == "p699"


@pytest.mark.elasticsearch
def test_figures_name_rows_by_key_and_others_by_a_stand_in(foreign: Foreign):
    foreign.add("加微信", "加微信")
    foreign.rows.known = {"p0": ForeignState(17, live=True)}
    requests = [SearchRequest("加微信", PHRASE, order=Order.RECENT), SearchRequest("微信", PHRASE, order=Order.RECENT)]
    first, second = foreign.engine.msearch(requests)
    assert [hit.id for hit in first.hits] == [stand_in_id("p1"), 17] == [hit.id for hit in second.hits]
    assert stand_in_id("p1") < 0


@pytest.mark.elasticsearch
def test_extra_filter_holds_everywhere(foreign: Foreign, elasticsearch_8: str):
    foreign.add("加微信")
    foreign.add("加微信", section="private")
    mapping = AttachMapping(foreign.index, "body", "posted", filter={"term": {"section": "private"}})
    engine = AttachedEngine(Connection(elasticsearch_8), mapping, EmptyOverlay)
    (hit,) = engine.search_foreign(SearchRequest("加微信", PHRASE)).hits
    assert engine.get_foreign(hit.external_id) is not None
    outside = foreign.client.search(index=foreign.index, query={"term": {"section": "market"}})["hits"]["hits"]
    assert engine.get_many_foreign([outside[0]["_id"], hit.external_id]) == [hit]
    assert len(engine.sample_foreign(10, seed=1)) == 1
    assert engine.health().documents == 1


@pytest.mark.elasticsearch
def test_one_item_can_be_fetched_for_a_report(foreign: Foreign):
    foreign.add("加微信", "别的")
    hit = foreign.engine.get_foreign("p1")
    assert hit is not None and hit.text == "别的"
    assert foreign.engine.get_foreign("p9") is None


@pytest.mark.elasticsearch
def test_sample_is_distinct_and_knows_rows(foreign: Foreign):
    foreign.add(*sentences(50, seed=1))
    foreign.rows.known = {"p3": ForeignState(33, live=True), "p4": ForeignState(44, live=False)}
    assert len({hit.external_id for hit in foreign.engine.sample_foreign(20, seed=1)}) == 20
    assert foreign.engine.sample(50, seed=1) == [33]


@pytest.mark.elasticsearch
def test_nothing_is_written(foreign: Foreign):
    foreign.add("加微信")
    before = foreign.client.indices.stats(index=foreign.index)["_all"]["primaries"]["indexing"]["index_total"]
    mapping = foreign.client.indices.get_mapping(index=foreign.index).body
    assert foreign.engine.put([]) == [] and foreign.engine.versions(0, 10) == []
    foreign.engine.rebuild([])
    foreign.engine.refresh()
    after = foreign.client.indices.stats(index=foreign.index)["_all"]["primaries"]["indexing"]["index_total"]
    assert (after, foreign.client.indices.get_mapping(index=foreign.index).body) == (before, mapping)


@pytest.mark.elasticsearch
def test_wrong_field_name_is_said_by_health(foreign: Foreign, elasticsearch_8: str):
    engine = AttachedEngine(Connection(elasticsearch_8), AttachMapping(foreign.index, "text", "posted"), EmptyOverlay)
    health = engine.health()
    assert not health.is_ready and "'text'" in health.detail
    assert foreign.engine.health().is_ready


@pytest.mark.elasticsearch
def test_query_errors_are_those_of_every_engine(foreign: Foreign, elasticsearch_8: str):
    with pytest.raises(EmptyQuery):
        foreign.engine.search(SearchRequest("。", PHRASE))
    with pytest.raises(BadQuery):
        foreign.engine.search(SearchRequest("加", PHRASE, after=(0.5, 1, 1)))
    gone = AttachedEngine(Connection(elasticsearch_8), AttachMapping("qx-nowhere", "body", "posted"), EmptyOverlay)
    with pytest.raises(IndexMissing):
        gone.search(SearchRequest("加", PHRASE))


def test_unreachable_server_is_unavailable():
    engine = AttachedEngine(Connection("http://127.0.0.1:9"), AttachMapping("a", "b", "c"), EmptyOverlay)
    with pytest.raises(SearchUnavailable):
        engine.search(SearchRequest("加", PHRASE))
    assert not engine.health().is_ready


@pytest.mark.parametrize(
    "values", [{"index": "a", "text": "b"}, {"index": "a", "text": "b", "time": "c", "colour": "d"}]
)
def test_mapping_with_missing_or_unknown_names_is_refused(values: dict[str, str]):
    with pytest.raises(ValueError, match="lacks: time|unknown names: colour"):
        AttachMapping.from_settings(values)


def test_settings_attach_the_site(settings: Settings):
    assert get_attached() is None
    settings.ELASTICSEARCH_URL = "http://127.0.0.1:9"
    settings.SEARCH_ATTACH = json.loads('{"index": "posts", "text": "body", "time": "posted"}')
    engine = get_attached()
    assert engine is not None and engine is get_engine()
    assert engine.generation == "posts"

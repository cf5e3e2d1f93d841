"""What every search engine holds to, in both matching modes: the same tests on FTS5, Elasticsearch 8 and 9."""

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from extraction.errors import BadQuery, EmptyQuery, IndexMissing, SearchUnavailable
from extraction.search import Document, Order, SearchEngine, SearchPage, SearchRequest
from extraction.search.elasticsearch import ElasticsearchEngine
from extraction.search.fts5 import Fts5Engine
from extraction.text import MatchMode
from tests.extraction.corpora import (
    Corpus,
    adversarial,
    make_document,
    make_documents,
    sample_queries,
    sentences,
)

PHRASE, CHARACTERS = MatchMode.PHRASE, MatchMode.CHARACTERS
MakeEngine = Callable[[], SearchEngine]

modes = pytest.mark.parametrize("mode", list(MatchMode))
orders = pytest.mark.parametrize("order", list(Order))


@pytest.fixture(
    scope="module",
    params=[
        "fts5",
        pytest.param("elasticsearch_8", marks=pytest.mark.elasticsearch),
        pytest.param("elasticsearch_9", marks=pytest.mark.elasticsearch),
    ],
)
def make_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeEngine]:
    """Makes engines without an index, each with a place of its own."""
    if request.param == "fts5":
        folder = tmp_path_factory.mktemp("fts5")
        yield lambda: Fts5Engine(folder / f"{secrets.token_hex(4)}.sqlite3")
        return
    url, made = request.getfixturevalue(request.param), list[ElasticsearchEngine]()

    def make() -> SearchEngine:
        made.append(ElasticsearchEngine(url, f"qx-test-{secrets.token_hex(6)}"))
        return made[-1]

    yield make
    for engine in made:
        engine.drop()


@pytest.fixture
def engine(make_engine: MakeEngine) -> SearchEngine:
    return make_engine()


def put(engine: SearchEngine, *documents: Document) -> None:
    assert engine.put(documents) == []
    engine.refresh()


def ids(page: SearchPage) -> list[int]:
    return [hit.id for hit in page.hits]


def found(engine: SearchEngine, text: str, mode: MatchMode = PHRASE, **fields: object) -> list[int]:
    return sorted(ids(engine.search(SearchRequest(text, mode, **fields))))  # type: ignore[arg-type]


# --- 1, 2: equal to brute force ---


@pytest.fixture(scope="module", params=["sentences", "adversarial"])
def corpus(request: pytest.FixtureRequest) -> Corpus:
    texts = sentences(1500, seed=3) if request.param == "sentences" else adversarial(2500, seed=4)
    return Corpus(make_documents(texts, seed=5))


@pytest.fixture(scope="module")
def full_engine(make_engine: MakeEngine, corpus: Corpus) -> SearchEngine:
    engine = make_engine()
    put(engine, *corpus.documents)
    return engine


@modes
@orders
def test_page_and_counts_equal_brute_force(full_engine: SearchEngine, corpus: Corpus, mode: MatchMode, order: Order):
    queries = sample_queries(corpus.documents, mode, 150, seed=6)
    requests = [
        SearchRequest(query, mode, size=30, order=order, live=(True, False, None)[number % 3])
        for number, query in enumerate(queries)
    ]
    for request, page in zip(requests, full_engine.msearch(requests), strict=True):
        assert (ids(page), page.counts) == corpus.page(request), ascii(request.text)
        assert page.exact


@modes
def test_batch_gives_the_pages_of_single_searches(full_engine: SearchEngine, mode: MatchMode):
    requests = [SearchRequest(text, mode, size=5) for text in ("加", "微信", "a", "加微信")] * 10
    single = [replace(full_engine.search(request), took_ms=0) for request in requests[:4]]
    assert [replace(page, took_ms=0) for page in full_engine.msearch(requests)] == single * 10


# --- 3: disguises ---


@modes
@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("❤️加我", "❤加我"),
        ("👨‍👩‍👧一家", "👨👩👧一家"),
        ("ＶＸ１２３", "vx123"),
        ("WeChat", "wEcHaT"),
        ("免費領取", "免费领取"),
        ("免费领取", "免費領取"),
        ("加\u200b微\u200b信", "加微信"),
        ('他说"加我"吧', '"加我"'),
        ("50% _off_ a\\b", "50% _off_ a\\b"),
        ("x AND y OR (z*)", "x AND y OR (z*)"),
        ("a\x00b", "a b"),
        ("line\u2028break", "line break"),
        ("x" * 250 + "y", "x" * 250 + "y"),
    ],
)
def test_disguised_text_is_found(engine: SearchEngine, mode: MatchMode, written: str, query: str):
    put(engine, make_document(1, written), make_document(2, "something else"))
    assert found(engine, query, mode) == [1]


def test_phrase_mode_looks_over_punctuation_and_not_into_words(engine: SearchEngine):
    put(engine, make_document(1, "加.微.信"), make_document(2, "my class"), make_document(3, "加 微 的 信"))
    assert (found(engine, "加微信"), found(engine, "ass")) == ([1], [])


def test_characters_mode_looks_into_words_and_not_over_punctuation(engine: SearchEngine):
    put(engine, make_document(1, "加.微.信"), make_document(2, "my class vx12345"))
    assert (found(engine, "加微信", CHARACTERS), found(engine, "s vx1", CHARACTERS)) == ([], [2])


def test_a_long_word_does_not_match_its_end(engine: SearchEngine):
    put(engine, make_document(1, "a" * 255 + "b" * 45))
    assert found(engine, "b" * 45) == []


# --- 4, 5: order and pages ---


def test_risk_order_breaks_ties_by_time_then_id_and_puts_unscored_last(engine: SearchEngine):
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    put(
        engine,
        make_document(1, risk=None, created=late),
        make_document(2, risk=0.2, created=early),
        make_document(3, risk=0.2, created=late),
        make_document(5, risk=0.9, created=early),
        make_document(4, risk=0.9, created=early),
    )
    page = engine.search(SearchRequest("加微信", PHRASE))
    assert ids(page) == [4, 5, 3, 2, 1]
    assert [hit.risk for hit in page.hits] == [0.9, 0.9, 0.2, 0.2, None]
    assert page.hits[0].created == early


@modes
@orders
@pytest.mark.parametrize("live", [True, None])
def test_pages_cover_each_match_once(
    full_engine: SearchEngine, corpus: Corpus, mode: MatchMode, order: Order, live: bool | None
):
    whole = SearchRequest("加", mode, size=5000, order=order, live=live)
    seen: list[int] = []
    request = replace(whole, size=7)
    while (page := full_engine.search(request)).hits:
        seen += ids(page)
        request = replace(request, after=tuple(json.loads(json.dumps(page.hits[-1].sort))))
    assert seen == corpus.page(whole)[0]


def test_cursor_of_another_order_is_refused(engine: SearchEngine):
    put(engine, make_document(1))
    with pytest.raises(BadQuery):
        engine.search(SearchRequest("加微信", PHRASE, order=Order.RECENT, after=(0.5, 0, 1)))


# --- 6, 7: changes ---


@modes
def test_removed_item_is_hidden_counted_and_can_be_reinstated(engine: SearchEngine, mode: MatchMode):
    put(engine, make_document(1, verdict="toxic"), make_document(2))
    put(engine, make_document(1, verdict="toxic", version=2, live=False))
    page = engine.search(SearchRequest("加微信", mode))
    assert (ids(page), page.counts.live, page.counts.removed, page.counts.toxic) == ([2], 1, 1, 1)
    put(engine, make_document(1, version=3))
    assert found(engine, "加微信", mode) == [1, 2]


def test_an_older_version_changes_nothing(engine: SearchEngine):
    put(engine, make_document(1, version=5, live=False))
    put(engine, make_document(1, "旧的文字", version=4))
    assert (found(engine, "旧的文字"), found(engine, "加微信", live=False)) == ([], [1])


def test_the_same_version_can_be_put_again_with_another_risk(engine: SearchEngine):
    put(engine, make_document(1, risk=0.1))
    put(engine, make_document(1, risk=0.8))
    assert engine.search(SearchRequest("加微信", PHRASE)).hits[0].risk == 0.8


@modes
def test_changed_text_moves_between_phrases(engine: SearchEngine, mode: MatchMode):
    put(engine, make_document(1, "加微信"))
    put(engine, make_document(1, "普通的文字", version=2))
    assert (found(engine, "加微信", mode), found(engine, "普通的", mode)) == ([], [1])


@modes
def test_many_changes_leave_the_index_equal_to_brute_force(engine: SearchEngine, mode: MatchMode):
    documents = make_documents(adversarial(300, seed=8), seed=9)
    put(engine, *documents)
    changed = [
        replace(document, text=text, version=2)
        for document, text in zip(documents, adversarial(300, seed=10), strict=True)
    ]
    put(engine, *changed, *documents)
    expected = Corpus(changed)
    for query in sample_queries(changed, mode, 60, seed=11):
        request = SearchRequest(query, mode, size=300)
        page = engine.search(request)
        assert (ids(page), page.counts) == expected.page(request), ascii(query)


def test_of_two_versions_in_one_batch_the_newer_stays(engine: SearchEngine):
    put(engine, make_document(1, "新的", version=2), make_document(1, "旧的", version=1))
    assert (found(engine, "新的"), found(engine, "旧的")) == ([1], [])


def test_refused_documents_are_named_and_the_others_kept(engine: SearchEngine):
    bad = [
        make_document(2, risk=float("nan")),
        make_document(3, verdict="maybe"),
        make_document(4, created=datetime(2026, 1, 1)),  # noqa: DTZ001 - that is what is wrong with it
        make_document(5, version=-1),
    ]
    failures = engine.put([make_document(1), *bad])
    engine.refresh()
    assert [failure.id for failure in failures] == [2, 3, 4, 5]
    assert found(engine, "加微信") == [1]


# --- 8, 9: queries and filters ---


@modes
@pytest.mark.parametrize("text", ["", "   ", "\u200b\u2060", "\x00"])
def test_query_of_nothing_is_refused(full_engine: SearchEngine, mode: MatchMode, text: str):
    with pytest.raises(EmptyQuery):
        full_engine.search(SearchRequest(text, mode))


def test_query_of_punctuation_is_refused_in_phrase_mode_only(engine: SearchEngine):
    put(engine, make_document(1, "加我。。快"))
    with pytest.raises(EmptyQuery):
        engine.search(SearchRequest("。。", PHRASE))
    assert found(engine, "。。", CHARACTERS) == [1]


@pytest.mark.parametrize("request_", [SearchRequest("字" * 300, PHRASE), SearchRequest("字", PHRASE, size=0)])
def test_overlong_query_and_empty_page_are_refused(full_engine: SearchEngine, request_: SearchRequest):
    with pytest.raises(BadQuery):
        full_engine.search(request_)


@modes
@pytest.mark.parametrize("filters", [{"platform": "forum"}, {"language": "en"}, {"platform": "demo", "language": "en"}])
def test_filters_narrow_hits_and_counts(
    full_engine: SearchEngine, corpus: Corpus, mode: MatchMode, filters: dict[str, str]
):
    request = SearchRequest("加", mode, size=2500, **filters)  # type: ignore[arg-type]
    page = full_engine.search(request)
    assert (ids(page), page.counts) == corpus.page(request)


# --- 10, 12: rebuild ---


def test_rebuild_while_searching_is_never_empty_never_doubled(engine: SearchEngine):
    documents = [make_document(id) for id in range(1, 401)]
    put(engine, *documents)
    totals: set[int] = set()
    failures: list[BaseException] = []
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                page = engine.search(SearchRequest("加微信", PHRASE, size=500))
                totals.update({page.counts.live, len(set(ids(page)))})
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    searcher = threading.Thread(target=search)
    searcher.start()
    generations = {engine.generation, engine.rebuild(documents), engine.rebuild(documents)}
    done.set()
    searcher.join()
    assert (failures, totals, len(generations)) == ([], {400}, 3)
    assert engine.generation in generations


def test_what_is_put_during_a_rebuild_is_not_lost(engine: SearchEngine):
    put(engine, make_document(1), make_document(2))

    def documents() -> Iterator[Document]:
        yield make_document(1)
        yield make_document(2)
        put(engine, make_document(1, version=2, live=False), make_document(3, "刚刚来的"))

    engine.rebuild(documents())
    assert (found(engine, "加微信"), found(engine, "加微信", live=False), found(engine, "刚刚来的")) == ([2], [1], [3])
    put(engine, make_document(2, version=2, live=False))
    assert found(engine, "加微信") == []


def test_documents_that_are_not_given_again_leave_with_a_rebuild(engine: SearchEngine):
    put(engine, make_document(1), make_document(2))
    engine.rebuild([make_document(2)])
    assert found(engine, "加微信") == [2]


def test_failed_rebuild_leaves_the_old_index_serving(engine: SearchEngine):
    put(engine, make_document(1))
    before = engine.generation

    def documents() -> Iterator[Document]:
        yield make_document(2)
        raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError, match="went away"):
        engine.rebuild(documents())
    put(engine, make_document(3))
    assert (engine.generation, found(engine, "加微信")) == (before, [1, 3])


def test_rebuild_without_an_index_makes_one(engine: SearchEngine):
    engine.rebuild([make_document(1)])
    assert found(engine, "加微信") == [1]


def test_index_is_searched_with_its_own_rules_until_a_rebuild_swaps_both(
    engine: SearchEngine, settings: Settings, tmp_path: Path
):
    put(engine, make_document(1, "加薇信"))
    table = tmp_path / "folds.json"
    table.write_text(json.dumps({"薇": "微"}), encoding="utf-8")
    settings.FOLDS_FILE = str(table)
    assert (engine.analysis, found(engine, "加微信"), found(engine, "加薇信")) == ("qx-1", [], [1])
    put(engine, make_document(2, "加薇信"))
    assert (found(engine, "加微信"), found(engine, "加薇信")) == ([], [1, 2])
    engine.rebuild([make_document(1, "加薇信"), make_document(2, "加薇信")])
    assert engine.analysis.startswith("qx-1+")
    assert (found(engine, "加微信"), found(engine, "加薇信")) == ([1, 2], [1, 2])


def test_a_suite_is_indexed_with_its_own_rules(engine: SearchEngine):
    engine.rebuild([make_document(1, "Don’t pay * 免費")], analysis="bench-en-1")
    page = engine.search(SearchRequest("don't pay *", PHRASE))
    assert (ids(page), page.analysis) == ([1], "bench-en-1")


# --- 11: trouble ---


def test_search_without_an_index_says_so(make_engine: MakeEngine):
    engine = make_engine()
    with pytest.raises(IndexMissing):
        engine.search(SearchRequest("加微信", PHRASE))
    assert not engine.health().is_ready


def test_each_trouble_has_a_sentence_of_its_own():
    sentences = {str(error.sentence) for error in (IndexMissing, SearchUnavailable, BadQuery, EmptyQuery)}
    assert len(sentences) == 4


# --- the rest of the protocol ---


def test_page_names_the_index_and_its_rules(engine: SearchEngine):
    put(engine, make_document(1))
    page = engine.search(SearchRequest("加微信", PHRASE))
    assert (page.index, page.analysis) == (engine.generation, "qx-1")
    assert page.took_ms > 0


def test_sample_is_live_distinct_and_repeatable(engine: SearchEngine):
    put(engine, *(make_document(id, live=id % 2 == 0) for id in range(1, 201)))
    drawn = engine.sample(30, seed=1)
    assert len(set(drawn)) == 30 and all(id % 2 == 0 for id in drawn)
    assert engine.sample(30, seed=1) == drawn != engine.sample(30, seed=2)
    assert sorted(engine.sample(1000, seed=1)) == list(range(2, 201, 2))


def test_versions_come_in_the_order_of_ids(engine: SearchEngine):
    put(engine, make_document(3, version=7), make_document(1, version=2), make_document(2, live=False))
    assert engine.versions(0, 2) == [(1, 2), (2, 1)]
    assert engine.versions(2, 10) == [(3, 7)]


def test_health_counts_documents(engine: SearchEngine):
    put(engine, make_document(1), make_document(2, live=False))
    health = engine.health()
    assert (health.is_ready, health.documents, health.generation) == (True, 2, engine.generation)
    assert health.version and engine.name.startswith(health.engine)

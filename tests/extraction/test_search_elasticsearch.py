"""The engine on Elasticsearch: lost connections, foreign aliases, swaps under writers. The contract has the rest."""

import secrets
import socket
import threading
from collections.abc import Iterator

import pytest
from elasticsearch import Elasticsearch

from extraction.errors import IndexMissing, SearchTimedOut, SearchUnavailable
from extraction.search import SearchRequest
from extraction.search import elasticsearch as elasticsearch_module
from extraction.search.elasticsearch import ElasticsearchEngine, _Outcome, typed_error
from extraction.text import MatchMode
from tests.elasticsearch_server import Server
from tests.extraction.corpora import make_document

REQUEST = SearchRequest("加微信", MatchMode.PHRASE)


@pytest.fixture
def engine(elasticsearch_8: str) -> Iterator[ElasticsearchEngine]:
    engine = ElasticsearchEngine(elasticsearch_8, f"qx-test-{secrets.token_hex(6)}")
    yield engine
    engine.drop()


def live(engine: ElasticsearchEngine) -> int:
    engine.refresh()
    return engine.search(REQUEST).counts.live


def list_when_asked(ids: list[int]) -> Iterator[int]:
    """The ids as they are when the first is asked for."""
    yield from list(ids)


def test_nobody_listening_is_unavailable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        engine = ElasticsearchEngine(f"http://127.0.0.1:{free.getsockname()[1]}", "qx-test")
        with pytest.raises(SearchUnavailable):
            engine.search(REQUEST)
        with pytest.raises(SearchUnavailable):
            engine.put([make_document(1)])
        assert not engine.health().is_ready


def test_server_that_never_answers_times_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(elasticsearch_module, "SEARCH_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engine = ElasticsearchEngine(f"http://127.0.0.1:{silent.getsockname()[1]}", "qx-test")
        with pytest.raises(SearchTimedOut):
            engine.search(REQUEST)


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, IndexMissing), (503, SearchUnavailable), (429, SearchUnavailable), (504, SearchTimedOut)],
)
def test_answers_of_the_server_become_our_errors(status: int, error: type[Exception]):
    assert type(typed_error(status, "detail")) is error


@pytest.mark.elasticsearch
def test_index_of_another_release_asks_for_a_rebuild_that_mends_it(engine: ElasticsearchEngine, elasticsearch_8: str):
    client = Elasticsearch(elasticsearch_8)
    client.indices.create(index=f"{engine._alias}-other", aliases={engine._alias: {}})
    with pytest.raises(IndexMissing, match="not made by this release"):
        engine.search(REQUEST)
    with pytest.raises(IndexMissing, match="not made by this release"):
        engine.put([make_document(1)])
    engine.rebuild([make_document(1)])
    assert live(engine) == 1


@pytest.mark.elasticsearch
def test_other_process_finds_the_new_index_after_a_swap(engine: ElasticsearchEngine, elasticsearch_8: str):
    other = ElasticsearchEngine(elasticsearch_8, engine._alias)
    engine.put([make_document(1)])
    assert live(other) == 1
    engine.rebuild([make_document(1), make_document(2)])
    assert live(other) == 2
    other.put([make_document(3)])
    assert live(engine) == 3


@pytest.mark.elasticsearch
def test_writers_on_both_sides_of_a_swap_lose_nothing(engine: ElasticsearchEngine, elasticsearch_8: str):
    engine.put([make_document(1)])
    done = threading.Event()
    written = [1]
    failures: list[BaseException] = []

    def write() -> None:
        other = ElasticsearchEngine(elasticsearch_8, engine._alias)
        try:
            while not done.is_set():
                written.append(written[-1] + 1)
                assert other.put([make_document(written[-1])]) == []
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    engine.rebuild(make_document(id) for id in list_when_asked(written))
    done.set()
    writer.join()
    assert failures == []
    engine.refresh()
    assert [id for id, _version in engine.versions(0, 100_000)] == written


@pytest.mark.elasticsearch
def test_writes_that_stay_stopped_are_reported(
    engine: ElasticsearchEngine, elasticsearch_8: str, monkeypatch: pytest.MonkeyPatch
):
    engine.put([make_document(1)])
    Elasticsearch(elasticsearch_8).indices.add_block(index=engine.generation, block="write")
    monkeypatch.setattr(elasticsearch_module, "PUT_ATTEMPTS", 2)
    with pytest.raises(SearchUnavailable, match="blocked"):
        engine.put([make_document(2)])


@pytest.mark.parametrize(
    ("status", "reason", "refused", "again"),
    [
        (201, "", False, False),
        (409, "version_conflict", False, False),
        (400, "mapper_parsing", True, False),
        (403, "security_exception", True, False),
        (403, "cluster_block_exception", False, True),
        (404, "index_not_found", False, True),
        (503, "unavailable_shards", False, True),
    ],
)
def test_what_becomes_of_one_document_of_a_bulk(status: int, reason: str, refused: bool, again: bool):
    outcome = _Outcome(status, "a", reason)
    assert (outcome.is_refused, outcome.is_open("a")) == (refused, again)


def test_a_write_into_the_index_before_a_swap_is_made_again():
    assert _Outcome(201, "old", "").is_open("new")


@pytest.mark.elasticsearch
@pytest.mark.slow
def test_server_that_goes_and_comes_back_loses_nothing(elasticsearch_8_server: Server):
    engine = ElasticsearchEngine(elasticsearch_8_server.url, f"qx-test-{secrets.token_hex(6)}")
    engine.put([make_document(1)])
    elasticsearch_8_server.stop()
    with pytest.raises(SearchUnavailable):
        engine.put([make_document(2)])
    with pytest.raises(SearchUnavailable):
        engine.search(REQUEST)
    elasticsearch_8_server.start()
    assert engine.versions(0, 10) == [(1, 1)]
    engine.put([make_document(2)])
    assert live(engine) == 2
    engine.drop()

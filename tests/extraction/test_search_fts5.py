"""The embedded engine: frequent queries, several processes, crashes, damage, locks."""

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from extraction.errors import IndexMissing, RebuildRunning, SearchTimedOut, SearchUnavailable
from extraction.search import Document, Order, SearchRequest, fts5_generation, get_engine
from extraction.search.fts5 import Fts5Engine
from extraction.text import MatchMode
from tests.extraction.corpora import Corpus, make_document, make_documents, sample_queries, sentences

PHRASE = MatchMode.PHRASE
spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search.sqlite3"


@pytest.fixture
def engine(path: Path) -> Fts5Engine:
    return Fts5Engine(path)


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def check_integrity(path: Path) -> None:
    """Raises if the postings and the file do not agree with themselves."""
    connection = connect(path)
    assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    for mode in MatchMode:
        statement = f"INSERT INTO {mode.value} ({mode.value}) VALUES ('integrity-check')"  # noqa: S608 - our table
        connection.execute(statement)


@pytest.mark.parametrize("mode", list(MatchMode))
@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("live", [True, False, None])
@pytest.mark.parametrize(("sort", "walk"), [(1000, 0), (50, 10), (50, 10_000)])
def test_page_of_a_frequent_query_is_exact_and_its_counts_are_bounds(
    engine: Fts5Engine,
    monkeypatch: pytest.MonkeyPatch,
    mode: MatchMode,
    order: Order,
    live: bool | None,
    sort: int,
    walk: int,
):
    monkeypatch.setattr(fts5_generation, "COUNT_LIMIT", 40)
    monkeypatch.setattr(fts5_generation, "SORT_LIMIT", sort)
    monkeypatch.setattr(fts5_generation, "WALK_ROWS", walk)
    corpus = Corpus(make_documents(sentences(600, seed=1), seed=2))
    engine.put(corpus.documents)
    for query in sample_queries(corpus.documents, mode, 25, seed=3):
        whole = SearchRequest(query, mode, size=40, order=order, live=live)
        expected, counts = corpus.page(whole)
        first = engine.search(SearchRequest(query, mode, 20, order, live))
        total = counts.live + counts.removed
        assert first.exact == (total <= 40)
        assert first.counts.live + first.counts.removed == min(total, 41)
        hits = list(first.hits)
        if len(hits) == 20:
            hits += engine.search(SearchRequest(query, mode, 20, order, live, after=hits[-1].sort)).hits
        assert [hit.id for hit in hits] == expected


def test_engine_of_the_settings_is_one_for_the_process():
    assert get_engine() is get_engine()


def _put_many(path: Path, first: int, count: int) -> None:
    engine = Fts5Engine(path)
    for id in range(first, first + count):
        engine.put([make_document(id)])


def test_processes_write_side_by_side_and_into_the_index_of_a_rebuild(engine: Fts5Engine, path: Path):
    engine.put([make_document(1)])
    writers = [spawn.Process(target=_put_many, args=(path, first, 150)) for first in (1000, 2000)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        engine.rebuild(_everything(path))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    ids = [id for id, _version in engine.versions(0, 1000)]
    assert ids == [1, *range(1000, 1150), *range(2000, 2150)]
    assert engine.search(SearchRequest("加微信", PHRASE)).counts.live == 301
    check_integrity(path)


def _everything(path: Path) -> Iterator[Document]:
    """Read when the rebuild asks, as rows of a database are."""
    yield from [make_document(id) for id, _version in Fts5Engine(path).versions(0, 10_000)]


def test_killed_writer_leaves_an_index_equal_to_its_texts(engine: Fts5Engine, path: Path):
    engine.put([make_document(1)])
    for round_ in range(3):
        writer = spawn.Process(target=_put_many, args=(path, 100 + 1000 * round_, 900))
        writer.start()
        seen = len(engine.versions(0, 10_000))
        while len(engine.versions(0, 10_000)) < seen + 20:
            time.sleep(0.01)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    count = len(engine.versions(0, 10_000))
    assert engine.search(SearchRequest("加微信", PHRASE)).counts.live == count
    check_integrity(path)


def test_forked_process_opens_its_own_connection(engine: Fts5Engine):
    engine.put([make_document(1)])
    child = multiprocessing.get_context("fork").Process(target=engine.put, args=([make_document(2)],))
    child.start()
    child.join()
    assert (child.exitcode, engine.versions(0, 10)) == (0, [(1, 1), (2, 1)])


def test_threads_search_while_another_writes(engine: Fts5Engine):
    engine.put([make_document(1)])
    failures: list[BaseException] = []

    def search() -> None:
        try:
            for _ in range(50):
                engine.search(SearchRequest("加微信", PHRASE))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    engine.put(make_document(id) for id in range(2, 500))
    for thread in threads:
        thread.join()
    assert failures == []


def test_second_rebuild_at_once_is_refused(engine: Fts5Engine, path: Path):
    engine.put([make_document(1)])

    def documents() -> Iterator[Document]:
        with pytest.raises(RebuildRunning):
            Fts5Engine(path).rebuild([])
        yield make_document(1)

    engine.rebuild(documents())


def test_rebuild_keeps_one_generation_beside_the_serving_one(engine: Fts5Engine, path: Path):
    for _ in range(4):
        engine.rebuild([make_document(1)])
    assert len(list(path.parent.glob("search-*.sqlite3"))) == 2


def test_damaged_index_says_so_and_a_rebuild_mends_it(engine: Fts5Engine, path: Path):
    engine.put([make_document(1)])
    engine.close()
    path.resolve().write_bytes(b"not a database at all" * 500)
    with pytest.raises(IndexMissing):
        engine.search(SearchRequest("加微信", PHRASE))
    assert not engine.health().is_ready
    engine.rebuild([make_document(1)])
    assert engine.search(SearchRequest("加微信", PHRASE)).counts.live == 1


def test_deleted_index_says_so_and_a_rebuild_mends_it(engine: Fts5Engine, path: Path):
    engine.put([make_document(1)])
    engine.close()
    path.resolve().unlink()
    with pytest.raises(IndexMissing):
        engine.search(SearchRequest("加微信", PHRASE))
    engine.rebuild([make_document(1)])
    assert engine.versions(0, 10) == [(1, 1)]


def test_folder_that_cannot_be_written_is_unavailable(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SearchUnavailable):
        Fts5Engine(tmp_path / "file" / "search.sqlite3").put([make_document(1)])


def test_held_lock_times_out_and_loses_nothing(engine: Fts5Engine, path: Path, monkeypatch: pytest.MonkeyPatch):
    engine.put([make_document(1)])
    engine.close()
    monkeypatch.setattr(fts5_generation, "_PRAGMAS", "PRAGMA busy_timeout=50;")
    holder = connect(path)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(SearchTimedOut):
        engine.put([make_document(2)])
    assert engine.search(SearchRequest("加微信", PHRASE)).counts.live == 1
    holder.execute("COMMIT")
    engine.put([make_document(2)])
    assert engine.search(SearchRequest("加微信", PHRASE)).counts.live == 2


def test_search_that_takes_too_long_is_stopped(engine: Fts5Engine, monkeypatch: pytest.MonkeyPatch):
    engine.put(make_document(id) for id in range(3000))
    monkeypatch.setattr(fts5_generation, "SEARCH_TIMEOUT_S", -1.0)
    with pytest.raises(SearchTimedOut):
        engine.search(SearchRequest("加微信", PHRASE))


def test_file_of_another_release_asks_for_a_rebuild(engine: Fts5Engine, path: Path):
    engine.put([make_document(1)])
    connect(path).execute("UPDATE meta SET value = '0' WHERE key = 'format'")
    other = Fts5Engine(path)
    with pytest.raises(IndexMissing, match="another release"):
        assert other.generation
    other.rebuild([make_document(1)])
    assert other.versions(0, 10) == [(1, 1)]


def test_changed_figures_leave_the_postings_alone(engine: Fts5Engine, path: Path):
    engine.put([make_document(1)])
    before = connect(path).execute("SELECT count(*), sum(length(block)) FROM phrase_data").fetchone()
    engine.put([make_document(1, version=2, live=False, risk=0.9)])
    assert connect(path).execute("SELECT count(*), sum(length(block)) FROM phrase_data").fetchone() == before

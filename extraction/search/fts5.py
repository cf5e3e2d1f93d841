"""The embedded engine: SQLite FTS5 in files of its own, for one machine.

Each generation of the index is one file (fts5_generation.py); the configured path is a symbolic link to the one that
serves, so that a rebuild swaps atomically while other processes search (a plain rename would let them meet the log of
the other file). Connections belong to a thread of a process and follow the link.
"""

import fcntl
import os
import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from extraction.errors import IndexMissing, RebuildRunning, SearchError
from extraction.search.base import (
    Document,
    Health,
    PutFailure,
    SearchPage,
    SearchRequest,
    newest_of,
    read_query,
    refusal,
)
from extraction.search.fts5_generation import (
    PUT_ROWS,
    Index,
    Search,
    as_json,
    build,
    connect,
    end_journal,
    is_counted,
    reading,
    remove_generation,
    replay,
    typed_errors,
    write_documents,
    writing,
)
from extraction.text import CURRENT_ANALYSIS, get_analysis

PUT_PAUSE_S = 0.005  # SQLite's lock is not fair: pausing lets others in

T = TypeVar("T")


class Fts5Engine:
    """The `SearchEngine` on SQLite FTS5. Counts are exact up to `COUNT_LIMIT` matches."""

    name = f"fts5 {sqlite3.sqlite_version}"

    def __init__(self, path: Path) -> None:
        """`path`: the link to the serving generation; generations lie beside it."""
        self._link = path
        self._local = threading.local()

    # --- what serves ---

    @property
    def generation(self) -> str:
        return self._on_serving(lambda index: index.generation)

    @property
    def analysis(self) -> str:
        return self._on_serving(lambda index: index.analysis.name)

    def health(self) -> Health:
        def ask(index: Index) -> Health:
            (count,) = index.connection.execute("SELECT count(*) FROM facts").fetchone()
            detail = f"{count} documents in {index.path.name}."
            return Health(True, "fts5", sqlite3.sqlite_version, index.generation, index.analysis.name, count, detail)

        try:
            return self._on_serving(ask)
        except SearchError as error:
            return Health(False, "fts5", sqlite3.sqlite_version, "", "", 0, str(error))

    def refresh(self) -> None:
        """Nothing to do: what was put is visible as soon as `put` returns."""

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        index: Index | None = getattr(self._local, "index", None)
        if index is not None and index.process == os.getpid():
            index.connection.close()
        self._local.index = None

    # --- search ---

    def search(self, request: SearchRequest) -> SearchPage:
        def ask(index: Index) -> SearchPage:
            started = time.perf_counter()
            search = Search(index, request, read_query(request, index.analysis))
            with reading(index):
                counts, hits = search.counts_and_page()
                if not (is_exact := is_counted(counts)):
                    hits = search.page_of_frequent()
            took_ms = (time.perf_counter() - started) * 1000
            return SearchPage(tuple(hits), counts, is_exact, index.generation, index.analysis.name, took_ms)

        return self._on_serving(ask)

    def msearch(self, requests: Sequence[SearchRequest]) -> list[SearchPage]:
        return [self.search(request) for request in requests]

    def sample(self, size: int, seed: int) -> list[int]:
        def ask(index: Index) -> list[int]:
            with reading(index) as connection:
                return [id for (id,) in connection.execute("SELECT id FROM facts WHERE live = 1 ORDER BY id")]

        ids = self._on_serving(ask)
        return random.Random(seed).sample(ids, min(size, len(ids)))  # noqa: S311 - a sample, not a secret

    def versions(self, after_id: int, size: int) -> list[tuple[int, int]]:
        def ask(index: Index) -> list[tuple[int, int]]:
            statement = "SELECT id, version FROM facts WHERE id > ? ORDER BY id LIMIT ?"
            with reading(index) as connection:
                return [(id, version) for id, version in connection.execute(statement, (after_id, size))]

        return self._on_serving(ask)

    # --- write ---

    def put(self, documents: Iterable[Document]) -> list[PutFailure]:
        failures: list[PutFailure] = []
        batches = iter(documents)
        with typed_errors():
            self._ensure()
            while batch := list(islice(batches, PUT_ROWS)):
                failures += [PutFailure(document.id, reason) for document in batch if (reason := refusal(document))]
                self._put_batch(newest_of(document for document in batch if not refusal(document)))
                if len(batch) == PUT_ROWS:
                    time.sleep(PUT_PAUSE_S)
        return failures

    def _put_batch(self, documents: Sequence[Document]) -> None:
        """Write one batch into the generation that serves when the lock is held."""

        def write(index: Index) -> bool:
            prepared = [(document, index.analysis.normalise(document.text)) for document in documents]
            with writing(index) as connection:
                if self._target() != index.path:
                    return False
                if connection.execute("SELECT 1 FROM meta WHERE key = 'journal'").fetchone():
                    journal = [(as_json(document),) for document in documents]
                    connection.executemany("INSERT INTO journal (document) VALUES (?)", journal)
                write_documents(index, prepared)
            return True

        while not self._on_serving(write):
            pass  # a rebuild swapped while this waited for the lock

    def rebuild(self, documents: Iterable[Document], analysis: str = CURRENT_ANALYSIS) -> str:
        with typed_errors(), self._rebuilding():
            old = self._begin_journal()
            self._remove_spare_generations()
            path = self._new_path()
            try:
                build(path, documents, get_analysis(analysis))
                new = connect(path)
                try:
                    self._catch_up_and_swap(old, new)
                finally:
                    new.connection.close()
            except BaseException:
                if not self._link.is_symlink() or self._target() != path:
                    remove_generation(path)
                if old is not None:
                    end_journal(old)
                raise
        return path.stem

    def _begin_journal(self) -> Index | None:
        """From now on the serving generation also keeps what is put. None if there is none that can be read."""
        try:
            with typed_errors(), writing(old := self._open(self._target())) as connection:
                connection.execute("DELETE FROM journal")
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('journal', 'on')")
        except IndexMissing:
            return None
        return old

    def _catch_up_and_swap(self, old: Index | None, new: Index) -> None:
        """Put into the new generation what the journal has, the last of it under the old one's lock, then swap."""
        if old is None:
            self._point_to(new.path)
            return
        done = 0
        for _round in range(5):
            done = replay(old.connection, new, done)
        with writing(old):
            replay(old.connection, new, done)
            self._point_to(new.path)

    # --- files ---

    def _on_serving(self, use: Callable[[Index], T]) -> T:
        """Use the generation that serves; where that fails because it was just then replaced and removed, the next."""
        while True:
            target = self._target()
            try:
                with typed_errors():
                    return use(self._open(target))
            except SearchError:
                if self._target() == target:
                    raise

    def _open(self, target: Path) -> Index:
        """This thread's connection to that generation."""
        index: Index | None = getattr(self._local, "index", None)
        if index is None or index.path != target or index.process != os.getpid():
            self._local.index = index = connect(target)
        return index

    def _target(self) -> Path:
        try:
            return self._link.parent / self._link.readlink()
        except OSError as error:
            raise IndexMissing(f"There is no search index at {self._link} ({error}).") from error

    def _point_to(self, path: Path) -> None:
        """Make `path` the generation that serves, in one step."""
        fresh = self._link.with_name(f".{self._link.name}-{secrets.token_hex(4)}")
        fresh.symlink_to(path.name)
        fresh.replace(self._link)

    def _new_path(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        return self._link.with_name(f"{self._link.stem}-{stamp}-{secrets.token_hex(2)}{self._link.suffix}")

    def _ensure(self) -> None:
        """Make an empty index where there is none."""
        if self._link.is_symlink():
            return
        with self._file_lock(fcntl.LOCK_EX):
            if not self._link.is_symlink():
                path = self._new_path()
                build(path, [], get_analysis())
                self._point_to(path)

    @contextmanager
    def _rebuilding(self) -> Iterator[None]:
        try:
            with self._file_lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield
        except BlockingIOError as error:
            raise RebuildRunning(f"Another process holds the lock beside {self._link}.") from error

    @contextmanager
    def _file_lock(self, operation: int) -> Iterator[None]:
        self._link.parent.mkdir(parents=True, exist_ok=True)
        with self._link.with_name(f"{self._link.name}.lock").open("a") as file:
            fcntl.flock(file, operation)
            yield

    def _remove_spare_generations(self) -> None:
        """All but the serving one: the one before it was kept for processes that had just opened it."""
        serving = self._target() if self._link.is_symlink() else None
        for path in self._link.parent.glob(f"{self._link.stem}-*{self._link.suffix}"):
            if path != serving:
                remove_generation(path)

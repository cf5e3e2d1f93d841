"""One generation of the embedded index: a SQLite file, and what is searched and written in it.

A file holds the normalised texts, a narrow table of facts (what orders and filters), and two contentless FTS5 tables,
one for each matching mode; for characters, letters are indexed in pairs (extraction/search/streams.py). Those tables
give no text back: to remove an item's postings its old tokens are made again from the normalised text. Postings and
rows change in one transaction.
"""

import heapq
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from extraction.errors import IndexMissing, SearchError, SearchTimedOut, SearchUnavailable
from extraction.search.base import (
    COUNT_LIMIT,
    Counts,
    Document,
    Hit,
    Order,
    SearchRequest,
    check_cursor,
    hit_of,
    newest_of,
    refusal,
    stored_risk,
    stored_time,
)
from extraction.search.streams import pairs, pairs_of_query, stream
from extraction.text import Analysis, MatchMode, analysis_of

FORMAT = "1"  # of the files; another one asks for a rebuild
PUT_ROWS = 200  # a removal by a person waits for at most so many rows of a bulk put
BUILD_ROWS = 20_000
SORT_LIMIT = 40_000  # matches that are sorted as a whole
WALK_ROWS = 10_000  # items looked at in order before all matches are sorted after all
SEARCH_TIMEOUT_S = 10.0
LOCK_TIMEOUT_S = 20.0

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (
    id INTEGER PRIMARY KEY, version INTEGER NOT NULL, live INTEGER NOT NULL, risk REAL NOT NULL,
    created INTEGER NOT NULL, verdict TEXT NOT NULL, platform TEXT NOT NULL, language TEXT NOT NULL
);
CREATE TABLE texts (id INTEGER PRIMARY KEY, normalised TEXT NOT NULL);
CREATE TABLE journal (seq INTEGER PRIMARY KEY, document TEXT NOT NULL);
CREATE VIRTUAL TABLE phrase USING fts5(tokens, content='', columnsize=0, tokenize='ascii');
CREATE VIRTUAL TABLE characters USING fts5(tokens, content='', columnsize=0, tokenize='ascii');
"""
# Serves pages by risk and by time; made after a bulk load.
_INDEXES = """
CREATE INDEX facts_by_risk ON facts (live, risk DESC, created DESC, id);
CREATE INDEX facts_by_time ON facts (live, created DESC, id);
"""
_PRAGMAS = f"""
PRAGMA synchronous=NORMAL; PRAGMA busy_timeout={int(LOCK_TIMEOUT_S * 1000)}; PRAGMA cache_size=-16384;
PRAGMA mmap_size=2147483648; PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=67108864;
"""
_COLUMNS = "x.id, x.risk, x.created, x.live, x.verdict"
_ORDER_BY = {Order.RISK: "x.risk DESC, x.created DESC, x.id", Order.RECENT: "x.created DESC, x.id"}
_AFTER = {
    Order.RISK: " AND x.risk <= :risk"
    " AND (x.risk < :risk OR x.created < :created OR (x.created = :created AND x.id > :id))",
    Order.RECENT: " AND x.created <= :created AND (x.created < :created OR x.id > :id)",
}


@dataclass
class Index:
    """An open generation, of one thread. `deadline` (monotonic seconds) stops a statement that takes too long."""

    path: Path
    process: int
    connection: sqlite3.Connection
    analysis: Analysis
    deadline: float = float("inf")

    @property
    def generation(self) -> str:
        return self.path.stem

    def is_late(self) -> int:
        return time.monotonic() > self.deadline


# --- search in one generation ---------------------------------------------------------------------------------------


class Search:
    """One request on one open generation."""

    def __init__(self, index: Index, request: SearchRequest, tokens: list[str]) -> None:
        self._index = index
        self._request = request
        self._tokens = tokens
        self._filters = "".join(
            f" AND x.{name} = :{name}" for name in ("platform", "language") if getattr(request, name)
        )
        self._values: dict[str, object] = {
            "query": _match(tokens, request.mode),
            "platform": request.platform,
            "language": request.language,
            **_cursor(request),
        }

    def counts_and_page(self) -> tuple[Counts, list[Hit]]:
        """Counts of the matches and the page, in one statement. Of more than `COUNT_LIMIT` matches it sees so many:
        the counts are then lower bounds, and the page is not the first.
        """
        found = self._execute(
            f"WITH x AS (SELECT {_COLUMNS} {self._joined()} LIMIT {COUNT_LIMIT + 1})"  # noqa: S608 - constants
            " SELECT count(*), NULL, NULL, live, verdict FROM x GROUP BY live, verdict UNION ALL"
            f" SELECT * FROM (SELECT {_COLUMNS} FROM x WHERE {self._state()}{self._after()}{self._limited()})"
        )
        groups: list[tuple[int, int, str]] = []
        hits: list[Hit] = []
        for first, risk, created, live, verdict in found:
            if risk is None:
                groups.append((first, live, verdict))
            else:
                hits.append(self._hit(first, risk, created, live))
        return _counts(groups), hits

    def page_of_frequent(self) -> list[Hit]:
        """The page of a frequent query. Sorting all matches takes about 1 µs each; where they are many more, the page
        is full soon if the items are looked at in order (7 µs each), unless all matches stand at the end of it.
        """
        hits = self._walk() if self._is_very_frequent() else None
        return self._sorted() if hits is None else hits

    def _is_very_frequent(self) -> bool:
        table = self._request.mode.value
        found = self._execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {table} MATCH :query LIMIT {SORT_LIMIT + 1})"  # noqa: S608
        )
        return int(found.fetchone()[0]) > SORT_LIMIT

    def _walk(self) -> list[Hit] | None:
        states = (1, 0) if self._request.live is None else (int(self._request.live),)
        rows = heapq.merge(*map(self._in_order, states), key=lambda pair: _place(self._request.order, pair[0].sort))
        hits: list[Hit] = []
        for seen, (hit, normalised) in enumerate(rows):
            if seen == WALK_ROWS:
                return None
            if self._is_match(normalised):
                hits.append(hit)
                if len(hits) == self._request.size:
                    break
        return hits

    def _in_order(self, live: int) -> Iterator[tuple[Hit, str]]:
        """Items of one state after the cursor, in order, with their normalised text."""
        found = self._execute(
            f"SELECT {_COLUMNS}, t.normalised FROM facts x CROSS JOIN texts t ON t.id = x.id"  # noqa: S608 - constants
            f" WHERE x.live = {live}{self._filters}{self._after()} ORDER BY {_ORDER_BY[self._request.order]}"
        )
        return ((self._hit(*row), normalised) for *row, _verdict, normalised in found)

    def _sorted(self) -> list[Hit]:
        found = self._execute(
            f"SELECT {_COLUMNS} {self._joined()} AND {self._state()}{self._after()}{self._limited()}"  # noqa: S608
        )
        return [self._hit(*row) for *row, _verdict in found]

    def _state(self) -> str:
        return "1" if self._request.live is None else f"x.live = {int(self._request.live)}"

    def _limited(self) -> str:
        return f" ORDER BY {_ORDER_BY[self._request.order]} LIMIT {self._request.size}"

    def _joined(self) -> str:
        table = self._request.mode.value
        return f"FROM {table} f CROSS JOIN facts x ON x.id = f.rowid WHERE f.{table} MATCH :query{self._filters}"

    def _after(self) -> str:
        return _AFTER[self._request.order] if self._request.after else ""

    def _execute(self, statement: str) -> sqlite3.Cursor:
        return self._index.connection.execute(statement, self._values)

    def _hit(self, id: int, risk: float, created: int, live: int) -> Hit:
        return hit_of(self._request.order, id, risk, created, bool(live))

    @cached_property
    def _needle(self) -> str:
        is_phrase = self._request.mode is MatchMode.PHRASE
        return f" {' '.join(self._tokens)} " if is_phrase else "".join(self._tokens)

    def _is_match(self, normalised: str) -> bool:
        if self._request.mode is MatchMode.CHARACTERS:
            return self._needle in normalised
        tokens = self._index.analysis.tokens_of_normalised(normalised, MatchMode.PHRASE)
        return self._needle in f" {' '.join(tokens)} "


def _match(tokens: Sequence[str], mode: MatchMode) -> str:
    """The query in the syntax of FTS5: one phrase, whose last token may be a beginning."""
    if mode is MatchMode.PHRASE:
        return f'"{stream(tokens)}"'
    found, is_open = pairs_of_query("".join(tokens))
    return f'"{stream(found)}"{" *" if is_open else ""}'


def _cursor(request: SearchRequest) -> dict[str, object]:
    """The values of the request's cursor by name."""
    check_cursor(request)
    names = ("risk", "created", "id") if request.order is Order.RISK else ("created", "id")
    return {} if request.after is None else dict(zip(names, request.after, strict=True))


def _place(order: Order, sort: tuple[float | int, ...]) -> tuple[float | int, ...]:
    """A key that grows along the order: everything descends but the id."""
    return (*(-value for value in sort[:-1]), sort[-1])


def is_counted(counts: Counts) -> bool:
    """Whether these are all matches; of more the counts are a bound."""
    return counts.live + counts.removed <= COUNT_LIMIT


def _counts(groups: Sequence[tuple[int, int, str]]) -> Counts:
    """From (how many, live, verdict) of each group."""
    return Counts(
        live=sum(count for count, live, _verdict in groups if live),
        removed=sum(count for count, live, _verdict in groups if not live),
        toxic=sum(count for count, _live, verdict in groups if verdict == "toxic"),
        normal=sum(count for count, _live, verdict in groups if verdict == "normal"),
    )


# --- write into one generation --------------------------------------------------------------------------------------


def write_documents(index: Index, prepared: Sequence[tuple[Document, str]]) -> None:
    """Put documents, given with their normalised texts, inside the caller's transaction."""
    known = _known(index.connection, [document.id for document, _normalised in prepared])
    current = [pair for pair in prepared if known.get(pair[0].id, (0, ""))[0] <= pair[0].version]
    changed = [pair for pair in current if pair[0].id not in known or known[pair[0].id][1] != pair[1]]
    _remove_postings(
        index, [(document.id, known[document.id][1]) for document, _new in changed if document.id in known]
    )
    _add_postings(index, [(document.id, normalised) for document, normalised in changed])
    index.connection.executemany(
        "INSERT OR REPLACE INTO texts VALUES (?, ?)", [(document.id, normalised) for document, normalised in changed]
    )
    index.connection.executemany(
        "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [_facts(document) for document, _text in current],
    )


def _known(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Version and normalised text of those of the ids that are in the index."""
    statement = (
        "SELECT x.id, x.version, t.normalised FROM json_each(?) i CROSS JOIN facts x ON x.id = i.value"
        " JOIN texts t ON t.id = x.id"
    )
    return {id: (version, text) for id, version, text in connection.execute(statement, (json.dumps(ids),))}


def _add_postings(index: Index, texts: Sequence[tuple[int, str]]) -> None:
    for mode in MatchMode:
        statement = f"INSERT INTO {mode.value} (rowid, tokens) VALUES (?, ?)"  # noqa: S608 - a table of ours
        index.connection.executemany(statement, _streams(index.analysis, texts, mode))


def _remove_postings(index: Index, texts: Sequence[tuple[int, str]]) -> None:
    for mode in MatchMode:
        table = mode.value
        statement = f"INSERT INTO {table} ({table}, rowid, tokens) VALUES ('delete', ?, ?)"  # noqa: S608 - a table of ours
        index.connection.executemany(statement, _streams(index.analysis, texts, mode))


def _streams(analysis: Analysis, texts: Sequence[tuple[int, str]], mode: MatchMode) -> Iterator[tuple[int, str]]:
    if mode is MatchMode.CHARACTERS:
        return ((id, stream(pairs(normalised))) for id, normalised in texts)
    return ((id, stream(analysis.tokens_of_normalised(normalised, mode))) for id, normalised in texts)


def _facts(document: Document) -> tuple[object, ...]:
    return (
        document.id,
        document.version,
        int(document.live),
        stored_risk(document.risk),
        stored_time(document.created),
        document.verdict,
        document.platform,
        document.language,
    )


def replay(journal: sqlite3.Connection, new: Index, done: int) -> int:
    """Put what the journal has after `done` into the new generation; the last number put."""
    while rows := journal.execute(
        "SELECT seq, document FROM journal WHERE seq > ? ORDER BY seq LIMIT ?", (done, PUT_ROWS)
    ).fetchall():
        documents = newest_of(_from_json(document) for _seq, document in rows)
        with writing(new):
            write_documents(new, [(document, new.analysis.normalise(document.text)) for document in documents])
        done = int(rows[-1][0])
    return done


def end_journal(index: Index) -> None:
    with writing(index) as connection:
        connection.execute("DELETE FROM meta WHERE key = 'journal'")
        connection.execute("DELETE FROM journal")


def as_json(document: Document) -> str:
    return json.dumps({**asdict(document), "created": document.created.isoformat()})


def _from_json(text: str) -> Document:
    values: dict[str, Any] = json.loads(text)
    return Document(**{**values, "created": datetime.fromisoformat(values["created"])})


# --- files and connections ------------------------------------------------------------------------------------------


def build(path: Path, documents: Iterable[Document], analysis: Analysis) -> None:
    """Make a generation. No journal while building: a crash leaves a file that no link points to."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-131072;" + _SCHEMA
        )
        meta = [("format", FORMAT), ("analysis", analysis.definition())]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta)
        index = Index(path, os.getpid(), connection, analysis)
        batches = iter(documents)
        while batch := list(islice(batches, BUILD_ROWS)):
            accepted = newest_of(document for document in batch if not refusal(document))
            with writing(index):
                write_documents(index, [(document, analysis.normalise(document.text)) for document in accepted])
        for mode in MatchMode:
            connection.execute(f"INSERT INTO {mode.value} ({mode.value}) VALUES ('optimize')")  # noqa: S608 - a table of ours
        connection.executescript(_INDEXES + "PRAGMA journal_mode=WAL;")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def connect(path: Path) -> Index:
    """Open a generation. Raises IndexMissing if the file is gone or of another format."""
    if not path.exists():
        raise IndexMissing(f"The search index {path} is not there.")
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=LOCK_TIMEOUT_S)
    connection.executescript(_PRAGMAS)
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    if meta.get("format") != FORMAT:
        raise IndexMissing(f"{path} has the format of another release; rebuild the index.")
    index = Index(path, os.getpid(), connection, analysis_of(meta["analysis"]))
    connection.set_progress_handler(index.is_late, 20_000)
    return index


def remove_generation(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def reading(index: Index) -> Iterator[sqlite3.Connection]:
    """One state of the index, for at most `SEARCH_TIMEOUT_S`."""
    index.deadline = time.monotonic() + SEARCH_TIMEOUT_S
    index.connection.execute("BEGIN")
    try:
        yield index.connection
    finally:
        index.deadline = float("inf")
        index.connection.rollback()


@contextmanager
def writing(index: Index) -> Iterator[sqlite3.Connection]:
    """A transaction that holds the lock from its start."""
    index.connection.execute("BEGIN IMMEDIATE")
    try:
        yield index.connection
        index.connection.execute("COMMIT")
    except BaseException:
        index.connection.rollback()
        raise


@contextmanager
def typed_errors() -> Iterator[None]:
    """Let SQLite's errors leave as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _typed(error) from error
    except OSError as error:
        raise SearchUnavailable(f"The search index cannot be read or written: {error}") from error


def _typed(error: sqlite3.Error) -> SearchError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SearchTimedOut(f"SQLite: {error}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CANTOPEN):
        return IndexMissing(f"The search index is damaged or not one of ours; rebuild it. SQLite: {error}")
    return SearchUnavailable(f"SQLite: {error}")

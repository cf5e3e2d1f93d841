"""Read a stream: rows in id order, chunk by chunk, so that memory stays flat however long the log is."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ParamSpec

from django.db import connection, connections, transaction
from django.db.models import Model, Q, QuerySet

from audit.logs.columns import Column, Row, Value
from audit.logs.privacy import Privacy
from audit.models import ExportFormat

CHUNK = 2000
P = ParamSpec("P")


@dataclass(frozen=True)
class Window:
    """Rows written from `since` on and before `until` (UTC); an end that is not given is open."""

    since: datetime | None = None
    until: datetime | None = None


ALWAYS = Window()

Fill = Callable[[list[Row], Privacy], None]
"""Sets the columns of a chunk of rows that come from elsewhere, in a constant number of database queries."""

Cursor = tuple[int, int]
"""How far a stream was read: the key of the last row of its model, and where that gives many, how many so far (0: all).
"""

START: Cursor = (0, 0)
TABLES = (ExportFormat.JSONL, ExportFormat.CSV, ExportFormat.PARQUET)


@dataclass(frozen=True)
class Chunk:
    """Some rows of a stream, and the cursor from which it goes on after them."""

    rows: list[Row]
    cursor: Cursor


class Part(StrEnum):
    """To what a stream belongs among those that can be exported."""

    LOGS = "logs"
    TREC = "trec"
    LEARNING = "learning"


@dataclass(frozen=True)
class Stream:
    """One log that leaves the system. `version` rises whenever a column changes its meaning, leaves or joins."""

    name: str
    version: int
    about: str
    model: type[Model]
    columns: tuple[Column, ...]
    time: str = "at"
    fills: tuple[Fill, ...] = ()
    only: Q = Q()
    """Which rows of the model belong to the stream."""
    part: Part = Part.LOGS
    formats: tuple[ExportFormat, ...] = TABLES
    has_texts: bool = False
    """Rows hold texts of items, which otherwise never leave: such a stream is exported only where it is named."""

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    def rows(self, privacy: Privacy, window: Window = ALWAYS) -> Iterator[Row]:
        """Every row of the window, in id order."""
        for chunk in self.chunks(privacy, window):
            yield from chunk.rows

    def chunks(
        self,
        privacy: Privacy,
        window: Window = ALWAYS,
        *,
        after: Cursor = START,
        upto: int | None = None,
        size: int = CHUNK,
    ) -> Iterator[Chunk]:
        """The same in chunks of at most `size` rows: 1 + (those of the fill steps) database queries each.

        `after` is the cursor of the last chunk that the caller has; nothing above the key `upto` is read.
        """
        paths = list(dict.fromkeys(path for column in self.columns for path in column.paths))
        readers = [(column.name, column.read, [paths.index(path) for path in column.paths]) for column in self.columns]
        for found in self.pages(paths, window, after=after[0], upto=upto, size=size):
            rows = [_row(values, readers, privacy) for _key, *values in found]
            for fill in self.fills:
                fill(rows, privacy)
            yield Chunk(rows, (found[-1][0], 0))

    def pages(
        self, paths: list[str], window: Window, *, after: int, upto: int | None, size: int
    ) -> Iterator[list[tuple[Any, ...]]]:
        """(key, *paths) of the model's rows, at most `size` at once, in the order of their keys."""
        query = self._inside(window).order_by("pk").values_list("pk", *paths)
        if upto is not None:
            query = query.filter(pk__lte=upto)
        while found := list(query.filter(pk__gt=after)[:size]):
            after = found[-1][0]
            yield found

    def newest(self, window: Window) -> int:
        """The greatest key in the window, 0 where there is none: nothing that is written later has a smaller one."""
        return self._inside(window).order_by("-pk").values_list("pk", flat=True).first() or 0

    def _inside(self, window: Window) -> QuerySet[Any]:
        query = self.model._default_manager.filter(self.only)
        if window.since is not None:
            query = query.filter(**{f"{self.time}__gte": window.since})
        if window.until is not None:
            query = query.filter(**{f"{self.time}__lt": window.until})
        return query


def _row(values: list[Any], readers: list[tuple[str, Callable[..., Value], list[int]]], privacy: Privacy) -> Row:
    """One row from the values of its paths; columns without a path are left to the fill steps."""
    return {
        name: None if not places else read(privacy, *[values[place] for place in places])
        for name, read, places in readers
    }


@contextmanager
def snapshot() -> Iterator[None]:
    """Show every query inside one and the same state of the database, so that a file is of one moment.

    Nothing may be written inside. Inside a transaction of the caller's this does nothing.
    """
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "sqlite":
        # Not atomic(): that is IMMEDIATE here and would hold every writer off. In WAL a reader disturbs nobody.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
    else:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield


@contextmanager
def aside(call: Callable[P, None]) -> Iterator[Callable[P, None]]:
    """`call`, made in a thread of its own and waited for: it may write to the database, which the thread that reads one
    snapshot of it must not.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:

        def called(*args: P.args, **kwargs: P.kwargs) -> None:
            thread.submit(call, *args, **kwargs).result()

        try:
            yield called
        finally:
            thread.submit(connections.close_all).result()

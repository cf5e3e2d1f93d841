"""Read a stream: rows in id order, chunk by chunk, so that memory stays flat however long the log is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Model, QuerySet

from audit.logs.columns import Column, Row
from audit.logs.privacy import Privacy

CHUNK = 2000


@dataclass(frozen=True)
class Window:
    """Rows written from `since` on and before `until` (UTC); an end that is not given is open."""

    since: datetime | None = None
    until: datetime | None = None


Fill = Callable[[list[Row], Privacy], None]
"""Sets the columns of a chunk of rows that come from elsewhere, in a constant number of database queries."""


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

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    def rows(self, privacy: Privacy, window: Window = Window()) -> Iterator[Row]:
        """Every row of the window, in id order."""
        for chunk in self.chunks(privacy, window):
            yield from chunk

    def chunks(self, privacy: Privacy, window: Window = Window(), size: int = CHUNK) -> Iterator[list[Row]]:
        """The same, as lists of at most `size` rows: 1 + (those of the fill steps) database queries each."""
        paths = list(dict.fromkeys(["pk", *(path for column in self.columns for path in column.paths)]))
        places = [tuple(paths.index(path) for path in column.paths) for column in self.columns]
        query = self._inside(window).order_by("pk").values_list(*paths)
        last = 0
        while found := list(query.filter(pk__gt=last)[:size]):
            last = found[-1][0]
            rows = [self._row(values, places, privacy) for values in found]
            for fill in self.fills:
                fill(rows, privacy)
            yield rows

    def _inside(self, window: Window) -> QuerySet[Any]:
        query = self.model._default_manager.all()
        if window.since is not None:
            query = query.filter(**{f"{self.time}__gte": window.since})
        if window.until is not None:
            query = query.filter(**{f"{self.time}__lt": window.until})
        return query

    def _row(self, values: tuple[Any, ...], places: list[tuple[int, ...]], privacy: Privacy) -> Row:
        return {
            column.name: column.read(privacy, *[values[place] for place in its_places]) if its_places else None
            for column, its_places in zip(self.columns, places, strict=True)
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

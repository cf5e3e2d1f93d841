"""A file names each row once: which keys were already read, kept on disk so that memory stays flat."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from django.utils.translation import gettext as _

from audit.intake.rows import Problem


class _Keyed(Protocol):
    @property
    def key(self) -> tuple[str, str]: ...

    @property
    def line(self) -> int: ...


KeyedRow = TypeVar("KeyedRow", bound=_Keyed)


class SeenKeys:
    """The keys read so far, each with its first line, in an unnamed temporary SQLite file (gone with the process)."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.execute("PRAGMA journal_mode=OFF")
        self._rows.execute("PRAGMA synchronous=OFF")
        self._rows.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._rows.execute("BEGIN")

    def first_line(self, key: tuple[str, str], line: int) -> int | None:
        """Remember the key; the line on which it stood before, or None where it is new."""
        joined = "\0".join(key)
        if self._rows.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (joined, line)).rowcount:
            return None
        return int(self._rows.execute("SELECT line FROM seen WHERE key = ?", (joined,)).fetchone()[0])


def without_duplicates(
    rows: Iterable[KeyedRow], problems: list[Problem], seen: SeenKeys | None = None
) -> Iterator[KeyedRow]:
    """Let the first row of each key through; every further one is a problem that names the first line."""
    seen = seen or SeenKeys()
    for row in rows:
        first = seen.first_line(row.key, row.line)
        if first is None:
            yield row
        else:
            reason = _("%(key)s repeats number %(line)d of the same input; the first is kept.")
            problems.append(Problem(row.line, reason % {"key": row.key[1], "line": first}))

"""How a stream declares itself: its columns, each with a type, a sentence, and where its value comes from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from audit.logs.privacy import Privacy

Scalar = int | float | str | bool | datetime | None
Message = Mapping[str, str]
"""{"role": …, "content": …}, as trainers read it."""
Json = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Value = Scalar | Sequence[Scalar] | Sequence[Sequence[str]] | Sequence[Message] | Sequence[Sequence[Message]] | Json
Row = dict[str, Value]
"""One row of a stream: every column of it, in order."""


class ColumnType(StrEnum):
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "true or false"
    TIME = "time"
    INTEGERS = "list of integers"
    NUMBERS = "list of numbers"
    TEXTS = "list of texts"
    BOOLEANS = "list of true or false"
    TIMES = "list of times"
    TEXT_LISTS = "list of lists of texts"
    MESSAGES = "list of messages (role, content)"
    MESSAGE_LISTS = "list of lists of messages"
    JSON = "JSON value"


def as_is(_privacy: Privacy, value: object) -> Value:
    """The value itself; an empty text is no value, a UUID is its text."""
    if value == "":
        return None
    return str(value) if isinstance(value, UUID) else value  # type: ignore[return-value]


@dataclass(frozen=True)
class Column:
    """One column. `paths` are the ORM lookups that `read` makes the value of; without any, a fill step sets it."""

    name: str
    type: ColumnType
    about: str
    paths: tuple[str, ...] = ()
    read: Callable[..., Value] = as_is


def integer(name: str, about: str, path: str | None = None) -> Column:
    return Column(name, ColumnType.INTEGER, about, (path or name,))


def number(name: str, about: str, path: str | None = None) -> Column:
    return Column(name, ColumnType.NUMBER, about, (path or name,))


def text(name: str, about: str, path: str | None = None) -> Column:
    """A text of a closed set, a name or a digest: nothing that a person typed."""
    return Column(name, ColumnType.TEXT, about, (path or name,))


def boolean(name: str, about: str, path: str | None = None) -> Column:
    return Column(name, ColumnType.BOOLEAN, about, (path or name,))


def time(name: str, about: str, path: str | None = None) -> Column:
    return Column(name, ColumnType.TIME, about, (path or name,))


def json_value(name: str, about: str, path: str | None = None) -> Column:
    """Settings and figures as they were kept: nothing that a person typed, nobody's name."""
    return Column(name, ColumnType.JSON, about, (path or name,))


def typed(name: str, about: str, path: str | None = None) -> Column:
    """What a person typed: contact data in it is masked."""
    return Column(name, ColumnType.TEXT, about, (path or name,), Privacy.text)


def user(name: str, about: str, path: str) -> Column:
    return Column(name, ColumnType.TEXT, f"{about} (pseudonym).", (path,), Privacy.user)


def query(prefix: str = "query__") -> tuple[Column, ...]:
    """The columns of a query, from the row that `prefix` leads to."""
    told = (f"{prefix}text", f"{prefix}key", f"{prefix}mode")
    return (
        integer("query_id", "Query.", f"{prefix}id"),
        Column("query_text", ColumnType.TEXT, "The query as first written; contact data masked.", told, _query_text),
        Column(
            "query_key",
            ColumnType.TEXT,
            "Its canonical key: tokens joined by one space; a pseudonym where it holds contact data.",
            told,
            _query_key,
        ),
        text("query_mode", "Matching mode: phrase or characters.", f"{prefix}mode"),
        text("query_analysis", "Analysis (rules and version) that made the key.", f"{prefix}analysis"),
    )


def filled(name: str, kind: ColumnType, about: str) -> Column:
    """A column that a fill step sets, from rows beside the stream's own."""
    return Column(name, kind, about)


def _query_text(privacy: Privacy, written: str | None, key: str, mode: str) -> str | None:
    return None if written is None else privacy.query_text(written, key, mode)


def _query_key(privacy: Privacy, written: str | None, key: str, mode: str) -> str | None:
    return None if written is None else privacy.query_key(written, key, mode)

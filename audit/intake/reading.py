"""Read JSONL or CSV line by line: flat memory, and for each line that cannot be used its number and one sentence."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, NoReturn, cast

from django.utils.translation import gettext as _

from audit.intake.rows import (
    COMPLAINT_FIELDS,
    ITEM_FIELDS,
    REQUIRED_COMPLAINT_FIELDS,
    REQUIRED_ITEM_FIELDS,
    ComplaintRow,
    ItemRow,
    Problem,
    RowDefaults,
    RowError,
    complaint_row,
    item_row,
)
from audit.models import ImportKind

MAX_LINE = 1_048_576
MAX_DEPTH = 5

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BOM = b"\xef\xbb\xbf"
_UTF_16_32 = (b"\xff\xfe", b"\xfe\xff")


class UnreadableFile(Exception):
    """The whole file cannot be used. `str(error)` is the sentence for the person who gave it."""


class FileFormat(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Read:
    """One line (or CSV record): a row, or the reason why there is none."""

    line: int
    row: ItemRow | ComplaintRow | None
    reason: str = ""

    @property
    def problem(self) -> Problem:
        return Problem(self.line, self.reason)


@dataclass(frozen=True, slots=True)
class Record:
    """The values of one line before they are checked, or the reason why there are none."""

    line: int
    values: Mapping[str, object]
    reason: str = ""


def format_of(name: str) -> FileFormat:
    """The format by the end of the name (.jsonl, .ndjson, .csv, each also with .gz). Raises UnreadableFile."""
    suffix = name.lower().removesuffix(".gz").rpartition(".")[2]
    known = {"jsonl": FileFormat.JSONL, "ndjson": FileFormat.JSONL, "csv": FileFormat.CSV}
    if suffix not in known:
        raise UnreadableFile(_("The name does not end in .jsonl or .csv: say which format it is."))
    return known[suffix]


def open_stream(file: IO[bytes], name: str) -> IO[bytes]:
    """The content of a file that may be packed with gzip."""
    return cast(IO[bytes], gzip.GzipFile(fileobj=file)) if name.lower().endswith(".gz") else file


def read_rows(stream: IO[bytes], kind: ImportKind, format: FileFormat, defaults: RowDefaults) -> Iterator[Read]:
    """Every line of the stream as a checked row or a reason. Raises UnreadableFile where the whole file is no use."""
    parse: Callable[..., ItemRow | ComplaintRow] = item_row if kind == ImportKind.ITEMS else complaint_row
    for record in read_records(stream, kind, format):
        if record.reason:
            yield Read(record.line, None, record.reason)
            continue
        try:
            yield Read(record.line, parse(record.values, defaults=defaults, line=record.line))
        except RowError as error:
            yield Read(record.line, None, str(error))


def read_records(stream: IO[bytes], kind: ImportKind, format: FileFormat) -> Iterator[Record]:
    """The values of every line that is not blank."""
    lines = _lines(stream)
    return _json_records(lines) if format == FileFormat.JSONL else _csv_records(lines, kind)


def ignored_names(names: Iterable[str], kind: ImportKind) -> list[str]:
    """The columns or names of a file that are no field of its rows."""
    known = ITEM_FIELDS if kind == ImportKind.ITEMS else COMPLAINT_FIELDS
    return [name for name in dict.fromkeys(names) if name not in known]


# --- lines ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    raw: bytes
    is_too_long: bool = False


def _lines(stream: IO[bytes]) -> Iterator[_Line]:
    """Physical lines, numbered from 1. Of one that is too long only the beginning is ever in memory."""
    number = 0
    try:
        while raw := stream.readline(MAX_LINE + 1):
            number += 1
            if number == 1:
                _refuse_other_encodings(raw)
                raw = raw.removeprefix(_BOM)
            is_too_long = len(raw) > MAX_LINE
            if is_too_long:
                _skip_rest(stream, raw)
            yield _Line(number, raw, is_too_long)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = _("The packed file is damaged after line %(line)d. The lines before it can be used.")
        raise UnreadableFile(reason % {"line": number}) from error


def _skip_rest(stream: IO[bytes], raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = stream.readline(MAX_LINE)


def _refuse_other_encodings(first: bytes) -> None:
    if first.startswith(_UTF_16_32):
        raise UnreadableFile(_("The file is written in UTF-16 or UTF-32. Save it as UTF-8."))


def _line_reason(line: _Line) -> str:
    if line.is_too_long:
        return _("the line is longer than %(most)d bytes.") % {"most": MAX_LINE}
    if (at := line.raw.find(b"\0")) >= 0:
        return _("the line holds a NUL byte (at byte %(at)d).") % {"at": at + 1}
    return ""


# --- JSONL ----------------------------------------------------------------------------------------------------------


def _json_records(lines: Iterable[_Line]) -> Iterator[Record]:
    for line in lines:
        if not line.raw.strip():
            continue
        reason = _line_reason(line)
        if reason:
            yield Record(line.number, {}, reason)
            continue
        try:
            yield Record(line.number, json_object(line.raw))
        except RowError as error:
            yield Record(line.number, {}, str(error))


def json_object(raw: bytes) -> dict[str, object]:
    """One JSON object in UTF-8. Raises RowError."""
    value = json_value(raw, MAX_DEPTH)
    if not isinstance(value, dict):
        raise RowError(_("the line must be one JSON object, in braces."))
    return value


def json_value(raw: bytes, max_depth: int) -> object:
    """Any JSON in UTF-8, no deeper than `max_depth` brackets. Raises RowError."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(_("not UTF-8: byte %(at)d cannot be read.") % {"at": error.start + 1}) from None
    if raw.count(b"[") + raw.count(b"{") > max_depth and _depth(text) > max_depth:
        raise RowError(_("nested deeper than %(most)d levels.") % {"most": max_depth})
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        # The parser's own word is English; it names the place, which is what helps.
        raise RowError(
            _("not JSON: %(error)s at character %(at)d.") % {"error": error.msg, "at": error.pos + 1}
        ) from None
    except ValueError:
        raise RowError(_("holds a number that cannot be read.")) from None


def _depth(text: str) -> int:
    deepest = depth = 0
    for char in _STRING.sub("", text):
        if char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


# --- CSV ------------------------------------------------------------------------------------------------------------


class _CsvFeed:
    """Decoded lines for the CSV reader, which may join several to one record; remembers which were unusable."""

    def __init__(self, lines: Iterable[_Line]) -> None:
        self._lines = lines
        self._reasons: dict[int, str] = {}

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            reason = _line_reason(line)
            if reason:
                self._reasons[line.number] = reason
            # Bytes that are not UTF-8 become lone surrogates, which UTF-8 itself cannot bring: see `_cell_reason`.
            yield "\n" if line.is_too_long else line.raw.decode("utf-8", "surrogateescape")

    def take_reason(self) -> str:
        """Why one of the lines read since the last call cannot be used; empty where all can."""
        reasons = list(self._reasons.values())
        self._reasons.clear()
        return reasons[0] if reasons else ""


def _csv_records(lines: Iterable[_Line], kind: ImportKind) -> Iterator[Record]:
    feed = _CsvFeed(lines)
    reader = csv.reader(feed, strict=True)
    header = _header(reader, feed, kind)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            feed.take_reason()
            yield Record(line, {}, _("not CSV: %(error)s. Is a quote not closed?") % {"error": error})
            continue
        reason = feed.take_reason()
        if cells or reason:
            reason = reason or _cell_reason(cells, header)
            yield Record(line, {} if reason else dict(zip(header, cells, strict=True)), reason)


def _header(reader: Iterator[list[str]], feed: _CsvFeed, kind: ImportKind) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise UnreadableFile(_("The first line is not CSV: %(error)s.") % {"error": error}) from error
    required = REQUIRED_ITEM_FIELDS if kind == ImportKind.ITEMS else REQUIRED_COMPLAINT_FIELDS
    missing = [name for name in required if name not in header]
    if feed.take_reason() or missing:
        raise UnreadableFile(
            _("The first line must name the columns; it lacks: %(names)s.") % {"names": ", ".join(missing or required)}
        )
    if len(set(header)) < len(header):
        raise UnreadableFile(_("The first line names a column twice."))
    return header


def _cell_reason(cells: Sequence[str], header: Sequence[str]) -> str:
    if any("\udc80" <= char <= "\udcff" for cell in cells if not cell.isascii() for char in cell):
        return _("not UTF-8.")
    if len(cells) != len(header):
        reason = _("has %(cells)d cells, the first line names %(columns)d columns.")
        return reason % {"cells": len(cells), "columns": len(header)}
    return ""

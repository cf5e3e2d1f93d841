"""Files that hold a stream: JSON lines, CSV that a spreadsheet can open without harm, Parquet, TREC, Markdown.

A file grows by pieces, `encoded` rows after the `head`, so that a writer that was killed goes on after the last piece
it knows to be whole. Parquet cannot grow (its index stands at its end): its pieces are Arrow streams, of which
`finish` makes the file.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from audit.logs.columns import Column, ColumnType, Row, Value
from audit.logs.reading import Stream
from audit.models import ExportFormat

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 10_000

# What a spreadsheet takes for a formula, the full-width forms that some take for it, and the mark itself.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


def neutral_cell(text: str) -> str:
    """The text with a leading ' where a spreadsheet could take it for a formula.

    >>> neutral_cell("=1+1"), neutral_cell("+86"), neutral_cell("证")
    ("'=1+1", "'+86", '证')
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def restored_cell(cell: str) -> str:
    """What `neutral_cell` was given: exactly one leading ' is the mark."""
    return cell.removeprefix("'")


def head(kind: ExportFormat, stream: Stream) -> bytes:
    """What a file begins with."""
    if kind == ExportFormat.CSV:
        return _csv_lines([stream.column_names])
    if kind == ExportFormat.MARKDOWN:
        return f"# {stream.name}\n\n{stream.about}\n".encode()
    return b""


def encoded(kind: ExportFormat, stream: Stream, rows: Sequence[Row]) -> bytes:
    """The rows as the next piece of the file. Several pieces hold the same bytes as one of all rows (Parquet: rows)."""
    if not rows:
        return b""
    if kind == ExportFormat.JSONL:
        return "".join(_json(row) + "\n" for row in rows).encode()
    if kind == ExportFormat.CSV:
        cells = _Cells()
        return _csv_lines([[cells.of(value) for value in row.values()] for row in rows])
    if kind == ExportFormat.TREC:
        return "".join(" ".join(map(str, row.values())) + "\n" for row in rows).encode()
    if kind == ExportFormat.MARKDOWN:
        return "".join(_section(stream, row) for row in rows).encode()
    return _arrow_piece(stream, rows)


def finish(kind: ExportFormat, stream: Stream, pieces: Path, path: Path) -> None:
    """Make the file at `path` of the pieces, which are gone then. Killed, it can be called again."""
    if kind == ExportFormat.PARQUET:
        half = path.with_name(path.name + ".half")
        _write_parquet(stream, pieces, half)
        half.replace(path)
        pieces.unlink()
    else:
        pieces.replace(path)


# --- text -----------------------------------------------------------------------------------------------------------


def _csv_lines(rows: Sequence[Sequence[str | int | float]]) -> bytes:
    lines = io.StringIO(newline="")
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return lines.getvalue().encode()


class _Cells:
    """Cells of one piece. Rows of one run share their lists, so each list is written as JSON once."""

    def __init__(self) -> None:
        self._lists: dict[int, str] = {}

    def of(self, value: Value) -> str | int | float:
        if value is None:
            return ""
        if isinstance(value, str):
            return neutral_cell(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return value
        if isinstance(value, datetime):
            return stamp(value)
        # The rows hold every list for as long as this lives: no two share an id.
        if id(value) not in self._lists:
            self._lists[id(value)] = _json(value)
        return self._lists[id(value)]


def stamp(moment: datetime) -> str:
    """A time as it stands in JSON and CSV: UTC, always with six places, so that texts sort as times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=stamp).encode


def _section(stream: Stream, row: Row) -> str:
    """One row as a section: its second column is its name; what has no value is left out."""
    title = row[stream.column_names[1]]
    lines = [_line(name, value) for name, value in row.items() if value not in (None, "", [], {})]
    return f"\n## {title}\n\n" + "".join(lines)


def _line(name: str, value: Value, depth: int = 0) -> str:
    indent = "  " * depth
    if isinstance(value, Mapping):
        return f"{indent}- {name}:\n" + "".join(_line(key, value[key], depth + 1) for key in value)
    shown = stamp(value) if isinstance(value, datetime) else value if isinstance(value, str) else _json(value)
    return f"{indent}- {name}: `{shown}`\n"


# --- Parquet --------------------------------------------------------------------------------------------------------


def parquet_schema(stream: Stream) -> "pa.Schema":
    """The Arrow schema of a stream; each field carries its sentence, the schema its name and version."""
    import pyarrow as pa  # noqa: PLC0415  (30 MB that pages and other formats do without)

    return pa.schema(
        [pa.field(column.name, _arrow_type(column), metadata={"about": column.about}) for column in stream.columns],
        metadata={"stream": stream.name, "schema_version": str(stream.version)},
    )


def _arrow_type(column: Column) -> "pa.DataType":
    import pyarrow as pa  # noqa: PLC0415

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    types: dict[ColumnType, pa.DataType] = {
        ColumnType.INTEGER: pa.int64(),
        ColumnType.NUMBER: pa.float64(),
        ColumnType.TEXT: pa.string(),
        ColumnType.BOOLEAN: pa.bool_(),
        ColumnType.TIME: pa.timestamp("us", tz="UTC"),
        ColumnType.INTEGERS: pa.list_(pa.int64()),
        ColumnType.NUMBERS: pa.list_(pa.float64()),
        ColumnType.TEXTS: pa.list_(pa.string()),
        ColumnType.BOOLEANS: pa.list_(pa.bool_()),
        ColumnType.TIMES: pa.list_(pa.timestamp("us", tz="UTC")),
        ColumnType.TEXT_LISTS: pa.list_(pa.list_(pa.string())),
        ColumnType.MESSAGES: pa.list_(message),
        ColumnType.MESSAGE_LISTS: pa.list_(pa.list_(message)),
        ColumnType.JSON: pa.string(),
    }
    return types[column.type]


def _arrow_piece(stream: Stream, rows: Sequence[Row]) -> bytes:
    """The rows as an Arrow stream of one batch."""
    import pyarrow as pa  # noqa: PLC0415

    schema = parquet_schema(stream)
    objects = [column.name for column in stream.columns if column.type == ColumnType.JSON]
    written = [row | {name: _json(row[name]) for name in objects} for row in rows] if objects else list(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(written, schema=schema))
    return sink.getvalue().to_pybytes()


def _write_parquet(stream: Stream, pieces: Path, path: Path) -> None:
    """Row groups of ROW_GROUP rows, whatever the pieces were."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = parquet_schema(stream)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        waiting = pa.Table.from_batches([], schema=schema)
        for batch in _batches(pieces):
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch], schema=schema)])
            while waiting.num_rows >= ROW_GROUP:
                writer.write_table(waiting.slice(0, ROW_GROUP))
                waiting = waiting.slice(ROW_GROUP)
        if waiting.num_rows:
            writer.write_table(waiting)


def _batches(pieces: Path) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa  # noqa: PLC0415

    size = pieces.stat().st_size
    with pa.OSFile(str(pieces), "rb") as file:
        while file.tell() < size:
            with pa.ipc.open_stream(file) as reader:
                yield from reader

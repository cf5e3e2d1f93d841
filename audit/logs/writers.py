"""Files that hold a stream: JSON lines, CSV that a spreadsheet can open without harm, Parquet."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.logs.columns import Column, ColumnType, Row, Value
from audit.logs.reading import Stream
from audit.models import ExportFormat

if TYPE_CHECKING:
    import pyarrow as pa

Write = Callable[[Sequence[Row]], None]

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


@contextmanager
def open_writer(kind: ExportFormat, path: Path, stream: Stream) -> Iterator[Write]:
    """A function that appends rows of the stream to a new file at `path`; the file is whole when the block ends."""
    with _WRITERS[kind](path, stream) as write:
        yield write


@contextmanager
def _jsonl(path: Path, _stream: Stream) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def write(rows: Sequence[Row]) -> None:
            file.writelines(_json(row) + "\n" for row in rows)

        yield write


@contextmanager
def _csv(path: Path, stream: Stream) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(stream.column_names)

        def write(rows: Sequence[Row]) -> None:
            writer.writerows([_cell(value) for value in row.values()] for row in rows)

        yield write


@contextmanager
def _parquet(path: Path, stream: Stream) -> Iterator[Write]:
    import pyarrow as pa  # noqa: PLC0415  (30 MB that pages and other formats do without)
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = parquet_schema(stream)
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def write(rows: Sequence[Row]) -> None:
            waiting.append(pa.RecordBatch.from_pylist(list(rows), schema=schema))
            if sum(batch.num_rows for batch in waiting) >= ROW_GROUP:
                flush()

        def flush() -> None:
            writer.write_table(pa.Table.from_batches(waiting, schema=schema), row_group_size=ROW_GROUP)
            waiting.clear()

        yield write
        if waiting:
            flush()


_WRITERS = {ExportFormat.JSONL: _jsonl, ExportFormat.CSV: _csv, ExportFormat.PARQUET: _parquet}


def parquet_schema(stream: Stream) -> "pa.Schema":
    """The Arrow schema of a stream; each field carries its sentence, the schema its name and version."""
    import pyarrow as pa  # noqa: PLC0415

    return pa.schema(
        [pa.field(column.name, _arrow_type(column), metadata={"about": column.about}) for column in stream.columns],
        metadata={"stream": stream.name, "schema_version": str(stream.version)},
    )


def _arrow_type(column: Column) -> "pa.DataType":
    import pyarrow as pa  # noqa: PLC0415

    scalars: dict[ColumnType, pa.DataType] = {
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
    }
    return scalars[column.type]


def _cell(value: Value) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    if isinstance(value, datetime):
        return stamp(value)
    return neutral_cell(value) if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=stamp)


def stamp(moment: datetime) -> str:
    """A time as it stands in JSON and CSV: UTC, always with six places, so that texts sort as times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

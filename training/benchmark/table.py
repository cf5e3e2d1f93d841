"""The table of a benchmark: rows as text and as JSON, and the rows of an interrupted run."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from training.benchmark.evaluator import Row

_COLUMNS = (
    ("suite", lambda row: row.suite),
    ("split", lambda row: row.split),
    ("index", lambda row: row.index),
    ("method", lambda row: row.method),
    ("U@5", lambda row: f"{row.u_at_5:,.0f}"),
    ("95 %", lambda row: "{:,.0f}-{:,.0f}".format(*row.intervals["u_at_5"])),
    ("excess", lambda row: f"{row.excess:,.0f}"),
    ("queries", lambda row: f"{row.queries:,}"),
    ("effective", lambda row: f"{row.effective:,}"),
    ("QHR", lambda row: f"{row.query_hit_rate:.2f}"),
    ("hit@100", lambda row: f"{row.hit_at_100:,}"),
    ("P@100", lambda row: f"{row.precision_at_100:.2f}"),
    ("good", lambda row: f"{row.good:,}"),
    ("unique", lambda row: f"{row.unique:,}"),
    ("novel", lambda row: f"{row.novel_unique:,}"),
    ("reviewed", lambda row: f"{row.reviewed:,}"),
    ("s", lambda row: f"{row.seconds:.0f}"),
)
_TEXT_COLUMNS = 4


def as_text(rows: Sequence[Row]) -> str:
    """The rows as one table with a head, words to the left and figures to the right."""
    cells = [[name for name, _value in _COLUMNS]]
    cells += [[value(row) for _name, value in _COLUMNS] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    return "\n".join(_line(line, widths) for line in cells)


def write_json(rows: Iterable[Row], path: Path) -> None:
    """Write the rows as a JSON list. The file is whole at any time: it is replaced, not rewritten."""
    beside = path.with_name(path.name + ".new")
    text = json.dumps([row.as_json() for row in rows], ensure_ascii=False, indent=1)
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(path)


def read_json(path: Path) -> list[Row]:
    """The rows that `write_json` wrote; [] if there is no such file."""
    if not path.exists():
        return []
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    words = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)][:_TEXT_COLUMNS]
    figures = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)][_TEXT_COLUMNS:]
    return "  ".join(words + figures).rstrip()

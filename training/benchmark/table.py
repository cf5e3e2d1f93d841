"""The table of a benchmark: rows as text, Markdown, CSV and JSON, and the rows of an interrupted run."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from training.benchmark.evaluator import Row, compare_rows
from training.metrics import Comparison

Column = tuple[str, Callable[[Row], str]]

_WORDS: Sequence[Column] = (
    ("suite", lambda row: row.suite),
    ("split", lambda row: row.split),
    ("index", lambda row: row.index),
    ("method", lambda row: row.method),
)
_FIGURES: Sequence[Column] = (
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


class Table:
    """Rows in order, each beside the row of `against` on the same index where that method is named and was run."""

    def __init__(self, rows: Iterable[Row], *, against: str = "") -> None:
        self.rows = list(rows)
        self.against = against
        others = {_place(row): row for row in self.rows if row.method == against}
        self._comparisons: Mapping[tuple[object, ...], Comparison] = {
            row.cell: compare_rows(row, others[_place(row)])
            for row in self.rows
            if _place(row) in others and row.method != against
        }

    def as_text(self) -> str:
        """One table with a head, words to the left and figures to the right."""
        cells = self._cells()
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        return "\n".join(_line(line, widths) for line in cells)

    def as_markdown(self) -> str:
        head, *lines = self._cells()
        rule = ["---"] * len(_WORDS) + ["---:"] * (len(head) - len(_WORDS))
        return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])

    def write_csv(self, path: Path) -> None:
        """The fields of the JSON rows, an interval as two columns; without the finds of each report."""
        settings = [" ".join(f"{name}={value}" for name, value in row.settings.items()) for row in self.rows]
        lines = [_flat(row) | {"settings": set_} for row, set_ in zip(self.as_json(), settings, strict=True)]
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, fieldnames=list(dict.fromkeys(name for line in lines for name in line)))
            writer.writeheader()
            writer.writerows(lines)

    def as_json(self) -> list[dict[str, object]]:
        """The rows; with `against`, each tells how it compares (None for that method's own)."""
        if not self.against:
            return [row.as_json() for row in self.rows]
        return [row.as_json() | {"against": self._compared(row)} for row in self.rows]

    def _cells(self) -> list[list[str]]:
        columns = [*_WORDS, *_FIGURES]
        if len({row.learn_from for row in self.rows}) > 1:
            columns.insert(len(_WORDS), ("learn from", lambda row: row.learn_from))
        if self.against:
            columns += [(f"- {self.against}", self._difference), ("95 %", self._interval), ("w/t/l", self._record)]
        return [[name for name, _value in columns]] + [[value(row) for _name, value in columns] for row in self.rows]

    def _compared(self, row: Row) -> dict[str, object] | None:
        found = self._comparisons.get(row.cell)
        if found is None:
            return None
        return {
            "method": self.against,
            "difference": round(found.difference, 1),
            "interval": [round(found.interval.low, 1), round(found.interval.high, 1)],
            "wins": found.wins,
            "ties": found.ties,
            "losses": found.losses,
        }

    def _difference(self, row: Row) -> str:
        found = self._comparisons.get(row.cell)
        return f"{found.difference:+,.0f}" if found else ""

    def _interval(self, row: Row) -> str:
        found = self._comparisons.get(row.cell)
        return f"{found.interval.low:+,.0f} to {found.interval.high:+,.0f}" if found else ""

    def _record(self, row: Row) -> str:
        found = self._comparisons.get(row.cell)
        return f"{found.wins}/{found.ties}/{found.losses}" if found else ""


def write_json(rows: Iterable[Mapping[str, object]], path: Path) -> None:
    """Write the rows as a JSON list, a line each. The file is whole at any time: it is replaced, not rewritten."""
    beside = path.with_name(path.name + ".new")
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    beside.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    beside.replace(path)


def read_json(path: Path) -> list[Row]:
    """The rows that `write_json` wrote, without their comparisons; [] if there is no such file."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**{name: value for name, value in row.items() if name != "against"}) for row in rows]


def _place(row: Row) -> tuple[object, ...]:
    """What two rows must share to be compared."""
    return row.suite, row.split, row.index, row.learn_from, row.seed


def _flat(row: Mapping[str, object]) -> dict[str, object]:
    """A row of a CSV: `{"u_at_5": [1, 2]}` in `intervals` becomes `u_at_5_low` and `u_at_5_high`."""
    flat: dict[str, object] = {}
    for name, value in row.items():
        if name in ("found", "settings") or value is None:
            continue
        parts = value if isinstance(value, Mapping) else {name: value}
        for inner, part in parts.items():
            key = f"{name}_{inner}" if name == "against" else inner
            flat |= {f"{key}_low": part[0], f"{key}_high": part[1]} if isinstance(part, list) else {key: part}
    return flat


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    words = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)][: len(_WORDS)]
    figures = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)][len(_WORDS) :]
    return "  ".join(words + figures).rstrip()

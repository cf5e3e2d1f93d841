"""The files around a suite that is made: the labelled texts that it comes from, its own four files, its data card."""

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from extraction.text import Analysis, MatchMode
from training.benchmark.make import Labelled, Made, split_of
from training.benchmark.suites import IndexKind, LabelledItem, LabelledReport, Suite, SuiteError
from training.metrics import DEPTH

CHECKED = 5


@dataclass(frozen=True)
class Columns:
    """Where a file has what; `toxic` are the label's values that count as toxic."""

    text: str = "text"
    label: str = "label"
    toxic: frozenset[str] = frozenset({"1"})
    source: str = "source"
    category: str = "category"
    phrases: str = "human_phrases"


def read_labelled(path: Path, columns: Columns) -> Iterator[Labelled]:
    """The rows of a CSV or JSONL file, gzipped or not. Raises SuiteError for a row without text or label, by number."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as lines:
            for number, row in enumerate(_rows(path, lines), start=1):
                yield _labelled(row, columns, f"{path}, row {number}")
    except OSError as error:
        raise SuiteError(f"{path} cannot be read: {error}.") from error


def write_suite(made: Made, folder: Path, *, seed: int, about: str, licence: str) -> None:
    """Write the four files of a suite into a new folder."""
    suite = made.suite
    folder.mkdir(parents=True)
    with gzip.open(folder / "items.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(_line(_item_row(item, made.copies.get(item.id, 0), seed)) for item in suite.items)
    keys = {item.id: item.key for item in suite.items}
    with (folder / "reports.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(_line(_report_row(report, keys[report.item], seed)) for report in suite.reports)
    phrases = [shown(key, suite.analysis) for key in made.lexicon]
    (folder / "lexicon.txt").write_text("".join(f"{phrase}\n" for phrase in phrases), encoding="utf-8")
    card = data_card(made, seed=seed, about=about, licence=licence)
    (folder / "README.md").write_text(card, encoding="utf-8")


def data_card(made: Made, *, seed: int, about: str, licence: str) -> str:
    """What the suite is, where it came from and what was done to it, with figures that `benchmark --check` reads."""
    suite = made.suite
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in made.dropped.items())
    sources = sorted({(item.source or "(not named)") for item in suite.items})
    return "\n".join(
        [
            f"# {suite.name}",
            "",
            about or "(say here what the texts are, who labelled them, and what counts as toxic)",
            "",
            f"Licence and conditions of use: {licence or '(not stated: do not pass this folder on)'}",
            "",
            *_size_table(suite),
            "",
            f"Made by `make_suite`, seed {seed}; token rule {suite.analysis.name}. Left out: {dropped}.",
            "Near-duplicate toxic items (token 3-grams, Jaccard >= 0.5, single link) stay on one side of the split;",
            "at most half of a split's toxic items are reports, at most two of a cluster. `lexicon.txt`: greedy cover",
            f"of the toxic train items, {len(made.lexicon)} phrases. Sources: {', '.join(sources)}.",
            "",
            "## Check your evaluator (test, std)",
            "| query | matches | toxic among them | toxic in the first 100 |",
            "|---|---|---|---|",
            *_check_rows(suite, made.lexicon),
            "",
        ]
    )


def shown(key: str, analysis: Analysis) -> str:
    """A key as a person writes it: words with spaces, characters without."""
    return key if analysis.base == "bench-en-1" else key.replace(" ", "")


def _size_table(suite: Suite) -> Iterator[str]:
    yield (
        "| split | items | toxic | reports | index (std): items / toxic / base rate | index (low): toxic / base rate "
        "| index (fresh): items / toxic / base rate |"
    )
    yield "|---|---|---|---|---|---|---|"
    for split in ("train", "dev", "test"):
        items = suite.items_of(split)
        toxic = sum(item.toxic for item in items)
        cells = [f"{len(items):,}", f"{toxic:,}", f"{len(suite.reports_of(split)):,}"]
        cells += ["(leave one out)", "-", "-"] if split == "train" else _index_cells(suite, split)
        yield f"| {split} | " + " | ".join(cells) + " |"


def _index_cells(suite: Suite, split: str) -> Iterator[str]:
    for kind in IndexKind:
        items = suite.index_of(split, kind)
        toxic = sum(item.toxic for item in items)
        rate = f"{toxic:,} / {100 * toxic / len(items) if items else 0:.2f} %"
        yield rate if kind is IndexKind.LOW else f"{len(items):,} / {rate}"


def _check_rows(suite: Suite, lexicon: Sequence[str]) -> Iterator[str]:
    """The first phrases of the lexicon with what they match, found by looking at every text."""
    index = suite.index_of("test", IndexKind.STD)
    rules = suite.analysis
    padded = [(f" {rules.key(item.text, MatchMode.PHRASE)} ", item.toxic) for item in index]
    for key in lexicon[:CHECKED]:
        toxic = [is_toxic for text, is_toxic in padded if f" {key} " in text]
        yield f"| {shown(key, rules)} | {len(toxic):,} | {sum(toxic):,} | {sum(toxic[:DEPTH])} |"


def _item_row(item: LabelledItem, copies: int, seed: int) -> dict[str, object]:
    row: dict[str, object] = {
        "id": item.key,
        "text": item.text,
        "toxic": int(item.toxic),
        "category": item.category,
        "source": item.source,
        "split": item.split,
        "split_random": split_of(seed, item.key),
    }
    marks = {"cluster": item.cluster, "dups": copies, "low": int(item.low), "known": int(item.known)}
    return row | {name: value for name, value in marks.items() if value}


def _report_row(report: LabelledReport, item: str, seed: int) -> dict[str, object]:
    return {
        "id": report.id,
        "item_id": item,
        "text": report.text,
        "category": report.category,
        "split": report.split,
        "split_random": split_of(seed, item),
        "cluster": report.cluster,
        "human_phrases": list(report.human_phrases) or None,
    }


def _line(row: Mapping[str, object]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _labelled(row: Mapping[str, Any], columns: Columns, place: str) -> Labelled:
    text, label = row.get(columns.text), row.get(columns.label)
    if not isinstance(text, str) or label is None:
        raise SuiteError(f"{place}: no {columns.text!r} or no {columns.label!r} in it.")
    return Labelled(
        text=text,
        toxic=str(label).strip() in columns.toxic,
        source=str(row.get(columns.source) or ""),
        category=str(row.get(columns.category) or ""),
        phrases=_phrases(row.get(columns.phrases)),
    )


def _rows(path: Path, lines: IO[str]) -> Iterator[Mapping[str, Any]]:
    if ".csv" in path.suffixes:
        yield from csv.DictReader(lines)
        return
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SuiteError(f"{path}, line {number}: not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise SuiteError(f"{path}, line {number}: no JSON object.")
        yield row


def _phrases(value: object) -> tuple[str, ...]:
    """A list of a JSON row; in a CSV the phrases stand in one cell, one a line."""
    parts = value if isinstance(value, list) else str(value or "").splitlines()
    return tuple(part for part in map(str, parts) if part.strip())

"""Is the evaluator right? Each suite's README gives figures that any correct evaluator must find; this compares them.

They are read from the README at run time: two tables by their heads, and the sentence about the first human phrases.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from extraction.search.base import MAX_SIZE, Order, SearchRequest
from extraction.text import MatchMode
from training.benchmark.evaluator import Bench, run_method
from training.benchmark.suites import Answers, IndexKind, SuiteError, Task
from training.metrics import DEPTH

_QUERY_TABLE = ["query", "matches", "toxic among them", "toxic in the first 100"]
_HUMAN = re.compile(r"(\d+) effective, hit@100 ([\d,]+), unique ([\d,]+)(?: of \d[\d,]*\d(?: reviewed)?)?, U@5 = (\d+)")
_SPLIT = "test"


@dataclass(frozen=True)
class CheckedFigure:
    """A figure of the README beside ours."""

    name: str
    expected: tuple[int, ...]
    found: tuple[int, ...]

    @property
    def is_right(self) -> bool:
        return self.expected == self.found


def check_suite(bench: Bench, readme: Path) -> Iterator[CheckedFigure]:
    """Every figure of the README that we can check, on the test split. Raises SuiteError if it names none."""
    text = readme.read_text(encoding="utf-8")
    yield from _check_sizes(bench, text)
    queries = list(_rows_under(text, _QUERY_TABLE))
    if not queries:
        raise SuiteError(f"{readme} has no table with figures to check an evaluator with.")
    task, answers = bench.task(_SPLIT, IndexKind.STD), bench.suite.answers(_SPLIT, IndexKind.STD)
    for query, *expected in queries:
        yield CheckedFigure(query, _numbers(" ".join(expected)), _query_figures(query, task, answers))
    yield from _check_human(bench, text, task)


def _check_sizes(bench: Bench, text: str) -> Iterator[CheckedFigure]:
    """Items and toxic ones of the three indexes: the line of the split in the first table."""
    line = re.search(rf"^\| {_SPLIT} \|.*$", text, re.MULTILINE)
    if line is None:
        return
    cells = [_numbers(re.sub(r"/ [\d.]+ %", "", cell)) for cell in line.group().split("|")[5:8]]
    for kind, expected in zip(IndexKind, cells, strict=True):
        items = bench.suite.index_of(_SPLIT, kind)
        sizes = (len(items), sum(item.toxic for item in items))
        yield CheckedFigure(f"index {kind}", expected, sizes[-len(expected) :])


def _check_human(bench: Bench, text: str, std: Task) -> Iterator[CheckedFigure]:
    for kind, expected in zip(IndexKind, _HUMAN.findall(" ".join(text.split())), strict=False):
        task = std if kind is IndexKind.STD else bench.task(_SPLIT, kind)
        row = run_method(bench, _SPLIT, kind, "human", task, bench.suite.answers(_SPLIT, kind))
        found = (row.effective, row.hit_at_100, row.unique, round(row.u_at_5))
        yield CheckedFigure(f"human {kind}", _numbers(" ".join(expected)), found)


def _query_figures(query: str, task: Task, answers: Answers) -> tuple[int, int, int]:
    request = SearchRequest(text=query, mode=MatchMode.PHRASE, size=MAX_SIZE, order=Order.RECENT)
    (page,) = task.searcher.msearch([request])
    toxic = [answers.verdicts[hit.id] for hit in page.hits]
    return page.counts.live, sum(toxic), sum(toxic[:DEPTH])


def _rows_under(text: str, head: list[str]) -> Iterator[list[str]]:
    """The rows of the Markdown table that has this head."""
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines()]
    if head not in lines:
        return
    for cells in lines[lines.index(head) + 2 :]:
        if len(cells) != len(head):
            return
        yield cells


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", text))

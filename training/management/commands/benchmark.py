"""`benchmark DIR --methods A,B --index std,low,fresh --split test --json OUT`: every method side by side."""

import tempfile
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from extraction.errors import SearchError
from training.benchmark.calibration import as_lines, calibrate
from training.benchmark.check import check_suite
from training.benchmark.evaluator import Bench, Row, run_method
from training.benchmark.methods import METHODS, REFERENCES
from training.benchmark.suites import IndexKind, SuiteError, find_suites, load_suite
from training.benchmark.table import as_text, read_json, write_json

DEFAULT_METHODS = ",".join([*METHODS, *REFERENCES])


class Command(BaseCommand):
    help = "Tries methods of query suggestion on labelled suites and prints one table. The headline is U@5 on fresh."

    def add_arguments(self, parser: ArgumentParser) -> None:
        names = ", ".join([*METHODS, *REFERENCES])
        parser.add_argument("folder", type=Path, metavar="DIR", help="A suite, or a folder of suites.")
        parser.add_argument("--methods", default=DEFAULT_METHODS, help=f"Comma separated, of {names}.")
        parser.add_argument("--index", default="std,low,fresh", help="Comma separated, of std, low, fresh.")
        parser.add_argument("--split", default="test", choices=["dev", "test"], help="Tune on dev, report on test.")
        parser.add_argument("--json", type=Path, metavar="OUT", help="Write the rows there; also where to go on.")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--check", action="store_true", help="Only compare with the figures of each README.")
        parser.add_argument("--calibrate", action="store_true", help="Only show what proposals of each score expose.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            suites = find_suites(options["folder"])
            if options["check"]:
                self._check(suites)
            elif options["calibrate"]:
                self._calibrate(suites, _kinds(options), options["split"], options["seed"])
            else:
                self._tabulate(suites, options)
        except (SuiteError, SearchError) as error:
            raise CommandError(str(error)) from error

    def _check(self, suites: list[Path]) -> None:
        wrong = 0
        for folder in suites:
            with tempfile.TemporaryDirectory(prefix="qx-benchmark-") as work:
                bench = Bench(load_suite(folder), Path(work))
                for figure in check_suite(bench, folder / "README.md"):
                    wrong += not figure.is_right
                    verdict = "right" if figure.is_right else f"WRONG, found {figure.found}"
                    self.stdout.write(f"{bench.suite.name}  {figure.name}  {figure.expected}  {verdict}")
        if wrong:
            raise CommandError(f"{wrong} figures differ: the evaluator or the suite is not what the README describes.")

    def _calibrate(self, suites: list[Path], kinds: list[IndexKind], split: str, seed: int) -> None:
        for folder in suites:
            with tempfile.TemporaryDirectory(prefix="qx-benchmark-") as work:
                bench = Bench(load_suite(folder), Path(work), seed=seed)
                for kind in kinds:
                    self.stdout.write(f"{bench.suite.name}, {split}, {kind}")
                    calibration = calibrate(bench.task(split, kind), bench.suite.answers(split, kind))
                    self.stdout.write("\n".join(as_lines(calibration)))

    def _tabulate(self, suites: list[Path], options: dict[str, Any]) -> None:
        plan = _Plan(
            methods=_chosen(options["methods"], [*METHODS, *REFERENCES], "--methods"),
            kinds=_kinds(options),
            split=options["split"],
            seed=options["seed"],
        )
        rows = _Rows(options["json"])
        if rows.done:
            self.stderr.write(f"Going on after {len(rows.done)} rows of {rows.unfinished}; delete it to begin anew.")
        for folder in suites:
            self._run_suite(folder, plan, rows)
        self.stdout.write(as_text(rows.of(plan, [folder.name for folder in suites])))
        rows.finish(plan, [folder.name for folder in suites])

    def _run_suite(self, folder: Path, plan: "_Plan", rows: "_Rows") -> None:
        if not any(rows.missing(plan, folder.name, kind) for kind in plan.kinds):
            return
        self.stderr.write(f"{folder.name}: loading")
        with tempfile.TemporaryDirectory(prefix="qx-benchmark-") as work:
            bench = Bench(load_suite(folder), Path(work), seed=plan.seed)
            for kind in plan.kinds:
                missing = rows.missing(plan, folder.name, kind)
                if missing:
                    self._run_index(bench, plan.split, kind, missing, rows)

    def _run_index(self, bench: Bench, split: str, kind: IndexKind, methods: list[str], rows: "_Rows") -> None:
        self.stderr.write(f"{bench.suite.name}, {split}, {kind}: building the index")
        task, answers = bench.task(split, kind), bench.suite.answers(split, kind)
        for method in methods:
            row = run_method(bench, split, kind, method, task, answers)
            rows.add(row)
            self.stderr.write(f"{bench.suite.name}, {split}, {kind}, {method}: U@5 {row.u_at_5:.0f}, {row.seconds} s")


@dataclass(frozen=True)
class _Plan:
    """What was asked for, the suites apart."""

    methods: list[str]
    kinds: list[IndexKind]
    split: str
    seed: int

    def cells(self, suite: str, kind: IndexKind) -> list[tuple[object, ...]]:
        return [(suite, self.split, kind.value, method, self.seed) for method in self.methods]


class _Rows:
    """The rows so far. With a file to write, they are kept beside it until all are there."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self.unfinished = out.with_name(out.name + ".unfinished") if out else None
        self.done = {_cell(row): row for row in read_json(self.unfinished)} if self.unfinished else {}

    def add(self, row: Row) -> None:
        self.done[_cell(row)] = row
        if self.unfinished:
            write_json(self.done.values(), self.unfinished)

    def missing(self, plan: _Plan, suite: str, kind: IndexKind) -> list[str]:
        return [str(cell[3]) for cell in plan.cells(suite, kind) if cell not in self.done]

    def of(self, plan: _Plan, suites: list[str]) -> list[Row]:
        return [self.done[cell] for suite in suites for kind in plan.kinds for cell in plan.cells(suite, kind)]

    def finish(self, plan: _Plan, suites: list[str]) -> None:
        if self._out and self.unfinished:
            write_json(self.of(plan, suites), self._out)
            self.unfinished.unlink(missing_ok=True)


def _cell(row: Row) -> tuple[object, ...]:
    return row.suite, row.split, row.index, row.method, row.seed


def _kinds(options: dict[str, Any]) -> list[IndexKind]:
    return [IndexKind(kind) for kind in _chosen(options["index"], list(IndexKind), "--index")]


def _chosen(given: str, known: list[str], option: str) -> list[str]:
    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise CommandError(f"{option}: {name!r} is not one of {', '.join(known)}.")
    return names

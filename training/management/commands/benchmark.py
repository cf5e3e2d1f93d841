"""`benchmark DIR --methods A,B --index std,low,fresh --split test --json OUT`: every method side by side."""

import tempfile
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from extraction.errors import SearchError
from training.benchmark.calibration import as_lines, calibrate
from training.benchmark.check import check_suite
from training.benchmark.choice import MethodUnavailable
from training.benchmark.engines import EngineKind, open_engines
from training.benchmark.evaluator import Bench, MakeEngine, Row, cell_of, run_method
from training.benchmark.methods import DEFAULT, KNOWN, settings_of
from training.benchmark.options import LearnFrom, Options
from training.benchmark.plot import write_plot
from training.benchmark.suites import IndexKind, SuiteError, find_suites, load_suite
from training.benchmark.table import Table, read_json, write_json


class Command(BaseCommand):
    help = "Tries methods of query suggestion on labelled suites and prints one table. The headline is U@5 on fresh."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="A suite, or a folder of suites.")
        parser.add_argument(
            "--methods",
            default=",".join(DEFAULT),
            help=f"Comma separated, of {', '.join(KNOWN)}, or your own as module.function. Those that train a model "
            "run only when named.",
        )
        parser.add_argument("--index", default="std,low,fresh", help="Comma separated, of std, low, fresh.")
        parser.add_argument("--split", default="test", choices=["dev", "test"], help="Tune on dev, report on test.")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument(
            "--engine", default="fts5", choices=list(EngineKind), help="What the suites are searched with."
        )
        parser.add_argument("--against", default="", metavar="METHOD", help="Compare every method with this one.")
        parser.add_argument("--check", action="store_true", help="Only compare with the figures of each README.")
        parser.add_argument("--calibrate", action="store_true", help="Only show what proposals of each score expose.")
        self._add_outputs(parser)
        self._add_options(parser)

    def _add_outputs(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", type=Path, metavar="OUT", help="Write the rows there; also where to go on.")
        parser.add_argument("--csv", type=Path, metavar="OUT", help="Write the rows there too.")
        parser.add_argument("--plot", type=Path, metavar="OUT", help="Draw U@5 with its intervals there, as SVG.")
        parser.add_argument("--markdown", action="store_true", help="Print the table as Markdown.")

    def _add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--learn-from",
            type=LearnFrom,
            choices=list(LearnFrom),
            default=LearnFrom.LOGGED,
            help="What the risk model may learn from: verdicts that a live system would have logged, every train item, "
            "or those of sources that hold toxic items.",
        )
        parser.add_argument("--work", type=Path, metavar="DIR", help="Keep trained models there, to use them again.")
        parser.add_argument(
            "--epochs", type=int, help="Of each trained baseline; without it as many as its paper says."
        )
        parser.add_argument("--seq2seq", default="", metavar="MODEL", help="Encoder-decoder: a path, or name@commit.")
        parser.add_argument(
            "--llm", default="", metavar="MODEL", help="Model to ask untrained: a path, or name@commit."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            suites = find_suites(options["folder"])
            with open_engines(EngineKind(options["engine"])) as make_engine:
                if options["check"]:
                    self._check(suites, make_engine)
                elif options["calibrate"]:
                    self._calibrate(suites, _plan(options), make_engine)
                else:
                    self._tabulate(suites, _plan(options), options, make_engine)
        except (SuiteError, SearchError) as error:
            raise CommandError(str(error)) from error

    def _check(self, suites: list[Path], make_engine: MakeEngine) -> None:
        wrong = 0
        for folder in suites:
            with tempfile.TemporaryDirectory(prefix="qx-benchmark-") as work:
                bench = Bench(load_suite(folder), Path(work), make_engine=make_engine)
                for figure in check_suite(bench, folder / "README.md"):
                    wrong += not figure.is_right
                    verdict = "right" if figure.is_right else f"WRONG, found {figure.found}"
                    self.stdout.write(f"{bench.suite.name}  {figure.name}  {figure.expected}  {verdict}")
        if wrong:
            raise CommandError(f"{wrong} figures differ: the evaluator or the suite is not what the README describes.")

    def _calibrate(self, suites: list[Path], plan: "_Plan", make_engine: MakeEngine) -> None:
        for folder in suites:
            with tempfile.TemporaryDirectory(prefix="qx-benchmark-") as work:
                bench = plan.bench(folder, Path(work), make_engine)
                for kind in plan.kinds:
                    self.stdout.write(f"{bench.suite.name}, {plan.split}, {kind}")
                    calibration = calibrate(bench.task(plan.split, kind), bench.suite.answers(plan.split, kind))
                    self.stdout.write("\n".join(as_lines(calibration)))

    def _tabulate(self, suites: list[Path], plan: "_Plan", options: dict[str, Any], make_engine: MakeEngine) -> None:
        rows = _Rows(options["json"])
        if rows.done:
            self.stderr.write(f"Going on after {len(rows.done)} rows of {rows.unfinished}; delete it to begin anew.")
        for folder in suites:
            self._run_suite(folder, plan, rows, make_engine)
        table = Table(rows.of(plan, [folder.name for folder in suites]), against=options["against"])
        self.stdout.write(table.as_markdown() if options["markdown"] else table.as_text())
        if options["csv"]:
            table.write_csv(options["csv"])
        if options["plot"] and table.rows:
            write_plot(table.rows, options["plot"])
        rows.finish(table)

    def _run_suite(self, folder: Path, plan: "_Plan", rows: "_Rows", make_engine: MakeEngine) -> None:
        if not any(rows.missing(plan, folder.name, kind) for kind in plan.kinds):
            return
        self.stderr.write(f"{folder.name}: loading")
        with tempfile.TemporaryDirectory(prefix="qx-benchmark-") as work:
            bench = plan.bench(folder, Path(work), make_engine)
            for kind in plan.kinds:
                missing = rows.missing(plan, folder.name, kind)
                if missing:
                    self._run_index(bench, plan.split, kind, missing, rows)

    def _run_index(self, bench: Bench, split: str, kind: IndexKind, methods: list[str], rows: "_Rows") -> None:
        where = f"{bench.suite.name}, {split}, {kind}"
        self.stderr.write(f"{where}: building the index")
        task, answers = bench.task(split, kind), bench.suite.answers(split, kind)
        for number, method in enumerate(methods, start=1):
            said = f"{where}, {method} ({number} of {len(methods)})"
            try:
                row = run_method(bench, split, kind, method, task, answers)
            except MethodUnavailable as error:
                self.stderr.write(f"{said}: left out, {error}")
                continue
            rows.add(row)
            self.stderr.write(f"{said}: U@5 {row.u_at_5:.0f}, {row.seconds} s")


@dataclass(frozen=True)
class _Plan:
    """What was asked for, the suites apart."""

    methods: list[str]
    kinds: list[IndexKind]
    split: str
    seed: int
    options: Options

    def bench(self, folder: Path, work: Path, make_engine: MakeEngine) -> Bench:
        return Bench(load_suite(folder), work, seed=self.seed, make_engine=make_engine, options=self.options)

    def cells(self, suite: str, kind: IndexKind) -> list[tuple[object, ...]]:
        learn_from = self.options.learn_from.value
        return [
            cell_of(suite, self.split, kind, method, learn_from, self.seed, settings_of(method, self.options))
            for method in self.methods
        ]


class _Rows:
    """The rows so far. With a file to write, they are kept beside it until all are there."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self.unfinished = out.with_name(out.name + ".unfinished") if out else None
        self.done = {row.cell: row for row in read_json(self.unfinished)} if self.unfinished else {}

    def add(self, row: Row) -> None:
        self.done[row.cell] = row
        if self.unfinished:
            write_json((row.as_json() for row in self.done.values()), self.unfinished)

    def missing(self, plan: _Plan, suite: str, kind: IndexKind) -> list[str]:
        return [str(cell[3]) for cell in plan.cells(suite, kind) if cell not in self.done]

    def of(self, plan: _Plan, suites: list[str]) -> list[Row]:
        """The rows of the plan in its order, without those of methods that could not run."""
        cells = [cell for suite in suites for kind in plan.kinds for cell in plan.cells(suite, kind)]
        return [self.done[cell] for cell in cells if cell in self.done]

    def finish(self, table: Table) -> None:
        if self._out and self.unfinished:
            write_json(table.as_json(), self._out)
            self.unfinished.unlink(missing_ok=True)


def _plan(options: dict[str, Any]) -> _Plan:
    methods = _names(options["methods"])
    against = options["against"]
    if against and against not in methods:
        raise CommandError(f"--against: {against!r} is not one of the methods of this run.")
    if options["epochs"] is not None and options["epochs"] < 1:
        raise CommandError(f"--epochs: at least 1, not {options['epochs']}.")
    _check_names([name for name in methods if "." not in name], list(KNOWN), "--methods")
    for name in methods:
        _check_own(name)
    kinds = _names(options["index"])
    _check_names(kinds, list(IndexKind), "--index")
    return _Plan(
        methods=methods,
        kinds=[IndexKind(kind) for kind in kinds],
        split=options["split"],
        seed=options["seed"],
        options=Options(
            learn_from=LearnFrom(options["learn_from"]),
            work=options["work"],
            epochs=options["epochs"],
            seq2seq=options["seq2seq"],
            llm=options["llm"],
        ),
    )


def _check_own(name: str) -> None:
    try:
        if "." in name:
            import_string(name)
    except ImportError as error:
        raise CommandError(f"--methods: {error}") from error


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


def _check_names(names: list[str], known: list[str], option: str) -> None:
    for name in names:
        if name not in known:
            raise CommandError(f"{option}: {name!r} is not one of {', '.join(known)}.")

"""`simulate DIR --rounds N --json OUT`: the simulated auditor through the whole loop, with retraining in between."""

import shutil
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError

from training.base_model import PROFILES
from training.benchmark.suites import SuiteError, find_suites
from training.benchmark.table import write_json
from training.simulation.plot import write_plot
from training.simulation.running import Row, Simulation
from training.simulation.settings import DEFAULT_ARMS, Arm, Fault, Plan, SimulationError
from training.simulation.table import as_markdown, curve, differences, learning

T = TypeVar("T")


class Command(BaseCommand):
    help = (
        "Lets a simulated auditor work through labelled suites, round after round, with and without suggestions and "
        "retraining, each arm on a site of its own. docs/simulation.md says how, and how to read the tables."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="A suite, or a folder of suites.")
        parser.add_argument("--rounds", type=_positive, default=Plan.rounds, metavar="N")
        parser.add_argument("--json", type=Path, metavar="OUT", help="Write the rows there; also where to go on.")
        parser.add_argument("--plot", type=Path, metavar="OUT", help="Draw there what was found so far, as SVG.")
        parser.add_argument("--seeds", type=_list_of(int), default=[0], help="Comma separated.")
        parser.add_argument(
            "--arms", type=_list_of(Arm), default=list(DEFAULT_ARMS), help=f"Comma separated, of {', '.join(Arm)}."
        )
        parser.add_argument("--days", type=_positive, default=Plan.days, help="Of a round.")
        parser.add_argument("--reports-a-day", type=_positive, default=Plan.reports_a_day)
        parser.add_argument("--reviews-a-day", type=_positive, default=Plan.reviews_a_day)
        parser.add_argument("--warm-up", type=_positive, default=Plan.warm_up, help="Reports before the first round.")
        parser.add_argument("--error", type=float, default=Plan.error, help="Share of wrong verdicts.")
        parser.add_argument("--tests", type=_positive, default=Plan.tests, help="Test reports for U@5, at most.")
        parser.add_argument("--frozen", type=_positive, default=Plan.frozen, help="Reports of the gate, at most.")
        parser.add_argument("--profile", default=Plan.profile, choices=list(PROFILES), help="Size of the base model.")
        parser.add_argument("--recipe", default=Plan.recipe, help="Of the trainings.")
        parser.add_argument("--work", type=Path, metavar="DIR", help="Keep the sites there, to go on or to look at.")
        parser.add_argument(
            "--faults",
            type=_list_of(Fault),
            default=[],
            help=f"What breaks in the first round of each arm, of {', '.join(Fault)}; the log is compared afterwards.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if find_spec("trl") is None:
            raise CommandError("The learning stack is missing: run `./qexplorer install_learning`.")
        rows: list[Row] = []
        try:
            suites = find_suites(options["folder"])
            with _work_folder(options["work"], options["json"]) as work:
                for suite in suites:
                    for row in self._simulation(suite, work, options).rows():
                        rows.append(row)
                        if options["json"]:
                            write_json(rows, options["json"])
        except (SimulationError, SuiteError) as error:
            raise CommandError(str(error)) from error
        self._show(rows, options)

    def _simulation(self, suite: Path, work: Path, options: dict[str, Any]) -> Simulation:
        plan = Plan(
            rounds=options["rounds"],
            days=options["days"],
            reports_a_day=options["reports_a_day"],
            reviews_a_day=options["reviews_a_day"],
            warm_up=options["warm_up"],
            error=options["error"],
            profile=options["profile"],
            recipe=options["recipe"],
            tests=options["tests"],
            frozen=options["frozen"],
        )
        return Simulation(
            suite=suite,
            plan=plan,
            seeds=options["seeds"],
            arms=[arm for arm in Arm if arm in options["arms"]],
            work=work,
            say=self.stderr.write,
            faults=options["faults"],
        )

    def _show(self, rows: Sequence[Row], options: dict[str, Any]) -> None:
        for lines in (curve(rows), learning(rows), differences(rows)):
            self.stdout.write(as_markdown(lines) + "\n")
        if options["plot"]:
            write_plot(rows, options["plot"])
        compared = [(row, one) for row in rows for one in row["compared"]]
        wrong = [(row, one) for row, one in compared if one["differing"] or one["acknowledged"] != one["logged"]]
        for row in rows if options["faults"] else ():
            for line in _reconciled(row):
                self.stdout.write(line)
        if wrong:
            row, one = wrong[0]
            raise CommandError(
                f"{len(wrong)} totals differ from the log, first: {one['what']} in round {row['round']} of arm "
                f"{row['arm']}, seed {row['seed']}: {one['acknowledged']} acknowledged, {one['logged']} in the log."
            )


def _reconciled(row: Row) -> Iterator[str]:
    """What was broken in a round, and what was acknowledged beside what the log holds."""
    where = f"{row['suite']}, seed {row['seed']}, {row['arm'] or 'warm-up'}, round {row['round']}"
    for fault in row["faults"]:
        yield f"{where}: {fault}"
    for one in row["compared"]:
        counts = f"{one['acknowledged']:,} acknowledged, {one['logged']:,} in the log, {one['differing']} differ"
        yield f"{where}: {one['what']}: {counts}"


@contextmanager
def _work_folder(named: Path | None, out: Path | None) -> Iterator[Path]:
    """The folder of the sites: the one that was named; else one beside the rows, which goes when all are there."""
    if named is not None:
        named.mkdir(parents=True, exist_ok=True)
        yield named
    elif out is not None:
        beside = out.with_name(f"{out.name}.unfinished")
        beside.mkdir(parents=True, exist_ok=True)
        yield beside
        shutil.rmtree(beside)
    else:
        with tempfile.TemporaryDirectory(prefix="qx-simulate-") as folder:
            yield Path(folder)


def _list_of(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    def read(words: str) -> list[T]:
        return [kind(word.strip()) for word in words.split(",") if word.strip()]

    read.__name__ = f"list of {getattr(kind, '__name__', 'words').lower()}"
    return read


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise ValueError
    return number


_positive.__name__ = "positive number"

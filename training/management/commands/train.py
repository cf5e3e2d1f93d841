"""`train RECIPE`: the chain of a recipe, as the page Training launches it; `train table-6`: the paper's ablation."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit.services.errors import ServiceError
from extraction.models import AdapterRole, BaseModel
from extraction.registry import adapter_in
from training import table
from training.estimates import UNDER_WAY
from training.following import Interrupted, follow
from training.management.moments import moment
from training.models import EvaluationSet, Run, RunState
from training.services import launch

TABLE = "table-6"
INTERRUPTED = 130
LOST = (RunState.FAILED, RunState.CANCELLED)


class Command(BaseCommand):
    help = (
        "Launches a recipe: datasets, trainings, the evaluation of the last. With --wait this process works it off. "
        f"{TABLE} trains and evaluates every recipe of the paper's table 6 and prints the table. Interrupted, the same "
        "command goes on. Exit codes: 0 over, 1 failed, 130 interrupted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("recipe", metavar="RECIPE", help=f"A name in training/recipes, or {TABLE}.")
        parser.add_argument(
            "--base", action="append", default=[], help=f"Base model (default: of who serves); several for {TABLE}."
        )
        parser.add_argument("--set", default="", metavar="NAME", help="Test set (default: the newest).")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument(
            "--until",
            default="",
            help=f"The log up to this time, ISO 8601 (default: now; for {TABLE} the cut-off of its test set).",
        )
        parser.add_argument("--gate", action="store_true", help="Let the gate promote or refuse.")
        parser.add_argument("--wait", action="store_true", help="Work it off in this process.")
        parser.add_argument("--json", type=Path, metavar="OUT", help=f"Also write {TABLE} as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        bases = [_base(name) for name in options["base"] or [""]]
        tests = _test_set(options["set"])
        try:
            if options["recipe"] == TABLE:
                self._table(bases, tests, options)
            else:
                self._chain(bases[0], tests, options)
        except Interrupted:
            raise CommandError("Stopped with a checkpoint. The same command goes on.", returncode=INTERRUPTED) from None
        except (ServiceError, table.TableFailed) as error:
            raise CommandError(str(error)) from error

    def _chain(self, base: BaseModel, tests: EvaluationSet | None, options: dict[str, Any]) -> None:
        runs = _unfinished(options["recipe"], base, options["seed"]) or launch(
            recipe=options["recipe"],
            base=base,
            evaluation_set=tests,
            seed=options["seed"],
            gate_decides=options["gate"],
            until=moment("--until", options["until"]),
        )
        names = ", ".join(f"run {run.pk} ({run.get_kind_display()} on {run.dataset})" for run in runs)
        self.stdout.write(f"{options['recipe']} on {base}: {names}")
        if options["wait"]:
            self._report(follow(runs, say=self.stderr.write))

    def _report(self, runs: Sequence[Run]) -> None:
        for run in runs:
            made = f", {run.adapter}" if run.adapter else ""
            self.stdout.write(f"run {run.pk}: {run.get_state_display()}{made}{f' ({run.error})' if run.error else ''}")
        if any(run.state in LOST for run in runs):
            raise CommandError("Not every run made an adapter.")

    def _table(self, bases: Sequence[BaseModel], tests: EvaluationSet | None, options: dict[str, Any]) -> None:
        if tests is None:
            raise CommandError("The table needs a test set: freeze one first, with `evaluate … --set NAME --cutoff …`.")
        until = moment("--until", options["until"]) if options["until"] else tests.cutoff
        rows = table.make(bases, tests, seed=options["seed"], until=until, say=self.stderr.write)
        for line in table.as_markdown(rows):
            self.stdout.write(line)
        if options["json"]:
            options["json"].write_text(json.dumps(table.as_json(rows), indent=1, ensure_ascii=False))


def _base(name: str) -> BaseModel:
    serving = adapter_in(AdapterRole.SERVING)
    if not name:
        base = serving.base if serving is not None else BaseModel.objects.first()
    else:
        base = BaseModel.objects.filter(name=name).first()
    if base is None:
        known = ", ".join(BaseModel.objects.values_list("name", flat=True)) or "none; `build_base_model` makes one"
        raise CommandError(f"There is no base model {name!r}: {known}.")
    return base


def _test_set(name: str) -> EvaluationSet | None:
    found = EvaluationSet.objects.filter(name=name).first() if name else EvaluationSet.objects.first()
    if name and found is None:
        raise CommandError(f"There is no test set {name!r}.")
    return found


def _unfinished(recipe: str, base: BaseModel, seed: int) -> list[Run]:
    """The chain that an earlier call of the same command has left."""
    mine = Run.objects.filter(recipe=recipe, base=base, seed=seed, user=None)
    last = mine.filter(state__in=UNDER_WAY, next_runs=None).first()
    chain: list[Run] = []
    while last is not None:
        chain.insert(0, last)
        last = last.after
    return chain

"""`evaluate ADAPTER --set NAME`: an adapter beside the one that serves, on a frozen test set; and the gate's word."""

from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from audit.models import JobState
from extraction.errors import SearchError
from extraction.models import Adapter
from training import gate
from training.evaluate import create_evaluation
from training.frozen import CannotFreeze, freeze
from training.jobs import evaluate_job
from training.models import Evaluation, EvaluationSet, GateVerdict

NAMES = {
    "unique": "unique toxic texts",
    "hits": "hit@100",
    "queries": "queries",
    "effective": "effective queries",
    "query_hit_rate": "query hit rate",
    "precision": "precision@100",
}


class Command(BaseCommand):
    help = "Evaluates an adapter on a frozen test set. Ends with an error unless the gate would let it serve."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("adapter", metavar="ADAPTER")
        parser.add_argument("--set", default="", metavar="NAME", help="The test set (default: the newest).")
        parser.add_argument("--cutoff", default="", help="Freeze the set NAME at this time first, ISO 8601.")

    def handle(self, *args: Any, **options: Any) -> None:
        adapter = Adapter.objects.filter(name=options["adapter"]).first()
        if adapter is None:
            raise CommandError(f"There is no adapter {options['adapter']!r}.")
        evaluation = create_evaluation(adapter, _set(options["set"], options["cutoff"]))
        evaluate_job(evaluation.pk)
        evaluation.refresh_from_db()
        if evaluation.state != JobState.DONE:
            raise CommandError(evaluation.error or f"{evaluation} goes on elsewhere.")
        for line in _lines(evaluation):
            self.stdout.write(line)
        if evaluation.verdict == GateVerdict.UNDECIDED:
            raise CommandError(
                f"Undecided: {evaluation.to_judge} more texts have to be judged first, on the page /pool/."
            )
        if evaluation.verdict == GateVerdict.REFUSES:
            raise CommandError("The gate refuses.")
        self.stdout.write("The gate passes.")


def _set(name: str, cutoff: str) -> EvaluationSet:
    if cutoff and not name:
        raise CommandError("--cutoff needs --set NAME: the name of the new test set.")
    if cutoff:
        try:
            return freeze(name, cutoff=_time(cutoff))
        except (CannotFreeze, SearchError) as error:
            raise CommandError(str(error)) from error
    named = EvaluationSet.objects.filter(name=name) if name else EvaluationSet.objects.all()
    found = named.first()
    if found is None:
        raise CommandError("There is no such test set. Freeze one: --set NAME --cutoff 2026-11-30T00:00:00.")
    return found


def _time(text: str) -> datetime:
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise CommandError(f"--cutoff: {text!r} is no time; write it as 2026-11-30T00:00:00.")
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def _lines(evaluation: Evaluation) -> Iterator[str]:
    """One line a figure, then one a rule."""
    sides = f"{evaluation.adapter} beside {evaluation.baseline or 'nobody'}"
    yield f"{sides} on {evaluation.evaluation_set}: {evaluation.figures['reports']} reports"
    for name, words in NAMES.items():
        yield _line(words, evaluation.figures[name], evaluation.baseline_figures[name], evaluation.comparison[name])
    for rule in evaluation.gate:
        yield f"{'holds ' if rule['holds'] else 'broken'}  {gate.sentence(rule)}"


def _line(words: str, ours: float | None, theirs: float | None, compared: dict[str, float]) -> str:
    difference = f"{compared['difference']:+.4g} [{compared['low']:+.4g}, {compared['high']:+.4g}]"
    counts = [f"{compared[name]} {name}" for name in ("wins", "ties", "losses") if name in compared]
    return "  ".join([f"{words:<18}", _figure(ours), _figure(theirs), difference, ", ".join(counts)]).rstrip()


def _figure(value: float | None) -> str:
    return f"{'none judged' if value is None else format(value, '.4g'):>11}"

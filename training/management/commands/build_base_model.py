"""`build_base_model --profile small`: a small language model from the site's own item texts, without a model hub."""

import os
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from training.base_model import PROFILES, build_base_model
from training.management.moments import moment
from training.models import EvaluationSet
from training.watching import Progress, TrainingError, Unwatched

NICENESS = 15
PROGRESS_S = 10.0


class Command(BaseCommand):
    help = (
        "Builds a base model of the item texts. Reports of the newest evaluation set, and what is nearly the same, are "
        "left out. Started again after an interruption, it begins anew (medium: goes on from its checkpoint)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--profile", choices=PROFILES, default="small", help="Default: %(default)s.")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--until", default="", help="Texts up to this time, ISO 8601 (default: now).")

    def handle(self, *args: Any, **options: Any) -> None:
        until = moment("--until", options["until"])
        excluded = EvaluationSet.objects.first()
        os.nice(NICENESS)
        self.stderr.write("A training that runs on this machine is waited for.")
        try:
            base = build_base_model(
                options["profile"], until=until, excluded=excluded, seed=options["seed"], watch=_Lines(self)
            )
        except TrainingError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Stopped: no base model was made. The same command makes it.") from None
        figures = base.card["held_out"]["nll_per_character"]
        self.stdout.write(
            f"{base.name}: {base.parameters:,} weights, {base.card['texts']:,} texts, weights {base.weights_hash[:12]}"
        )
        for what, nll in figures.items():
            if nll is not None:
                self.stdout.write(f"held-out {what}: {nll:.3f} nats a character")


class _Lines(Unwatched):
    """Says on standard error how far the training is."""

    def __init__(self, command: BaseCommand) -> None:
        self._command = command
        self._said = -PROGRESS_S

    def report(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._said >= PROGRESS_S:
            self._said = now
            self._command.stderr.write(
                f"step {progress.step} of {progress.max_steps}, loss {progress.loss:.3f}, "
                f"{progress.seconds_left:.0f} s left"
            )

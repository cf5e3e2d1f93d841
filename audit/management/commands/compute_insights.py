"""Count the weekly figures of the page Insights: `compute_insights`, `compute_insights --all`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit.insights import roll_up

INTERRUPTED = 130


class Command(BaseCommand):
    help = (
        "Counts the weeks that the log changed since the last time, the running one, and those never counted. "
        "The night does the same. Interrupted, the same command goes on. Exit codes: 0 all counted, 130 interrupted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--all", action="store_true", help="Count all weeks anew.")
        parser.add_argument("--weeks", type=int, default=0, metavar="N", help="Count the last N weeks anew as well.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["weeks"] < 0:
            raise CommandError("--weeks takes a number from 0 on.")
        try:
            counted = roll_up(everything=options["all"], weeks=options["weeks"], say=self._say)
        except KeyboardInterrupt:
            self.stderr.write("Interrupted. Finished weeks are kept; the same command goes on.")
            raise SystemExit(INTERRUPTED) from None
        self.stdout.write(f"{counted} weeks counted.")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

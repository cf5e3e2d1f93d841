from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit.intake.reading import UnreadableFile
from audit.intake.suite import SuiteChoice, import_suite
from extraction.errors import SearchError


class Command(BaseCommand):
    help = (
        "Load a labelled suite as items, index (by the suite's token rule), policies and reports, without its labels."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, help="The folder with items.jsonl.gz and reports.jsonl.")
        parser.add_argument("--split", choices=["train", "dev", "test"], default="", help="Default: everything.")
        parser.add_argument("--limit", type=int, help="At most so many items, the reported ones included.")
        parser.add_argument("--reports", type=int, help="At most so many reports. Default: all of the split.")

    def handle(self, *args: Any, **options: Any) -> None:
        choice = SuiteChoice(
            folder=options["folder"].resolve(),
            split=options["split"],
            limit=options["limit"],
            reports=options["reports"],
        )
        try:
            items, complaints = import_suite(choice, say=self.stdout.write)
        except UnreadableFile as error:
            raise CommandError(str(error)) from error
        except SearchError as error:
            raise CommandError(f"{error.sentence} ({error})") from error
        problems = items.problems + complaints.problems
        for problem in problems:
            self.stderr.write(f"line {problem.line}: {problem.reason}")
        if problems:
            raise CommandError(f"{len(problems)} lines were refused. The others are kept.")

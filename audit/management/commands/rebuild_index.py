from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit import indexing
from extraction.errors import SearchError
from extraction.text import CURRENT_ANALYSIS


class Command(BaseCommand):
    help = "Build the search index anew from the database, while the old one goes on serving; then swap."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--analysis", default=CURRENT_ANALYSIS, help="text analysis (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            generation = indexing.rebuild(options["analysis"])
        except SearchError as error:
            raise CommandError(f"{error.sentence} ({error})") from error
        self.stdout.write(f"The index is {generation} now.")

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit import indexing
from extraction.errors import SearchError


class Command(BaseCommand):
    help = "Compare the search index with the database, entry by entry, and mend what differs."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = indexing.verify()
        except SearchError as error:
            raise CommandError(f"{error.sentence} ({error})") from error
        self.stdout.write(
            f"missing {found.missing}, behind {found.behind}, ahead {found.ahead}, without an item {found.orphans}"
            + (": mended." if found else ": index and database agree.")
        )

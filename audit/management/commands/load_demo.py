"""Load the demo: a made-up marketplace with a month of work behind it."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from audit.demo.cast import NameTaken, login_lines
from audit.demo.load import DemoOptions, is_begun, is_complete, is_empty, load, write_logins
from audit.demo.texts import DEMO_SEED, DEMO_SIZE
from audit.demo.timeline import PAST_REPORTS, WAITING_REPORTS
from extraction.errors import SearchError
from extraction.search import get_attached


class Command(BaseCommand):
    help = "Load the demo, or the rest of it where an earlier load was interrupted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--if-empty", action="store_true", help="Do nothing where the database holds data or logins of its own."
        )
        parser.add_argument("--seed", type=int, default=DEMO_SEED)
        parser.add_argument("--items", type=int, default=DEMO_SIZE)
        parser.add_argument("--past", type=int, default=PAST_REPORTS, help="Reports already worked through.")
        parser.add_argument("--waiting", type=int, default=WAITING_REPORTS, help="Reports that wait.")

    def handle(self, *args: Any, **options: Any) -> None:
        if is_complete():
            write_logins()
            self._say(_("The demo is loaded."))
            return
        if options["if_empty"] and not is_begun() and not is_empty():
            self._say(_("The database holds data of its own; the demo is not loaded."))
            return
        if get_attached() is not None:
            self._say(_("This site is attached to an index of its own; the demo is not loaded."))
            return
        wanted = DemoOptions(options["seed"], options["items"], options["past"], options["waiting"])
        try:
            load(wanted, say=self._say)
        except NameTaken as error:
            raise CommandError(_("The login “%(name)s” is somebody's own.") % {"name": error}) from error
        except SearchError as error:
            raise CommandError(str(error.sentence)) from error
        self._say(_("The demo is loaded. Logins:") + f"\n{login_lines()}")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

"""Erase what a person wrote: `erase --platform P --item ID --user NAME --reason TEXT`."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from audit.models import Item
from audit.querysets import ItemQuerySet
from audit.services.erasing import Erased, erase_item, erase_reporter
from audit.services.errors import Invalid


class Command(BaseCommand):
    help = (
        "Blanks texts for good: of one item, of all items of an author, or what a reporter wrote. The log keeps its "
        "rows, figures and digests; datasets that hold an erased text are withdrawn within minutes, export files end "
        "at once. Backups made before keep it, and so do the weights of models that read it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--platform", required=True)
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--item", metavar="ID", help="The item of this external id.")
        whose.add_argument("--author", metavar="KEY", help="Every item of this author.")
        whose.add_argument("--reporter", metavar="KEY", help="The complaints of this person.")
        parser.add_argument("--user", required=True, help="Who erases: a superuser; kept in the log.")
        parser.add_argument("--reason", required=True, help="Why; kept in the log. Name nobody in it.")
        parser.add_argument("--dry-run", action="store_true", help="Only say how many items it would be.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"], is_active=True, is_superuser=True).first()
        if user is None:
            raise CommandError(f"--user: there is no superuser {options['user']!r}.")
        try:
            if options["reporter"]:
                self._reporter(user, options)
            else:
                self._items(_wanted(options), user, options)
        except Invalid as error:
            raise CommandError(f"--reason: {error.sentence}") from error

    def _reporter(self, user: User, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            raise CommandError("--dry-run goes with --item or --author.")
        told = {"platform": options["platform"], "reporter_key": options["reporter"]}
        erased = erase_reporter(**told, user=user, reason=options["reason"])
        if not erased.complaints:
            raise CommandError("No complaint of this person is here.")
        self._say(erased)

    def _items(self, items: ItemQuerySet, user: User, options: dict[str, Any]) -> None:
        """Each item in a transaction of its own: interrupted, the same command goes on with those that are left."""
        count = items.count()
        if not count:
            raise CommandError("No such item is here.")
        self.stdout.write(f"{count:,} items")
        if options["dry_run"]:
            return
        erased = Erased()
        for item in items.order_by("pk").iterator():
            erased += erase_item(item=item, user=user, reason=options["reason"])
        self._say(erased)

    def _say(self, erased: Erased) -> None:
        self.stdout.write(
            f"Erased {erased.texts:,} texts and the words of {erased.complaints:,} complaints; "
            f"closed {erased.reports:,} open reports; ended {erased.exports:,} export files."
        )


def _wanted(options: dict[str, Any]) -> ItemQuerySet:
    rows = Item.objects.filter(platform=options["platform"])
    if options["item"]:
        return rows.filter(external_id=options["item"])
    return rows.filter(author_key=options["author"])

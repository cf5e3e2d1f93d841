"""`promote ADAPTER`: let an adapter serve that the gate passed."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit.services.errors import ServiceError
from extraction.models import Adapter
from training.promote import newest_evaluation, promote


class Command(BaseCommand):
    help = "Lets an adapter serve, by its newest evaluation. The gate decides; where it refuses, it says why."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("adapter", metavar="ADAPTER")
        parser.add_argument("--reason", default="", help="Kept with the promotion.")

    def handle(self, *args: Any, **options: Any) -> None:
        adapter = Adapter.objects.filter(name=options["adapter"]).first()
        if adapter is None:
            raise CommandError(f"There is no adapter {options['adapter']!r}.")
        evaluation = newest_evaluation(adapter)
        try:
            promote(adapter, evaluation=evaluation, reason=options["reason"])
        except ServiceError as error:
            raise CommandError(error.sentence) from error
        before = evaluation.baseline if evaluation else None
        self.stdout.write(f"{adapter} serves now, {before or 'nobody'} served before.")

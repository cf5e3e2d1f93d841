"""`rollback`: let the adapter serve again that served before."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from audit.services.errors import ServiceError
from extraction.models import AdapterRole
from extraction.registry import adapter_in
from training.promote import rollback


class Command(BaseCommand):
    help = "Goes one step back: who served before serves again. Where nobody did, search serves alone."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--reason", default="", help="Kept with the rollback.")

    def handle(self, *args: Any, **options: Any) -> None:
        serving = adapter_in(AdapterRole.SERVING)
        try:
            promotion = rollback(from_adapter=serving, reason=options["reason"])
        except ServiceError as error:
            raise CommandError(error.sentence) from error
        self.stdout.write(f"{promotion.adapter or 'nobody'} serves again, {serving or 'nobody'} no more.")

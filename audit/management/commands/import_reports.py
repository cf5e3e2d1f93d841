from argparse import ArgumentParser

from audit.intake.command import ImportCommand
from audit.intake.rows import COMPLAINT_FIELDS
from audit.models import ImportKind


class Command(ImportCommand):
    help = "Import users' complaints; those about one item become one report. Idempotent by platform and external id."
    kind = ImportKind.REPORTS
    fields = ", ".join(COMPLAINT_FIELDS)

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--create-policies", action="store_true", help="Create the policies that are not known.")

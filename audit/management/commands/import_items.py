from audit.intake.command import ImportCommand
from audit.intake.rows import ITEM_FIELDS
from audit.models import ImportKind


class Command(ImportCommand):
    help = "Import items from a file; score and index them. Idempotent by platform and external id."
    kind = ImportKind.ITEMS
    fields = ", ".join(ITEM_FIELDS)

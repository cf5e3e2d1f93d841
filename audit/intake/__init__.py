"""How items and complaints get in: the commands, the admin, the API and the demo call these functions."""

from audit.intake.files import (
    ImportOptions,
    Preview,
    dry_run,
    import_stream,
    preview,
    register_path,
    register_upload,
    run_import,
    start_upload,
)
from audit.intake.reading import FileFormat, UnreadableFile
from audit.intake.rows import ComplaintRow, ItemRow, Problem, RowDefaults, RowError, complaint_row, item_row
from audit.intake.store import (
    IntakeCounts,
    TextForm,
    create_policy,
    equal_known_toxic,
    mark_gone,
    store_complaint_chunk,
    store_complaints,
    store_item_chunk,
    store_items,
    text_form,
)

__all__ = [
    "ComplaintRow",
    "FileFormat",
    "ImportOptions",
    "IntakeCounts",
    "ItemRow",
    "Preview",
    "Problem",
    "RowDefaults",
    "RowError",
    "TextForm",
    "UnreadableFile",
    "complaint_row",
    "create_policy",
    "dry_run",
    "equal_known_toxic",
    "import_stream",
    "item_row",
    "mark_gone",
    "preview",
    "register_path",
    "register_upload",
    "run_import",
    "start_upload",
    "store_complaint_chunk",
    "store_complaints",
    "store_item_chunk",
    "store_items",
    "text_form",
]

"""How items and complaints get in: the commands, the admin, the API and the demo call these functions."""

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
    "IntakeCounts",
    "ItemRow",
    "Problem",
    "RowDefaults",
    "RowError",
    "TextForm",
    "complaint_row",
    "create_policy",
    "equal_known_toxic",
    "item_row",
    "mark_gone",
    "store_complaint_chunk",
    "store_complaints",
    "store_item_chunk",
    "store_items",
    "text_form",
]

"""The keys of the pages, for the sheet that lists them. Each is declared on its control (aria-keyshortcuts); the script
owns only J K ? Esc Enter and the arrows.
"""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

KeyGroup = tuple[Promise, list[tuple[str, Promise]]]

KEYS: list[KeyGroup] = [
    (
        _("Everywhere"),
        [
            ("J ↓", _("next row")),
            ("K ↑", _("previous row")),
            ("Enter", _("open the row")),
            ("Z", _("undo the last step")),
            ("F", _("filter field")),
            ("P", _("open or close the policy")),
            ("?", _("these keys")),
            ("Esc", _("close, clear, leave the field")),
        ],
    ),
    (
        _("Queue and report"),
        [
            ("D", _("take the next report")),
            ("C", _("claim the row; release the report")),
            ("T N U", _("the reported text: toxic, normal, can't tell")),
            ("A", _("accept the suggestion")),
            ("E", _("edit it in place")),
            ("X", _("reject it")),
            ("Q", _("marked phrase becomes a query, else your own field")),
            ("R", _("run the accepted queries")),
            ("S", _("skip, with a reason")),
            ("L", _("escalate, with a reason")),
        ],
    ),
    (
        _("Judging"),
        [
            ("T", _("toxic, next row")),
            ("N", _("normal, next row")),
            ("U", _("can't tell, next row")),
            ("1 – 9", _("results of one query")),
            ("0", _("results of all")),
            ("D", _("done, next report")),
        ],
    ),
]

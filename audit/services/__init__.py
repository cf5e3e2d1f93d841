"""The verbs of the auditors' app: keyword-only functions, one change each, each in one transaction.

The pages, the admin, the API, the commands and the tests all call them. Every recording verb takes the `key` that the
page made for the request, so that a double click or a resend records once.
"""

from audit.services.errors import AlreadyRecorded, Conflict, Invalid, NotHeld, ServiceError
from audit.services.explorations import explore, open_page, run_again
from audit.services.judging import judge, reinstate, undo_judgment
from audit.services.pooling import judge_pool_item
from audit.services.queries import add_own_query, decide, forecast, undo_decision
from audit.services.reports import (
    claim,
    close,
    heartbeat,
    judge_report,
    release,
    reveal_suggestions,
    take_next,
)

__all__ = [
    "AlreadyRecorded",
    "Conflict",
    "Invalid",
    "NotHeld",
    "ServiceError",
    "add_own_query",
    "claim",
    "close",
    "decide",
    "explore",
    "forecast",
    "heartbeat",
    "judge",
    "judge_pool_item",
    "judge_report",
    "open_page",
    "reinstate",
    "release",
    "reveal_suggestions",
    "run_again",
    "take_next",
    "undo_decision",
    "undo_judgment",
]

"""The verdicts that the platform is to learn of: written with their cause, numbered after commit, fed and pushed."""

from datetime import datetime
from typing import Any

from audit.models import Item, OutboxEvent


def emit(*, item: Item, kind: str, payload: dict[str, Any], at: datetime) -> OutboxEvent:
    """Write an event inside the transaction of its cause: either both are kept or neither."""
    return OutboxEvent.objects.create(item=item, kind=kind, payload=payload, at=at)

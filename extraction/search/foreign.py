"""Attach mode without its client: the mapping of a foreign index, its matches, and what the application knows of them.

The application hands in an `Overlay` once, when it starts:

>>> class Rows(EmptyOverlay):
...     def states(self, external_ids):
...         return {"t3_abc": ForeignState(id=17, live=False, verdict="toxic")}
>>> use_overlay(Rows())
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Protocol

from extraction.search.base import Counts

SCORED = 200  # matches that are scored in process, for the forecast and the order


@dataclass(frozen=True)
class AttachMapping:
    """Where things are in the foreign index. Field names may be paths ("user.id"); "" where the index has none.

    `index`: index or alias. `time`: a date field. `filter`: one more query that every result must pass.
    """

    index: str
    text: str
    time: str
    id: str = "_id"
    author: str = ""
    url: str = ""
    platform: str = ""
    filter: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, values: Mapping[str, Any]) -> "AttachMapping":
        """Raises ValueError for a name that is unknown or missing."""
        known = {entry.name for entry in fields(cls)}
        if unknown := set(values) - known:
            raise ValueError(f"The mapping of the attached index has unknown names: {', '.join(sorted(unknown))}.")
        if missing := {"index", "text", "time"} - set(values):
            raise ValueError(f"The mapping of the attached index lacks: {', '.join(sorted(missing))}.")
        return cls(**values)


@dataclass(frozen=True)
class ForeignState:
    """What the application knows of a foreign item: its row, whether it still counts as live, its verdict."""

    id: int
    live: bool
    verdict: str = ""


class Overlay(Protocol):
    """What only the application knows."""

    def states(self, external_ids: Sequence[str]) -> Mapping[str, ForeignState]:
        """The state of those of the ids that have an item row."""

    def score(self, texts: Sequence[str]) -> Sequence[float] | None:
        """The risk of each text, or None while there is no model."""


class EmptyOverlay:
    """No rows and no model: everything is live and unscored."""

    def states(self, external_ids: Sequence[str]) -> Mapping[str, ForeignState]:
        return {}

    def score(self, texts: Sequence[str]) -> Sequence[float] | None:
        return None


@dataclass(frozen=True)
class ForeignHit:
    """A match in the foreign index, with its text as seen. `state` None: it has no item row yet."""

    external_id: str
    text: str
    created: datetime
    author: str
    url: str
    state: ForeignState | None = None
    risk: float | None = None

    @property
    def is_live(self) -> bool:
        return self.state is None or self.state.live


@dataclass(frozen=True)
class ForeignPage:
    """Matches in the order asked for. Counts are estimates; `checked` of the index's `total` results were checked."""

    hits: tuple[ForeignHit, ...]
    counts: Counts
    checked: int
    total: int
    took_ms: float


def stand_in_id(external_id: str) -> int:
    """A negative number for a foreign item without a row, the same in every search and process."""
    digest = hashlib.blake2b(external_id.encode(), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


_overlay: Overlay = EmptyOverlay()


def use_overlay(overlay: Overlay) -> None:
    """Called by the application when it starts, with what it knows of foreign items."""
    global _overlay
    _overlay = overlay


def overlay_in_use() -> Overlay:
    return _overlay

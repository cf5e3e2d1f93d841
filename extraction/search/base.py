"""What every search engine does, and the values that travel between it and the application.

An engine finds the items whose tokens contain the query's tokens one after another: exactly, in the two modes of
`MatchMode`, with the text analysis that its index was built with. `tests/extraction/test_search_contract.py` holds
every engine to it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

from extraction.errors import BadQuery, EmptyQuery
from extraction.text import CURRENT_ANALYSIS, Analysis, MatchMode

# Engines count matches exactly up to here; above it a page says `exact=False` and its counts are at least so many.
COUNT_LIMIT = 10_000
MAX_SIZE = 10_000
MAX_QUERY_TOKENS = 256


class Order(StrEnum):
    """The order of a page. Ties are broken by time, then by id, so that ranks can be reproduced."""

    RISK = "risk"
    RECENT = "recent"


@dataclass(frozen=True, slots=True)
class Document:
    """An item as the index knows it. `id` is the item's key; of two documents the one of the lower `version` is older.

    `risk` None: not scored, sorts last. `verdict`: "" (unjudged), "toxic" or "normal".
    """

    id: int
    text: str
    version: int
    live: bool
    created: datetime
    risk: float | None
    verdict: str
    language: str
    platform: str
    author: str


@dataclass(frozen=True)
class SearchRequest:
    """One search. `live`: True only live items, False only removed ones, None both. `after`: `sort` of the last hit."""

    text: str
    mode: MatchMode
    size: int = 100
    order: Order = Order.RISK
    live: bool | None = True
    after: tuple[float | int, ...] | None = None
    platform: str = ""
    language: str = ""


@dataclass(frozen=True)
class Hit:
    """A match. `sort` is its place in the order, to continue after; it can be written as JSON."""

    id: int
    risk: float | None
    created: datetime
    live: bool
    sort: tuple[float | int, ...]


@dataclass(frozen=True)
class Counts:
    """Matches by state; `toxic` and `normal` are the judged ones, those no longer live included."""

    live: int
    removed: int
    toxic: int
    normal: int


@dataclass(frozen=True)
class SearchPage:
    """What a search found. Not `exact`: every count is a lower bound, or an estimate for an attached index."""

    hits: tuple[Hit, ...]
    counts: Counts
    exact: bool
    index: str
    analysis: str
    took_ms: float


@dataclass(frozen=True)
class PutFailure:
    """A document that the engine refused, and why."""

    id: int
    reason: str


@dataclass(frozen=True)
class Health:
    """How the engine is: `detail` is a sentence for the operator."""

    is_ready: bool
    engine: str
    version: str
    generation: str
    analysis: str
    documents: int
    detail: str


class SearchEngine(Protocol):
    """An index of items. Every method may raise a `SearchError`; nothing else is expected."""

    @property
    def name(self) -> str:
        """Engine and version, as a query run records it: "fts5 3.40.1"."""

    @property
    def generation(self) -> str:
        """The index that serves now. Changes with each rebuild."""

    @property
    def analysis(self) -> str:
        """The name of the text analysis that this index was built with. Queries are read with it."""

    def put(self, documents: Iterable[Document]) -> list[PutFailure]:
        """Add or replace documents. One whose version is lower than the index's changes nothing and is no failure."""

    def search(self, request: SearchRequest) -> SearchPage:
        """One page of matches with the counts of all of them."""

    def msearch(self, requests: Sequence[SearchRequest]) -> list[SearchPage]:
        """Several searches in one batch, pages in the order of the requests."""

    def sample(self, size: int, seed: int) -> list[int]:
        """Up to `size` ids of live items, drawn at random; the same for the same seed and the same index."""

    def versions(self, after_id: int, size: int) -> list[tuple[int, int]]:
        """(id, version) of up to `size` documents with a higher id than `after_id`, in the order of ids."""

    def rebuild(self, documents: Iterable[Document], analysis: str = CURRENT_ANALYSIS) -> str:
        """Build a new index from all documents while the old one serves, then swap; return the new generation.

        What is put from this call on is not lost, so give an iterator that reads the rows when it is asked for them.
        One that raises leaves the old index serving.
        """

    def refresh(self) -> None:
        """Make everything that was put visible to searches."""

    def health(self) -> Health:
        """Ask the engine how it is. Answers instead of raising when it is not well."""


def read_query(request: SearchRequest, analysis: Analysis) -> list[str]:
    """The query's tokens. Raises EmptyQuery if nothing remains of it, BadQuery if it or the page is too long."""
    if not 1 <= request.size <= MAX_SIZE:
        raise BadQuery(f"A page has 1 to {MAX_SIZE} matches, not {request.size}.")
    tokens = analysis.tokens(request.text, request.mode)
    if not tokens:
        raise EmptyQuery("Nothing remains of the query after normalisation.")
    if len(tokens) > MAX_QUERY_TOKENS:
        raise BadQuery(f"A query has at most {MAX_QUERY_TOKENS} tokens; this one has {len(tokens)}.")
    return tokens


def check_cursor(request: SearchRequest) -> None:
    """Raises BadQuery for a cursor that another order made."""
    if request.after is not None and len(request.after) != (3 if request.order is Order.RISK else 2):
        raise BadQuery(f"This is no cursor of the order {request.order.value}: {request.after}.")


# The index keeps risk as a number and time as milliseconds, so that both engines order the same way.


def stored_risk(risk: float | None) -> float:
    """The risk as the index keeps it: -1 for items that are not scored, which puts them last."""
    return -1.0 if risk is None else float(risk)


def read_risk(stored: float) -> float | None:
    return None if stored < 0 else stored


def stored_time(moment: datetime) -> int:
    """Milliseconds since 1970, UTC."""
    return int(moment.timestamp() * 1000 // 1)


def read_time(stored: int) -> datetime:
    return datetime.fromtimestamp(stored / 1000, tz=UTC)


def hit_of(order: Order, id: int, risk: float, created: int, live: bool) -> Hit:
    """A hit from stored values."""
    sort: tuple[Any, ...] = (risk, created, id) if order is Order.RISK else (created, id)
    return Hit(id, read_risk(risk), read_time(created), live, sort)


def refusal(document: Document) -> str:
    """Why no engine takes this document, or ""."""
    if not -(2**63) <= document.id < 2**63 or not 0 <= document.version < 2**63:
        return "id or version is out of range"
    if document.created.tzinfo is None:
        return "the time has no offset"
    if document.risk is not None and not 0 <= document.risk <= 1:
        return f"risk is not between 0 and 1: {document.risk}"
    if document.verdict not in ("", "toxic", "normal"):
        return f"unknown verdict: {document.verdict!r}"
    return ""


def newest_of(documents: Iterable[Document]) -> list[Document]:
    """One document for each id: the highest version, of equal ones the last."""
    newest: dict[int, Document] = {}
    for document in documents:
        known = newest.get(document.id)
        if known is None or known.version <= document.version:
            newest[document.id] = document
    return list(newest.values())

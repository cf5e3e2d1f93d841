"""The index follows the database: documents from items, the sweeper, the check of both sides, the rebuild.

An item's `version` rises with every change that the index must learn; `indexed_version` is what the index has. Whoever
changes an item may index it at once (`index_items`); what was missed, the sweeper finds.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from multiprocessing import get_context
from typing import Self

from django.db import connection, transaction

from audit.index_worker import Indexed, score_and_put, start, with_risk, work
from audit.models import Item, ItemState, StandingVerdict, Verdict
from audit.querysets import ItemQuerySet
from extraction.errors import IndexMissing, SearchError
from extraction.registry import serving_risk
from extraction.risk import RiskModel
from extraction.search import Document, PutFailure, SearchEngine, get_engine
from extraction.text import CURRENT_ANALYSIS

CHUNK = 500
PAGE = 5_000
WARM_UP_CHUNKS = 8
FLYING_CHUNKS = 4
NEVER = datetime(1970, 1, 1, tzinfo=UTC)
BLANKED = 2**62

# Compare-and-swap: an item that changed meanwhile stays to be indexed again. COALESCE: a risk that was not computed
# here is left alone.
_MARK = (
    "UPDATE audit_item SET indexed_version = %s, risk = COALESCE(%s, risk), "
    "risk_version = COALESCE(%s, risk_version) WHERE id = %s AND version = %s"
)
_SCORED = "UPDATE audit_item SET risk = %s, risk_version = %s WHERE id = %s AND version = %s"
_ENTRY = "UPDATE audit_item SET indexed_version = %s WHERE id = %s"
_AHEAD = "UPDATE audit_item SET version = %s WHERE id = %s AND version < %s"

logger = logging.getLogger(__name__)


# --- documents ------------------------------------------------------------------------------------------------------


def documents(items: ItemQuerySet | Iterable[int]) -> Iterator[Document]:
    """The items of a queryset (in id order) or of ids as the index knows them; those without a text are left out."""
    pages = _pages_of(items) if isinstance(items, ItemQuerySet) else _chunks(items)
    for ids in pages:
        yield from _documents(ids)


def _pages_of(items: ItemQuerySet) -> Iterator[list[int]]:
    """Ids in pages, each read anew: no cursor stays open while the engine is slow."""
    after = 0
    while page := list(items.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:CHUNK]):
        yield page
        after = page[-1]


def _documents(ids: Sequence[int]) -> Iterator[Document]:
    rows = list(
        Item.objects.filter(pk__in=ids, text__isnull=False)
        .order_by("pk")
        .values_list(
            "pk",
            "text__text",
            "version",
            "state",
            "created",
            "risk",
            "text__language",
            "platform",
            "author_key",
            "text_id",
        )
    )
    verdicts = _verdicts([row[-1] for row in rows])
    for pk, text, version, state, created, risk, language, platform, author, text_id in rows:
        yield Document(
            id=pk,
            text=text,
            version=version,
            live=state == ItemState.LIVE,
            created=created,
            risk=risk,
            verdict=verdicts.get(text_id, ""),
            language=language,
            platform=platform,
            author=author,
        )


def _verdicts(text_ids: Sequence[int]) -> dict[int, str]:
    """Toxic where a text is toxic under any policy, else normal where it was judged so, undisputed."""
    standing = StandingVerdict.objects.filter(
        item_text__in=text_ids, is_disputed=False, verdict__in=[Verdict.TOXIC, Verdict.NORMAL]
    )
    verdicts: dict[int, str] = {}
    for text_id, verdict in standing.values_list("item_text_id", "verdict"):
        if verdicts.get(text_id) != Verdict.TOXIC:
            verdicts[text_id] = verdict
    return verdicts


# --- indexing -------------------------------------------------------------------------------------------------------


def is_lost() -> bool:
    """Whether items were indexed and the index is not there any more. Raises SearchError where that cannot be asked."""
    try:
        get_engine().generation  # noqa: B018  (asked for its error)
    except IndexMissing:
        return Item.objects.filter(indexed_version__gt=0).exists()
    return False


def _open_engine() -> SearchEngine:
    """The engine to put into. Raises IndexMissing where its index was lost: the first item that is put would begin a
    new one, which answers as if there were nothing else, until it is rebuilt.
    """
    if is_lost():
        raise IndexMissing("The index was lost. It is rebuilt before anything is put into it.")
    return get_engine()


def index_items(ids: Iterable[int]) -> list[PutFailure]:
    """Score where needed, put, and note what the index has. Raises SearchError; the sweeper then mends."""
    return [failure for chunk in _chunks(ids) for failure in _index(chunk).failures]


def sweep(limit: int = 20_000) -> int:
    """Index up to `limit` items whose entry is behind; how many the index took. Engine trouble ends the sweep."""
    done = 0
    behind = list(Item.objects.to_index().values_list("pk", flat=True)[:limit])
    for chunk in _chunks(behind):
        try:
            done += len(_index(chunk).entries)
        except SearchError as error:
            logger.warning("The sweep stopped, %d items wait for the next one: %s", len(behind) - done, error)
            break
    return done


def rescore() -> int:
    """Score every item that the serving risk model has not scored, and put it again; how many."""
    serving = serving_risk()
    if serving is None:
        return 0
    version, risk = serving
    engine, done = _open_engine(), 0
    for ids in _pages_of(Item.objects.exclude(risk_version=version)):
        before = [replace(document, risk=None) for document in _documents(ids)]
        indexed = score_and_put(before, engine, risk)
        _mark(before, indexed, version)
        done += len(indexed.entries)
    return done


def _index(ids: Sequence[int]) -> Indexed:
    before = list(_documents(ids))
    # The model is read only where something is to be scored: a verdict on a scored item is indexed without it.
    serving = serving_risk() if any(document.risk is None for document in before) else None
    version, risk = serving if serving else (None, None)
    indexed = score_and_put(before, _open_engine(), risk)
    _mark(before, indexed, version)
    return indexed


def _mark(before: Sequence[Document], indexed: Indexed, risk_version: int | None) -> None:
    """Note what the index has now, and the risks that were computed on the way."""
    for failure in indexed.failures:
        logger.warning("The index refused item %d: %s", failure.id, failure.reason)
    scored = {document.id for document in before if document.risk is None} if risk_version is not None else set()
    _update_rows(
        _MARK,
        [
            (
                entry.version,
                entry.risk if entry.id in scored else None,
                risk_version if entry.id in scored else None,
                entry.id,
                entry.version,
            )
            for entry in indexed.entries
        ],
    )


def _update_rows(sql: str, rows: Sequence[tuple[float | None, ...]]) -> None:
    if rows:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(sql, rows)


class Feeder:
    """Indexes the chunks of an import; past the first few in a second process, while the importer goes on storing.

    Where the engine fails, feeding stops and `stopped` says why: the items are stored, and the sweeper indexes them.
    """

    def __init__(self) -> None:
        serving = serving_risk()
        self._version: int | None = serving[0] if serving else None
        self._risk: RiskModel | None = serving[1] if serving else None
        self._pool: ProcessPoolExecutor | None = None
        self._flying: deque[tuple[list[Document], Future[Indexed]]] = deque()
        self._fed = 0
        self.stopped = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        while self._flying:
            self._land()
        if self._pool is not None:
            self._pool.shutdown()

    def feed(self, ids: Sequence[int]) -> None:
        """Index these items, now or soon; returns when few enough chunks are on their way."""
        if not ids or self.stopped:
            return
        chunk = list(_documents(ids))
        self._fed += 1
        if self._fed <= WARM_UP_CHUNKS or _cores() < 2:
            self._finish(chunk, lambda: score_and_put(chunk, _open_engine(), self._risk))
            return
        # Where the other process is behind, the scoring is taken off it.
        sent = with_risk(chunk, self._risk) if len(self._flying) == FLYING_CHUNKS - 1 else chunk
        self._flying.append((chunk, self._started_pool().submit(work, sent)))
        while self._flying and (len(self._flying) >= FLYING_CHUNKS or self._flying[0][1].done()):
            self._land()

    def _started_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, mp_context=get_context("spawn"), initializer=start, initargs=(self._risk,)
            )
        return self._pool

    def _land(self) -> None:
        chunk, future = self._flying.popleft()
        self._finish(chunk, future.result)

    def _finish(self, chunk: Sequence[Document], result: Callable[[], Indexed]) -> None:
        try:
            _mark(chunk, result(), self._version)
        except SearchError as error:
            logger.warning("Indexing stopped, the sweeper goes on later: %s", error)
            self.stopped = str(error.sentence)
        except BrokenProcessPool:
            logger.exception("The indexing process died; the sweeper goes on later.")
            self.stopped = str(SearchError.sentence)


# --- both sides -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Differences:
    """What `verify` found and mended: items that the index lacked, had too old or too new, and entries without item."""

    missing: int = 0
    behind: int = 0
    ahead: int = 0
    orphans: int = 0

    def __bool__(self) -> bool:
        return any((self.missing, self.behind, self.ahead, self.orphans))


def verify() -> Differences:
    """Compare the index with the database, entry by entry, and mend both ways; then sweep. Raises SearchError.

    An entry ahead of its item (an older backup of the database was restored) raises the item's version above it. An
    entry without an item is blanked: no query matches it any more.
    """
    found = Differences()
    for first, last, entries in _entry_ranges():
        found = _compare(first, last, entries, found)
    while sweep():
        pass
    return found


def rebuild(analysis: str = CURRENT_ANALYSIS) -> str:
    """Build a new index from all items, under this text analysis, while the old one serves; the new generation.

    Items are scored on the way. What changed meanwhile is swept at the end. Raises SearchError.
    """
    generation = get_engine().rebuild(_all_scored(), analysis)
    verify()
    return generation


def _all_scored() -> Iterator[Document]:
    serving = serving_risk()
    version, risk = serving if serving else (None, None)
    for ids in _pages_of(Item.objects.all()):
        before = list(_documents(ids))
        scored = with_risk(before, risk)
        unscored = {document.id for document in before if document.risk is None}
        fresh = [one for one in scored if one.id in unscored and one.risk is not None]
        _update_rows(_SCORED, [(one.risk, version, one.id, one.version) for one in fresh])
        yield from scored


def _entry_ranges() -> Iterator[tuple[int, int | None, dict[int, int]]]:
    """Ranges of ids that follow each other without a gap, each with the entries in it; the last one is open."""
    engine, after = get_engine(), 0
    while True:
        page = engine.versions(after, PAGE)
        if len(page) < PAGE:
            yield after, None, dict(page)
            return
        yield after, page[-1][0], dict(page)
        after = page[-1][0]


def _compare(first: int, last: int | None, entries: dict[int, int], found: Differences) -> Differences:
    orphans = {pk: version for pk, version in entries.items() if version != BLANKED}
    items = Item.objects.filter(pk__gt=first, text__isnull=False)
    missing: list[int] = []
    behind: list[int] = []
    ahead: list[int] = []
    for ids in _pages_of(items if last is None else items.filter(pk__lte=last)):
        noted: list[tuple[int, int]] = []
        for pk, version, indexed in Item.objects.filter(pk__in=ids).values_list("pk", "version", "indexed_version"):
            orphans.pop(pk, None)
            entry = entries.get(pk, 0)
            if entry != indexed:
                noted.append((entry, pk))
            if entry > version:
                ahead.append(pk)
            elif entry < version and indexed == version:
                (behind if pk in entries else missing).append(pk)
        _update_rows(_ENTRY, noted)
    _update_rows(_AHEAD, [(entries[pk] + 1, pk, entries[pk] + 1) for pk in ahead])
    _blank(orphans)
    return Differences(
        missing=found.missing + len(missing),
        behind=found.behind + len(behind),
        ahead=found.ahead + len(ahead),
        orphans=found.orphans + len(orphans),
    )


def _blank(orphans: Iterable[int]) -> None:
    """Entries without an item become empty, not live, and of a version by which the next check knows them."""
    get_engine().put(Document(pk, "", BLANKED, False, NEVER, None, "", "", "", "") for pk in orphans)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunks(ids: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(ids)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk

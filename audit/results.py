"""The results of an exploration: each item once, unjudged first by risk, what was judged before at the end."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from audit.intake.store import foreign_platform
from audit.models import Item, ItemState, QueryRun, StandingVerdict
from extraction.search import SearchRequest, get_attached, get_engine

CHUNK = 5_000  # SQLite takes no more variables in one statement than some tens of thousands


@dataclass(frozen=True)
class Place:
    """Where a run found an item."""

    run_id: int
    rank: int


@dataclass
class Found:
    """An item that some runs found, with its risk at that time (None: not scored).

    `ref` is what the run kept: the item's id, or the external id of an item of an attached index.
    """

    ref: int | str
    risk: float | None
    places: list[Place] = field(default_factory=list)
    item_id: int = 0
    text_id: int = 0


def run_query(request: SearchRequest) -> dict[str, Any]:
    """Search, and say what a query run records of it. Raises SearchError."""
    engine, attached = get_engine(), get_attached()
    if attached is not None:
        foreign = attached.search_foreign(request)
        counts, is_exact, took_ms = foreign.counts, False, foreign.took_ms
        index, analysis = engine.generation, engine.analysis
        found: list[tuple[int | str, float | None]] = [(hit.external_id, hit.risk) for hit in foreign.hits]
    else:
        page = engine.search(request)
        counts, is_exact, took_ms = page.counts, page.exact, page.took_ms
        index, analysis = page.index, page.analysis  # of the very index that answered: a new one may serve by now
        found = [(hit.id, hit.risk) for hit in page.hits]
    return {
        "engine": engine.name,
        "index_generation": index,
        "analysis": analysis,
        "live": counts.live,
        "removed": counts.removed,
        "is_about": not is_exact,
        "ranking": [[ref, None if risk is None else round(risk, 6)] for ref, risk in found],
        "took_ms": took_ms,
    }


def merge(runs: Iterable[QueryRun]) -> list[Found]:
    """Every item of these runs once, by risk descending, then by its first place."""
    found: dict[int | str, Found] = {}
    for run in runs:
        for rank, (ref, risk) in enumerate(run.ranking, start=1):
            entry = found.setdefault(ref, Found(ref=ref, risk=risk))
            entry.places.append(Place(run_id=run.pk, rank=rank))
    return sorted(found.values(), key=lambda entry: -1.0 if entry.risk is None else -1.0 - entry.risk)


def page_of(runs: Sequence[QueryRun], *, shown: Container[int]) -> list[Found]:
    """The next items to show, at most one page, without those that were `shown` before.

    Items that are not live any more are left out; those with a standing verdict come after all others.
    """
    left = [entry for entry in _with_items(merge(runs)) if entry.item_id not in shown]
    texts = _live_texts([entry.item_id for entry in left])
    judged = _judged_texts(list(texts.values()))
    fresh: list[Found] = []
    old: list[Found] = []
    for entry in left:
        text_id = texts.get(entry.item_id)
        if text_id is None:
            continue
        entry.text_id = text_id
        (old if text_id in judged else fresh).append(entry)
        if len(fresh) == settings.PAGE_SIZE:
            break
    return (fresh + old)[: settings.PAGE_SIZE]


def _with_items(entries: Sequence[Found]) -> Iterator[Found]:
    """The entries with their item ids; an item of an attached index without a row yet is left out."""
    foreign = [entry.ref for entry in entries if isinstance(entry.ref, str)]
    rows = Item.objects.filter(platform=foreign_platform(), external_id__in=foreign) if foreign else Item.objects.none()
    ids = dict(rows.values_list("external_id", "pk"))
    for entry in entries:
        item_id = entry.ref if isinstance(entry.ref, int) else ids.get(entry.ref)
        if item_id is not None:
            entry.item_id = item_id
            yield entry


def _live_texts(item_ids: list[int]) -> dict[int, int]:
    """item id → id of its present text, for live items."""
    return dict(
        pair
        for chunk in _chunks(item_ids)
        for pair in Item.objects.filter(pk__in=chunk, state=ItemState.LIVE, text__isnull=False).values_list(
            "pk", "text_id"
        )
    )


def _judged_texts(text_ids: list[int]) -> set[int]:
    return {
        text_id
        for chunk in _chunks(text_ids)
        for text_id in StandingVerdict.objects.filter(item_text_id__in=chunk)
        .exclude(verdict="")
        .values_list("item_text_id", flat=True)
    }


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]

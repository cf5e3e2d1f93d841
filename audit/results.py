"""The results of an exploration: each item once, unjudged first by risk, what was judged before at the end."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from django.conf import settings

from audit.models import Item, ItemState, QueryRun, StandingVerdict

CHUNK = 5_000  # SQLite takes no more variables in one statement than some tens of thousands


@dataclass(frozen=True)
class Place:
    """Where a run found an item."""

    run_id: int
    rank: int


@dataclass
class Found:
    """An item that some runs found, with its risk at that time (None: not scored)."""

    item_id: int
    risk: float | None
    places: list[Place] = field(default_factory=list)
    text_id: int = 0


def merge(runs: Iterable[QueryRun]) -> list[Found]:
    """Every item of these runs once, by risk descending, then by its first place."""
    found: dict[int, Found] = {}
    for run in runs:
        for rank, (item_id, risk) in enumerate(run.ranking, start=1):
            entry = found.setdefault(item_id, Found(item_id=item_id, risk=risk))
            entry.places.append(Place(run_id=run.pk, rank=rank))
    return sorted(found.values(), key=lambda entry: -1.0 if entry.risk is None else -1.0 - entry.risk)


def page_of(runs: Sequence[QueryRun], *, shown: Container[int]) -> list[Found]:
    """The next items to show, at most one page, without those that were `shown` before.

    Items that are not live any more are left out; those with a standing verdict come after all others.
    """
    left = [entry for entry in merge(runs) if entry.item_id not in shown]
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

"""What a query would find: tried on the index, figures only (SPEC §4, search in the loop)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.models import Exposure, Item, ItemState, Query, Report
from extraction.errors import SearchError
from extraction.search import Order, SearchPage, SearchRequest, get_engine
from extraction.text import MatchMode

FIRST = 100


@dataclass(frozen=True)
class ForecastFigures:
    """The figures of a forecast; all None where the search engine could not be asked."""

    matches: int | None = None
    is_about: bool = False
    unseen: int | None = None
    overlap: int | None = None
    past_toxic: int | None = None
    past_judged: int | None = None


def forecast_query(*, text: str, mode: MatchMode, report: Report | None = None) -> ForecastFigures:
    """Try one phrase on the index, beside the accepted queries of `report`. Stores nothing, shows no item."""
    others = [] if report is None else list(Query.objects.filter(decisions__in=report.decisions.standing()).distinct())
    requests = [first_matches(text, mode), *(first_matches(query.text, MatchMode(query.mode)) for query in others)]
    try:
        page, *other_pages = get_engine().msearch(requests)
    except SearchError:
        return ForecastFigures()
    shown = {hit.id for other in other_pages for hit in other.hits}
    return figures(page, overlap_with=shown)


def first_matches(text: str, mode: MatchMode) -> SearchRequest:
    """The request that a trial sends: the first 100 live matches by time, not by risk (choosing by a mean over a
    query's own best-looking results would favour broad words).
    """
    return SearchRequest(text=text, mode=mode, size=FIRST, order=Order.RECENT)


def figures(page: SearchPage, *, overlap_with: Iterable[int]) -> ForecastFigures:
    first = [hit.id for hit in page.hits]
    return ForecastFigures(
        matches=page.counts.live,
        is_about=not page.exact,
        unseen=len(first) - len(seen_items(first)),
        overlap=len(set(first) & set(overlap_with)),
        past_toxic=page.counts.toxic,
        past_judged=page.counts.toxic + page.counts.normal,
    )


def seen_items(item_ids: Sequence[int]) -> set[int]:
    """Those of the items that somebody was shown before, or that are not live any more (the index may be a moment
    behind the database). Two queries a chunk of 5,000.
    """
    seen: set[int] = set()
    for start in range(0, len(item_ids), 5_000):
        chunk = item_ids[start : start + 5_000]
        seen.update(Exposure.objects.filter(item_id__in=chunk).values_list("item_id", flat=True).distinct())
        seen.update(Item.objects.filter(pk__in=chunk).exclude(state=ItemState.LIVE).values_list("pk", flat=True))
    return seen

"""Compare the site's log with what was acknowledged, to the row, and its totals with one another."""

from collections.abc import Iterator

from django.db.models import Count, Max

from audit import indexing, outbox
from audit.models import (
    Decision,
    Exploration,
    ExplorationQuery,
    Exposure,
    Item,
    ItemState,
    Judgment,
    OutboxEvent,
    OutboxPublication,
    QueryRun,
    Removal,
    Report,
    ReportStatus,
    RunState,
    StandingVerdict,
    Verdict,
)
from extraction.search import get_engine
from training.simulation.tally import Compared, Tally, compared


def reconcile(tally: Tally) -> list[Compared]:
    """Every comparison; all of them agree where nothing was lost and nothing was done twice. Raises SearchError."""
    outbox.publish()
    return [*_of_rows(tally), *_of_pages(tally), *_of_events(), *_of_index()]


def _of_rows(tally: Tally) -> Iterator[Compared]:
    kinds = Decision.objects.values_list("public_id", "kind")
    yield compared("decisions", tally.decisions.items(), ((str(pk), kind) for pk, kind in kinds))
    verdicts = Judgment.objects.values_list("public_id", "verdict")
    yield compared("judgments", tally.judgments.items(), ((str(pk), verdict) for pk, verdict in verdicts))
    yield compared("removals", tally.removed, Removal.objects.values_list("item__external_id", flat=True))
    closed = Report.objects.filter(status=ReportStatus.CLOSED).values_list("public_id", flat=True)
    yield compared("closed reports", tally.closed, map(str, closed))


def _of_pages(tally: Tally) -> Iterator[Compared]:
    explorations = Exploration.objects.filter(state=RunState.DONE).values_list("public_id", flat=True)
    yield compared("explorations done", tally.pages, map(str, explorations))
    shown = (
        Exposure.objects.values_list("run__exploration_query__exploration__public_id", "page")
        .annotate(shown=Count("position", distinct=True))
        .order_by()
    )
    acknowledged = (
        (name, number, count) for name, pages in tally.pages.items() for number, count in enumerate(pages, 1) if count
    )
    yield compared("items shown, page by page", acknowledged, ((str(name), *rest) for name, *rest in shown))
    yield compared("exposures at the ranks of their runs", *_ranks())
    queries = ExplorationQuery.objects.values_list("pk", flat=True)
    yield compared("one run a query", queries, QueryRun.objects.values_list("exploration_query_id", flat=True))


def _ranks() -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """(run, rank, item) of every exposure, as the exposure says and as the run it names has it."""
    rows = Exposure.objects.order_by("run_id", "rank").values_list("run_id", "rank", "item_id")
    rankings = dict(QueryRun.objects.values_list("pk", "ranking"))
    return list(rows), [(run, rank, rankings[run][rank - 1][0]) for run, rank, _item in rows]


def _of_events() -> Iterator[Compared]:
    judged = Judgment.objects.values_list("public_id", flat=True)
    events = OutboxEvent.objects.filter(kind="verdict").values_list("payload__judgment", flat=True)
    yield compared("outbox: verdicts", map(str, judged), events)
    removed = Removal.objects.values_list("item_id", "kind")
    told = OutboxEvent.objects.exclude(kind="verdict").values_list("item_id", "kind")
    yield compared("outbox: removals", removed, told)
    yield compared(
        "outbox: each event has a number",
        OutboxEvent.objects.values_list("pk", flat=True),
        OutboxPublication.objects.values_list("event_id", flat=True),
    )
    last = OutboxPublication.objects.aggregate(last=Max("sequence"))["last"] or 0
    numbers = OutboxPublication.objects.values_list("sequence", flat=True)
    yield compared("outbox: numbers without a gap", range(1, last + 1), numbers)


def _of_index() -> Iterator[Compared]:
    present = StandingVerdict.objects.filter(verdict=Verdict.TOXIC).exclude(item_text__item__state=ItemState.GONE)
    toxic = set(present.values_list("item_text__item_id", flat=True))
    removed = Item.objects.filter(state=ItemState.REMOVED).values_list("pk", flat=True)
    yield compared("items judged toxic are removed", toxic, removed)
    found = indexing.verify()
    differences = found.missing + found.behind + found.ahead + found.orphans
    items = Item.objects.exclude(text=None).count()
    yield Compared("index entries", items, get_engine().health().documents, differences)

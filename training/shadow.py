"""How adapters do on live reports: a shadow beside the one that serves, and a challenger beside the champion.

A shadow's queries were stored and shown to nobody. Later, when people have judged what other queries found, both
adapters' queries for the same reports are searched on the live index, removed items included, and measured by the same
measures as on a frozen set. Nothing is pooled for that, so the figures rest on what happens to be judged: each stands
beside its count.

A challenger's queries are shown on its share of the reports. There the people's own decisions are compared, by arm.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from audit.models import Decision, DecisionKind, Exposure, Generation, Item, Proposer, Report
from audit.querysets import DecisionQuerySet
from extraction.models import Adapter, AdapterRole
from extraction.search import Order, SearchRequest, get_engine
from extraction.text import MatchMode, get_analysis
from training.evaluate import labels_of
from training.frozen import confirmed_reports
from training.gate import Figures, Found, compare, measure
from training.metrics import DEPTH

MOST_REPORTS = 200
_BATCH = 40
_MODELS = (Proposer.MODEL, Proposer.BOTH)


# --- a shadow -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shadowed:
    """A shadow's figures beside those of another adapter on the same confirmed reports, and the paired differences."""

    ours: Figures
    theirs: Figures
    comparison: dict[str, dict[str, float]]


def what_is_missing(adapter: Adapter, at_work: Mapping[AdapterRole, Adapter]) -> str:
    """Why an adapter cannot be scored beside the one that serves, in one sentence; empty where it can."""
    serving = at_work.get(AdapterRole.SERVING)
    if serving == adapter:
        return _("It serves. A shadow or a challenger is scored beside it, on the card of that adapter.")
    if adapter not in (at_work.get(AdapterRole.SHADOW), at_work.get(AdapterRole.CHALLENGER)):
        return _("Let it propose unseen or challenge: then its queries can be scored beside those of who serves.")
    if serving is None:
        return _("No adapter serves, so there is nothing to score its queries beside.")
    return ""


def score_shadow(shadow: Adapter, other: Adapter, *, most: int = MOST_REPORTS) -> Shadowed | None:
    """Score what two adapters generated for the same reports, the newest `most` of those that were confirmed.

    None where there is no such report. Raises SearchError. About 16 searches a report.
    """
    reports = _reports_of_both(shadow, other, most)
    if not reports:
        return None
    sides = [_Spoken(adapter, reports) for adapter in (shadow, other)]
    found_by = _search({phrase for side in sides for phrase in side.phrases})
    found = [side.found(found_by) for side in sides]
    labels = labels_of({text for one in [*found[0], *found[1]] for text in one.ids})
    ours, theirs = (measure(one, [report.pk for report in reports], labels) for one in found)
    return Shadowed(ours.figures, theirs.figures, compare(ours, theirs))


def _reports_of_both(shadow: Adapter, other: Adapter, most: int) -> list[Report]:
    both = confirmed_reports().filter(item_text__generations__adapter=shadow)
    both = both.filter(item_text__generations__adapter=other)
    return list(both.select_related("item_text").order_by("-opened", "-pk")[:most])


class _Spoken:
    """What one adapter generated for these reports."""

    def __init__(self, adapter: Adapter, reports: Sequence[Report]) -> None:
        texts = [report.item_text_id for report in reports]
        rows = Generation.objects.filter(adapter=adapter, item_text__in=texts)
        spans = dict(rows.values_list("item_text_id", "spans"))
        self._places = [(report, *span) for report in reports for span in spans[report.item_text_id]]

    @property
    def phrases(self) -> set[str]:
        return {report.item_text.text[start:end] for report, start, end, _confidence in self._places}

    def found(self, found_by: Mapping[str, Sequence[tuple[int, int]]]) -> list[Found]:
        """The texts that each query finds, without those of the reported item itself."""
        return [
            Found(
                report.pk,
                start,
                end,
                confidence,
                tuple(text for item, text in found_by[report.item_text.text[start:end]] if item != report.item_id)[
                    :DEPTH
                ],
            )
            for report, start, end, confidence in self._places
        ]


def _search(phrases: Iterable[str]) -> dict[str, list[tuple[int, int]]]:
    """phrase → (item, its present text) of the newest matches, removed ones included."""
    engine = get_engine()
    analysis = get_analysis(engine.analysis)
    found: dict[str, list[int]] = {phrase: [] for phrase in phrases}
    searchable = sorted(phrase for phrase in found if analysis.key(phrase, MatchMode.PHRASE))
    for start in range(0, len(searchable), _BATCH):
        batch = searchable[start : start + _BATCH]
        pages = engine.msearch([_request(phrase) for phrase in batch])
        found |= {phrase: [hit.id for hit in page.hits] for phrase, page in zip(batch, pages, strict=True)}
    texts = _texts_of({item for items in found.values() for item in items})
    return {phrase: [(item, texts[item]) for item in items if item in texts] for phrase, items in found.items()}


def _request(phrase: str) -> SearchRequest:
    return SearchRequest(text=phrase, mode=MatchMode.PHRASE, size=DEPTH + 1, order=Order.RECENT, live=None)


def _texts_of(item_ids: set[int]) -> dict[int, int]:
    ordered = sorted(item_ids)
    return dict(
        pair
        for start in range(0, len(ordered), 5_000)
        for pair in Item.objects.filter(pk__in=ordered[start : start + 5_000], text__isnull=False).values_list(
            "pk", "text_id"
        )
    )


# --- champion and challenger ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """What people did with one adapter's queries on its side of the reports.

    `reports`: those on which one of its queries was decided. An edited suggestion counts as accepted. `texts` that
    those queries exposed, `judged` of them (toxic or normal), `toxic` of these: the unique hits.
    """

    role: AdapterRole
    adapter: str
    reports: int
    decided: int
    accepted: int
    edited: int
    texts: int
    judged: int
    toxic: int

    @property
    def taken(self) -> int:
        return self.accepted + self.edited

    @property
    def acceptance_rate(self) -> float | None:
        return self.taken / self.decided if self.decided else None


def arms(*, since: datetime | None = None, adapters: Iterable[Adapter] | None = None) -> list[Arm]:
    """Every adapter's queries (or those of some) by the role in which they were shown, decided since a moment.

    Who serves comes first.
    """
    decided = Decision.objects.standing().filter(
        suggestion__proposer__in=_MODELS, suggestion__batch__adapter__isnull=False
    )
    if since is not None:
        decided = decided.filter(at__gte=since)
    if adapters is not None:
        decided = decided.filter(suggestion__batch__adapter__in=adapters)
    sides = decided.order_by().values_list("suggestion__batch__adapter_role", "suggestion__batch__adapter").distinct()
    found = [_arm(decided, AdapterRole(role), adapter) for role, adapter in sides]
    return sorted(found, key=lambda arm: (list(AdapterRole).index(arm.role), arm.adapter))


def _arm(decided: DecisionQuerySet, role: AdapterRole, adapter_id: int) -> Arm:
    own = decided.filter(suggestion__batch__adapter_role=role, suggestion__batch__adapter=adapter_id)
    kinds = Counter(own.order_by().values_list("kind", flat=True))
    exposed = Exposure.objects.filter(run__exploration_query__decisions__in=own).order_by()
    texts = set(exposed.values_list("item_text_id", flat=True))
    labels = labels_of(texts)
    return Arm(
        role=role,
        adapter=Adapter.objects.get(pk=adapter_id).name,
        reports=own.order_by().values("report").distinct().count(),
        decided=kinds.total(),
        accepted=kinds[DecisionKind.ACCEPTED],
        edited=kinds[DecisionKind.EDITED],
        texts=len(texts),
        judged=len(labels.toxic),
        toxic=sum(labels.toxic.values()),
    )

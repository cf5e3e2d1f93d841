"""Two adapters side by side on the same reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db.models import Q

from audit.models import Generation, ItemText
from extraction.artifacts import DamagedArtifact
from extraction.models import Adapter
from training.evaluate import read_found
from training.models import Evaluation

MOST_READ = 1_000
MOST_EVALUATIONS = 3


Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class Query:
    """A phrase of the text that an adapter proposed; whether the other adapter proposed it too."""

    text: str
    is_shared: bool


@dataclass(frozen=True)
class SideBySide:
    """A reported text with the queries of two adapters, and what each of them found where that was measured."""

    text: ItemText
    ours: list[Query]
    theirs: list[Query]
    found: tuple[int, int] | None = None

    @property
    def outcome(self) -> str:
        if self.found is None or self.found[0] == self.found[1]:
            return "tie"
        return "win" if self.found[0] > self.found[1] else "loss"


def compared(ours: Adapter, theirs: Adapter) -> list[int]:
    """Ids of the texts that both adapters have read, newest first."""
    return sorted(_spans_of(ours).keys() & _spans_of(theirs).keys(), reverse=True)


def side_by_side(
    ours: Adapter, theirs: Adapter | None, text_ids: Sequence[int], found: Mapping[int, tuple[int, int]] | None = None
) -> list[SideBySide]:
    """What both propose for these texts, in this order; a text that was erased since is left out."""
    mine, other = _spans_of(ours), _spans_of(theirs) if theirs is not None else {}
    texts = ItemText.objects.exclude(text="").in_bulk(text_ids)
    return [
        SideBySide(
            texts[pk],
            _queries(texts[pk], mine.get(pk, []), other.get(pk, [])),
            _queries(texts[pk], other.get(pk, []), mine.get(pk, [])),
            (found or {}).get(pk),
        )
        for pk in text_ids
        if pk in texts
    ]


def _queries(text: ItemText, spans: Spans, others: Spans) -> list[Query]:
    return [Query(text.text[start:end], (start, end) in others) for start, end in spans]


def _spans_of(adapter: Adapter) -> dict[int, Spans]:
    """Text id → what the adapter proposed for it, best first: ahead of the auditors, and in its evaluations."""
    written = Generation.objects.filter(adapter=adapter).order_by("-pk").values_list("item_text_id", "spans")
    spans: dict[int, Spans] = {
        text: [(start, end) for start, end, _confidence in each] for text, each in written[:MOST_READ]
    }
    sides = Evaluation.objects.filter(Q(adapter=adapter) | Q(baseline=adapter)).exclude(found="")
    for evaluation in sides.select_related("evaluation_set")[:MOST_EVALUATIONS]:
        spans |= _spans_in(evaluation, is_ours=evaluation.adapter_id == adapter.pk)
    return spans


def _spans_in(evaluation: Evaluation, *, is_ours: bool) -> dict[int, Spans]:
    try:
        kept = read_found(evaluation.found)
    except DamagedArtifact:
        return {}
    texts: dict[int, int] = dict(evaluation.evaluation_set.reports)
    spans: dict[int, Spans] = {texts[report]: [] for report in kept.reports}
    for one in kept.ours if is_ours else kept.theirs:
        spans[texts[one.report]].append((one.start, one.end))
    return spans


def reports_of(evaluation: Evaluation) -> dict[int, tuple[int, int]]:
    """Text id → unique toxic texts (of the adapter, of the baseline), where they differ most first."""
    texts: dict[int, int] = dict(evaluation.evaluation_set.reports)
    counts = {int(report): (ours, theirs) for report, (ours, theirs) in evaluation.by_report.items()}
    ordered = sorted(counts.items(), key=lambda one: (-abs(one[1][0] - one[1][1]), one[0]))
    return {texts[report]: found for report, found in ordered if report in texts}

"""Measure an adapter on a frozen set, alone and beside the adapter that serves, and let the gate decide.

Two steps, so that verdicts which come later need no model: `evaluate` asks both adapters for queries, searches the
frozen index and keeps what each query found; `decide` makes figures of that and of the verdicts as they stand now.
While too little is judged, it pools what is missing; the tick calls `decide_what_is_due`.

Deviation from a plain count of toxic results: a report's own item, which each of its phrases matches and which is toxic
by definition, is passed over in the results of that report.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from audit.models import JobState, StandingVerdict, Verdict
from extraction.artifacts import open_artifact, store_file
from extraction.generation import Proposer
from extraction.models import Adapter, AdapterRole
from extraction.registry import adapter_in
from training import pooling
from training.frozen import FrozenIndex, ReportedText, reported_texts
from training.gate import (
    Asked,
    Figures,
    Found,
    Labels,
    Leaks,
    Measured,
    compare,
    decide_gate,
    is_judged_enough,
    measure,
)
from training.leaks import find_leaks
from training.models import Evaluation, EvaluationSet, GateVerdict, LearningSettings

QUERIES = 8
_TEXTS = 64
_CHUNK = 5_000

ProposerFor = Callable[[Adapter], Proposer]
"""Gives a model with this adapter on it, under the adapter's name."""
Progress = Callable[[int, int], None]
"""Called with the number of texts done, and of all, of both adapters together."""


def create_evaluation(adapter: Adapter, evaluation_set: EvaluationSet, user: User | None = None) -> Evaluation:
    """A row for an evaluation that is to be run, against who serves now."""
    baseline = adapter_in(AdapterRole.SERVING)
    return Evaluation.objects.create(adapter=adapter, baseline=baseline, evaluation_set=evaluation_set, user=user)


def evaluate(evaluation: Evaluation, *, proposer_for: ProposerFor, progress: Progress | None = None) -> Evaluation:
    """Ask both adapters, search, keep what was found, and decide.

    Raises what the models, the storage and the index raise; the row then stays as it is for the caller to mark.
    """
    Evaluation.objects.filter(pk=evaluation.pk).update(state=JobState.RUNNING)
    reports = reported_texts(evaluation.evaluation_set)
    index = FrozenIndex(evaluation.evaluation_set)
    adapters = [adapter for adapter in (evaluation.adapter, evaluation.baseline) if adapter is not None]
    tell = _Told(progress, total=len(adapters) * len(reports))
    ours, *others = [_found(adapter, reports, index, proposer_for, tell) for adapter in adapters]
    leaks = find_leaks(evaluation.adapter, evaluation.evaluation_set)
    kept = Kept([report.report_id for report in reports], ours, others[0] if others else [], leaks)
    Evaluation.objects.filter(pk=evaluation.pk).update(found=_store(kept))
    evaluation.refresh_from_db()
    return decide(evaluation)


def decide_what_is_due() -> list[Evaluation]:
    """Decide again where enough was judged since; what was looked at."""
    return [decide(evaluation) for evaluation in pooling.due()]


def decide(evaluation: Evaluation) -> Evaluation:
    """Make figures of what was found and of the verdicts as they stand now; the rules of the gate; the pool.

    Of two that decide at once, one writes. Raises DamagedArtifact where what was found is not in the storage.
    """
    kept, asked = read_found(evaluation.found), _asked()
    labels = labels_of({text for one in kept.both for text in one.ids})
    ours, theirs = (measure(side, kept.reports, labels) for side in (kept.ours, kept.theirs))
    to_judge = _still_to_judge(evaluation, kept, ours, theirs, labels, asked)
    comparison = compare(ours, theirs)
    rules, verdict = decide_gate(
        ours.figures, theirs.figures, comparison, leaks=kept.leaks, asked=asked, to_judge=to_judge
    )
    unchanged = Evaluation.objects.filter(pk=evaluation.pk, finished=evaluation.finished)
    unchanged.update(
        state=JobState.DONE,
        error="",
        figures=ours.figures.as_json(),
        baseline_figures=theirs.figures.as_json(),
        by_report=_by_report(kept.reports, ours, theirs),
        comparison=comparison,
        gate=[asdict(rule) for rule in rules],
        verdict=verdict,
        to_judge=to_judge,
        finished=timezone.now(),
    )
    evaluation.refresh_from_db()
    if evaluation.verdict != GateVerdict.UNDECIDED:
        pooling.close([evaluation])
    pooling.close_superseded(evaluation)
    return evaluation


def labels_of(text_ids: AbstractSet[int]) -> Labels:
    """Undisputed standing verdicts on these texts; toxic under any policy is toxic."""
    ordered = sorted(text_ids)
    toxic: dict[int, bool] = {}
    judged: set[int] = set()
    for start in range(0, len(ordered), _CHUNK):
        rows = StandingVerdict.objects.filter(item_text__in=ordered[start : start + _CHUNK], is_disputed=False)
        for text_id, verdict in rows.exclude(verdict="").values_list("item_text_id", "verdict"):
            judged.add(text_id)
            if verdict != Verdict.CANT_TELL:
                toxic[text_id] = toxic.get(text_id, False) or verdict == Verdict.TOXIC
    return Labels(toxic, judged)


# --- what was found -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """What an evaluation keeps: the reports that were asked about, what each side found, and the leaks."""

    reports: list[int]
    ours: list[Found]
    theirs: list[Found]
    leaks: Leaks

    @property
    def both(self) -> list[Found]:
        return [*self.ours, *self.theirs]


class _Told:
    """Counts texts, and tells."""

    def __init__(self, progress: Progress | None, *, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def more(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


def _found(
    adapter: Adapter, reports: Sequence[ReportedText], index: FrozenIndex, proposer_for: ProposerFor, tell: _Told
) -> list[Found]:
    """The queries of one adapter for every report, alone, and what each finds; equal ones of a report once."""
    proposer = proposer_for(adapter)
    found: list[Found] = []
    for start in range(0, len(reports), _TEXTS):
        chunk = reports[start : start + _TEXTS]
        lists = proposer.propose([report.text for report in chunk], [adapter.name] * len(chunk), limit=QUERIES)
        for report, proposed in zip(chunk, lists, strict=True):
            best = {index.key(one.text): one for one in reversed(proposed)}
            found += [
                Found(report.report_id, one.start, one.end, one.confidence, index.find(one.text, but=report.own))
                for one in sorted(best.values(), key=proposed.index)
            ]
        tell.more(len(chunk))
    return found


def _store(kept: Kept) -> str:
    """Write what was found as JSON Lines, places and ids without a word of text; its digest."""
    with tempfile.NamedTemporaryFile("w", dir=settings.VAR_DIR, suffix=".jsonl", encoding="utf-8") as file:
        head = {"reports": kept.reports, "leaks": asdict(kept.leaks), "ours": len(kept.ours)}
        for line in (head, *(list(asdict(one).values()) for one in kept.both)):
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
        file.flush()
        return store_file(Path(file.name))


def read_found(digest: str) -> Kept:
    with open_artifact(digest) as file:
        lines = map(json.loads, file)
        head = next(lines)
        both = [_one(*line) for line in lines]
    return Kept(head["reports"], both[: head["ours"]], both[head["ours"] :], Leaks(**head["leaks"]))


def _one(report: int, start: int, end: int, confidence: float, ids: Iterable[int]) -> Found:
    return Found(report, start, end, confidence, tuple(ids))


# --- deciding -------------------------------------------------------------------------------------------------------


def _asked() -> Asked:
    row = LearningSettings.load()
    return Asked(row.hit_rate_margin, row.precision_margin, row.judged_at_least)


def _still_to_judge(
    evaluation: Evaluation, kept: Kept, ours: Measured, theirs: Measured, labels: Labels, asked: Asked
) -> int:
    """How many texts the gate still needs; they are pooled. None where a leak or enough verdicts decide already."""
    sides: list[Figures] = [ours.figures, theirs.figures]
    if kept.leaks or all(is_judged_enough(side, asked.judged_at_least) for side in sides):
        return 0
    order = pooling.ask_for(evaluation, kept.both, labels.judged)
    found = [{text for one in side for text in one.ids} for side in (kept.ours, kept.theirs)]
    return pooling.how_many(order, found, labels.judged, asked.judged_at_least)


def _by_report(reports: Sequence[int], ours: Measured, theirs: Measured) -> dict[str, list[int]]:
    """{report id: [unique toxic texts of ours, of theirs]}."""
    unique = zip(reports, ours.parts["unique"], theirs.parts["unique"], strict=True)
    return {str(report): [mine, other] for report, mine, other in unique}

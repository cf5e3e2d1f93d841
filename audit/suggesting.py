"""Compute and store the suggestions of a report: candidates → tried on the index → scored → novelty → stored.

Candidates come from `search` (phrases of the text) and from the adapter that serves the report (its queries, written
ahead by audit.generating); each can be switched off. From the index on there is one way for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from audit.forecasts import first_matches, seen_items
from audit.models import (
    Generation,
    Item,
    ItemState,
    PolicyVersion,
    Proposer,
    Query,
    Report,
    ReportStatus,
    SuggesterName,
    SuggesterSwitch,
    Suggestion,
    SuggestionBatch,
    SuggestionsState,
)
from audit.worth import worth
from extraction.models import Adapter, AdapterRole
from extraction.registry import adapter_for, serving_risk, serving_row
from extraction.risk import RiskModel
from extraction.search import SearchEngine, get_attached, get_engine
from extraction.suggest import (
    FLOOR,
    Candidate,
    Proposal,
    candidates,
    merge,
    propose,
    proposed_candidates,
    rescore,
    try_on_index,
)
from extraction.text import Analysis, MatchMode, get_analysis

CALIBRATED = 25
"""Judged negatives from which on the probabilities of the risk model are taken at their word."""
ABOVE_BASE = 5.0
"""A phrase is worth an auditor's look if its expected share is at least this many times that of a random item."""


@dataclass(frozen=True)
class Suggester:
    """Who may propose for a report now, and with what. `generation` is None until the adapter has read the text."""

    by_search: bool
    adapter: Adapter | None
    role: AdapterRole
    generation: Generation | None
    risk_version: int
    risk: RiskModel | None

    @property
    def is_off(self) -> bool:
        return not self.by_search and self.adapter is None

    @property
    def awaits_model(self) -> bool:
        return self.adapter is not None and self.generation is None

    @property
    def name(self) -> str:
        """`search`, `llm`, `search+llm`; "" while only an adapter may propose, and has not yet."""
        return "+".join([SuggesterName.SEARCH] * self.by_search + [SuggesterName.LLM] * (self.generation is not None))

    @property
    def version(self) -> str:
        """The version of the risk model, and the adapter's name where its queries are there."""
        if self.adapter is None or self.generation is None:
            return str(self.risk_version)
        return f"{self.risk_version}+{self.adapter.name}"

    def candidates(self, text: str, analysis: Analysis) -> list[Candidate]:
        ngrams = candidates(text, analysis=analysis, risk=self.risk) if self.by_search else []
        spans = self.generation.spans if self.generation else []
        return merge(ngrams, proposed_candidates(text, spans, analysis=analysis))


def suggester_of(report: Report) -> Suggester:
    """Who may propose for this report now: by the switches, the roles of the adapters, and what is written already."""
    adapter, role = (
        adapter_for(report.pk) if is_on(SuggesterName.LLM, report.policy_id) else (None, AdapterRole.SERVING)
    )
    written = Generation.objects.filter(item_text=report.item_text_id, adapter=adapter).first() if adapter else None
    version, model = serving_risk() or (0, None)
    return Suggester(is_on(SuggesterName.SEARCH, report.policy_id), adapter, role, written, version, model)


def suggest(report: Report, *, at: datetime | None = None) -> SuggestionBatch | None:
    """Compute a new batch for an open report and make it the one that is shown.

    None where the suggesters are off, or the only one that is on has not read the text yet. What an adapter has not
    written yet is not waited for: `search` goes on alone, and a new batch follows. At most MAX_SUGGESTIONS are shown;
    once there are decisions to learn from, as many of them as are worth their reading. A report that somebody holds
    keeps the batch on their screen. Raises SearchError where the engine does not answer.
    """
    if report.status == ReportStatus.CLOSED:
        return None
    suggester = suggester_of(report)
    if suggester.is_off:
        _set_state(report, SuggestionsState.OFF)
        return None
    if not suggester.name:
        Report.objects.filter(pk=report.pk, batch=None).update(suggestions_state=SuggestionsState.PENDING)
        return None
    engine = get_engine()
    found = suggester.candidates(report.item_text.text, get_analysis(engine.analysis))
    trials = try_on_index(found, engine)
    retrieved = {item for trial in trials for item in trial.first}
    if suggester.risk is not None:
        trials = rescore(trials, current_risks(retrieved, suggester.risk_version, suggester.risk))
    proposals = propose(
        trials,
        seen=seen_items(sorted(retrieved)) | {report.item_id},
        accepted=_shown_by_accepted(report, engine),
        limit=settings.MAX_SUGGESTIONS,
        floor=_floor(),
    )
    learnt = worth() if at is None else None  # a past that is told again comes out the same each time
    if learnt is not None:
        proposals = proposals[: learnt.count(proposals, suggester.adapter)]
    return _store(report, engine, suggester, proposals, tried=len(trials), at=at)


def is_on(suggester: str, policy_id: int) -> bool:
    """Whether a suggester may propose for a policy: the policy's own switch, else the site's, else on."""
    rows = SuggesterSwitch.objects.filter(suggester=suggester).filter(Q(policy=None) | Q(policy_id=policy_id))
    switch = rows.order_by(F("policy").asc(nulls_last=True)).first()
    return switch is None or switch.is_on


def is_stale(batch: SuggestionBatch) -> bool:
    """Whether the text, the policy's wording, a switch, the risk model, the adapter or the index changed since, the
    adapter's queries arrived, or a query that covered its results was rejected or taken back.
    """
    report = batch.report
    if batch.item_text_id != report.item_text_id or batch.policy_version_id != report.policy.current().pk:
        return True
    suggester = suggester_of(report)
    if suggester.is_off or report.suggestions_state == SuggestionsState.OFF:
        return suggester.is_off != (report.suggestions_state == SuggestionsState.OFF)
    if _is_outdated(batch, suggester) or batch.index_generation != get_engine().generation:
        return True
    return report.decisions.filter(at__gt=batch.at, kind__in=["rejected", "undone"]).exists()


def _is_outdated(batch: SuggestionBatch, suggester: Suggester) -> bool:
    if suggester.awaits_model and batch.adapter_id is not None:
        # What the adapter before it proposed stays until the new one has read the text.
        return batch.suggester_version.partition("+")[0] != str(suggester.risk_version)
    return bool(suggester.name) and (batch.suggester, batch.suggester_version) != (suggester.name, suggester.version)


def current_risks(item_ids: set[int], version: int, model: RiskModel) -> dict[int, float]:
    """item id → risk under this model: as stored where it is of this version, else scored now from the text."""
    risks: dict[int, float] = {}
    behind: list[tuple[int, str]] = []
    ids = sorted(item_ids)
    for start in range(0, len(ids), 5_000):
        rows = Item.objects.filter(pk__in=ids[start : start + 5_000]).values_list(
            "pk", "risk", "risk_version", "text__text"
        )
        for pk, risk, risk_version, text in rows:
            if risk_version == version and risk is not None:
                risks[pk] = risk
            else:
                behind.append((pk, text or ""))
    scores = model.score(text for _pk, text in behind)
    risks.update(zip((pk for pk, _text in behind), scores.tolist(), strict=True))
    return risks


def _floor() -> float:
    """The share under which nothing is proposed.

    A model that has seen few real negatives gives probabilities that are all too low: there the base decides.
    """
    serving = serving_row()
    if serving is None or serving.negatives >= CALIBRATED:
        return FLOOR
    return min(FLOOR, ABOVE_BASE * serving.base_rate)


def _shown_by_accepted(report: Report, engine: SearchEngine) -> set[int]:
    accepted = Query.objects.filter(decisions__in=report.decisions.standing()).distinct()
    requests = [first_matches(query.text, MatchMode(query.mode)) for query in accepted]
    return {hit.id for page in engine.msearch(requests) for hit in page.hits} if requests else set()


def _store(
    report: Report,
    engine: SearchEngine,
    suggester: Suggester,
    proposals: Sequence[Proposal],
    *,
    tried: int,
    at: datetime | None,
) -> SuggestionBatch:
    policy_version: PolicyVersion = report.policy.current()
    # The reported item itself matches each of its phrases as long as it is in the results.
    is_indexed = report.item.indexed_version > 0 or get_attached() is not None
    itself = int(report.item.state == ItemState.LIVE and is_indexed)
    with transaction.atomic():
        batch = SuggestionBatch.objects.create(
            report=report,
            item_text=report.item_text,
            policy_version=policy_version,
            suggester=suggester.name,
            suggester_version=suggester.version,
            index_generation=engine.generation,
            tried=tried,
            adapter=suggester.adapter if suggester.generation else None,
            adapter_role=suggester.role if suggester.generation else "",
            at=at or timezone.now(),
        )
        Suggestion.objects.bulk_create(_suggestion(batch, proposal, engine.analysis, itself) for proposal in proposals)
        Report.objects.filter(pk=report.pk).filter(Q(batch=None) | Q(status=ReportStatus.WAITING)).update(batch=batch)
        # By the batch that is shown, which is still the earlier one where somebody took the report meanwhile.
        shown = Suggestion.objects.filter(batch__in=Report.objects.filter(pk=report.pk).values("batch"))
        _set_state(report, SuggestionsState.READY if shown.exists() else SuggestionsState.NONE)
    return batch


def _suggestion(batch: SuggestionBatch, proposal: Proposal, analysis: str, itself: int) -> Suggestion:
    candidate = proposal.candidate
    query, _created = Query.objects.get_or_create(
        analysis=analysis, mode=candidate.mode.value, key=candidate.key, defaults={"text": candidate.text}
    )
    return Suggestion(
        batch=batch,
        report=batch.report,
        query=query,
        text=candidate.text,
        span_start=candidate.start,
        span_end=candidate.end,
        rank=proposal.rank,
        estimate=proposal.score,
        novelty=proposal.novelty,
        proposer=_proposer(candidate),
        confidence=candidate.confidence,
        matches=max(proposal.counts.live - itself, 0),
        unseen=proposal.unseen,
        overlap=proposal.overlap,
        past_toxic=proposal.counts.toxic,
        past_judged=proposal.counts.toxic + proposal.counts.normal,
    )


def _proposer(candidate: Candidate) -> Proposer:
    if candidate.confidence is None:
        return Proposer.SEARCH
    return Proposer.BOTH if candidate.by_search else Proposer.MODEL


def _set_state(report: Report, state: SuggestionsState) -> None:
    Report.objects.filter(pk=report.pk).update(suggestions_state=state)

"""Compute and store the suggestions of a report: candidates → tried on the index → scored → novelty → stored."""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from audit.forecasts import first_matches, seen_items
from audit.models import (
    Item,
    ItemState,
    PolicyVersion,
    Query,
    Report,
    ReportStatus,
    SuggesterSwitch,
    Suggestion,
    SuggestionBatch,
    SuggestionsState,
)
from extraction.registry import serving_risk, serving_row
from extraction.risk import RiskModel
from extraction.search import SearchEngine, get_attached, get_engine
from extraction.suggest import FLOOR, Proposal, candidates, propose, rescore, try_on_index
from extraction.text import MatchMode, get_analysis

SEARCH = "search"
CALIBRATED = 25
"""Judged negatives from which on the probabilities of the risk model are taken at their word."""
ABOVE_BASE = 5.0
"""A phrase is worth an auditor's look if its expected share is at least this many times that of a random item."""


def suggest(report: Report, *, at: datetime | None = None) -> SuggestionBatch | None:
    """Compute a new batch for an open report and make it the one that is shown; None where the suggester is off.

    A report that somebody holds keeps the batch on their screen. Raises SearchError where the engine does not answer.
    """
    if report.status == ReportStatus.CLOSED:
        return None
    if not is_on(SEARCH, report.policy_id):
        _set_state(report, SuggestionsState.OFF)
        return None
    serving = serving_risk()
    engine = get_engine()
    version, model = serving if serving else (0, None)
    found = candidates(report.item_text.text, analysis=get_analysis(engine.analysis), risk=model)
    trials = try_on_index(found, engine)
    retrieved = {item for trial in trials for item in trial.first}
    if serving:
        trials = rescore(trials, current_risks(retrieved, *serving))
    proposals = propose(
        trials,
        seen=seen_items(sorted(retrieved)) | {report.item_id},
        accepted=_shown_by_accepted(report, engine),
        limit=settings.MAX_SUGGESTIONS,
        floor=_floor(),
    )
    return _store(report, engine, version, proposals, tried=len(trials), at=at)


def is_on(suggester: str, policy_id: int) -> bool:
    """Whether a suggester may propose for a policy: the policy's own switch, else the site's, else on."""
    rows = SuggesterSwitch.objects.filter(suggester=suggester).filter(Q(policy=None) | Q(policy_id=policy_id))
    switch = rows.order_by(F("policy").asc(nulls_last=True)).first()
    return switch is None or switch.is_on


def is_stale(batch: SuggestionBatch) -> bool:
    """Whether the text, the policy's wording, the risk model or the index changed since, or a query that covered its
    results was rejected or taken back.
    """
    report = batch.report
    if batch.item_text_id != report.item_text_id or batch.policy_version_id != report.policy.current().pk:
        return True
    serving = serving_risk()
    if batch.suggester_version != str(serving[0] if serving else 0):
        return True
    if batch.index_generation != get_engine().generation:
        return True
    return report.decisions.filter(at__gt=batch.at, kind__in=["rejected", "undone"]).exists()


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
    version: int,
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
            suggester=SEARCH,
            suggester_version=str(version),
            index_generation=engine.generation,
            tried=tried,
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
        matches=max(proposal.counts.live - itself, 0),
        unseen=proposal.unseen,
        overlap=proposal.overlap,
        past_toxic=proposal.counts.toxic,
        past_judged=proposal.counts.toxic + proposal.counts.normal,
    )


def _set_state(report: Report, state: SuggestionsState) -> None:
    Report.objects.filter(pk=report.pk).update(suggestions_state=state)

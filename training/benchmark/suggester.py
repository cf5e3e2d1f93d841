"""The product's suggester `search` as a method: phrases tried on the index, played by what they should expose."""

from collections.abc import Sequence
from functools import lru_cache

from extraction.risk import RiskModel
from extraction.suggest import Candidate, Trial, candidates, expected_share, play_order, rescore, try_on_index
from training.benchmark.choice import Choice, Query, best_of_each
from training.benchmark.readings import control_of, risk_of
from training.benchmark.suites import Task


def search(task: Task) -> Choice:
    """The suggester over the whole queue, until the review budget is spent."""
    return played(task, scored_trials(task, risk_of(task)))


def control(task: Task) -> Choice:
    """The same with a risk model that knows nothing but the sources: what style alone would find."""
    return played(task, scored_trials(task, control_of(task)))


def search_one(task: Task) -> Choice:
    """From the same trials the best query of each report by its score alone, played by score."""
    return best_played(task, scored_trials(task, risk_of(task)))


@lru_cache(maxsize=1)
def scored_trials(task: Task, risk: RiskModel) -> list[list[Trial]]:
    """40 phrases of each report tried on the index, their results scored by the risk model."""
    phrases = [candidates(report.text, analysis=task.analysis, risk=risk) for report in task.reports]
    return try_and_score(task, risk, phrases)


def try_and_score(task: Task, risk: RiskModel, phrases: Sequence[Sequence[Candidate]]) -> list[list[Trial]]:
    """The phrases of each report tried on the index, their results scored by the risk model."""
    tried = [try_on_index(own, task.searcher) for own in phrases]
    ids = sorted({id for own in tried for trial in own for id in trial.first})
    risks = dict(zip(ids, risk.score(map(task.searcher.text_of, ids)).tolist(), strict=True))
    return [rescore(own, risks) for own in tried]


def best_played(task: Task, trials: Sequence[Sequence[Trial]]) -> Choice:
    """The best query of each report by its score alone, played by score."""
    scored = [
        [(expected_share(trial, frozenset())[0], trial.candidate.text) for trial in own if trial.first]
        for own in trials
    ]
    return best_of_each(task, scored)


def played(task: Task, trials: Sequence[Sequence[Trial]]) -> Choice:
    """The queries of all reports in the order of the suggester, until the review budget is spent."""
    seen: set[int] = set()
    queries = []
    for move in play_order(trials, floor=0.0):
        if len(seen) >= task.budget:
            break
        seen.update(move.trial.first)
        queries.append(Query(task.reports[move.report].id, move.trial.candidate.text))
    return Choice(tuple(queries))

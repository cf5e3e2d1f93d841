"""The methods of the table: each chooses queries for the reports of a task, in the order in which they are played."""

import random as random_numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from extraction.search.base import Counts
from extraction.suggest import (
    Candidate,
    Trial,
    candidates,
    expected_share,
    play_order,
    rescore,
    try_on_index,
)
from extraction.text import MatchMode
from training.benchmark.logged import logged_risk
from training.benchmark.phrases import Frequency, frequencies, phrases_of, query_lengths
from training.benchmark.searcher import Found
from training.benchmark.suites import Answers, Task, TaskReport

SMOOTHING = 5


@dataclass(frozen=True)
class Query:
    """A query and the report that it was made from."""

    report: str
    text: str


@dataclass(frozen=True)
class Choice:
    """What a method chose. Not ordered: the measure takes the mean over random orders."""

    queries: tuple[Query, ...]
    is_ordered: bool = True


Method = Callable[[Task], Choice]
"""Sees no label of the split that it is tried on."""

Reference = Callable[[Task, Answers], Choice]
"""Sees the answers: not a method, but a mark to compare with."""


def search(task: Task) -> Choice:
    """The product's suggester with the logged risk model, over the whole queue until the review budget is spent."""
    trials = scored_trials(task)
    plays = play_order(trials, floor=0.0)
    seen: set[int] = set()
    queries = []
    for play in plays:
        if len(seen) >= task.budget:
            break
        seen.update(play.trial.first)
        queries.append(Query(task.reports[play.report].id, play.trial.candidate.text))
    return Choice(tuple(queries))


def search_one(task: Task) -> Choice:
    """From the same trials the best query of each report by its score alone, played by score."""
    scored = [
        [(expected_share(trial, frozenset())[0], trial.candidate.text) for trial in own if trial.first]
        for own in scored_trials(task)
    ]
    return _best_of_each(task, scored)


def train_precision(task: Task) -> Choice:
    """The most toxic phrase of each report by its precision among train items, smoothed; matches do not count."""
    return _best_of_each(task, [[(share, phrase) for share, phrase, _found in own] for own in _train_shares(task)])


def expected_hits(task: Task) -> Choice:
    """Smoothed train precision times the matches (at most 100): the phrase that should bring most hits."""
    scored = [[(share * len(found.ids), phrase) for share, phrase, found in own] for own in _train_shares(task)]
    return _best_of_each(task, scored)


def longest(task: Task) -> Choice:
    """The longest phrase with at least 3 matches, ties to fewer matches; no order of its own."""
    queries = []
    for report in task.reports:
        found = {phrase: found for phrase, found in _matching(task, report).items() if found.matches >= 3}
        if found:
            best = min(found, key=lambda phrase: (-phrase.count(" "), found[phrase].matches))
            queries.append(Query(report.id, best))
    return Choice(tuple(queries), is_ordered=False)


def random(task: Task) -> Choice:
    """A phrase with a match, drawn evenly; no order of its own."""
    draw = random_numbers.Random(task.seed)  # noqa: S311 - a baseline, not a secret
    matching = [(report.id, sorted(_matching(task, report))) for report in task.reports]
    return Choice(tuple(Query(id, draw.choice(found)) for id, found in matching if found), is_ordered=False)


def human(task: Task, answers: Answers) -> Choice:
    """The first phrase that annotators marked, in file order. Nothing where nobody marked any."""
    marked = [(report.id, answers.human_phrases[report.id]) for report in task.reports]
    return Choice(tuple(Query(id, phrases[0]) for id, phrases in marked if phrases))


def oracle(task: Task, answers: Answers) -> Choice:
    """Phrases chosen by the labels themselves, as `search` chooses by risk. Largely luck, hence no goal to reach."""
    trials = [
        [_known_trial(phrase, found, answers.verdicts) for phrase, found in _matching(task, report).items()]
        for report in task.reports
    ]
    plays = play_order(trials, floor=0.0)
    return Choice(tuple(Query(task.reports[play.report].id, play.trial.candidate.text) for play in plays if play.score))


METHODS: Mapping[str, Method] = {
    "search": search,
    "search-one": search_one,
    "train-precision": train_precision,
    "expected-hits": expected_hits,
    "longest": longest,
    "random": random,
}
REFERENCES: Mapping[str, Reference] = {"human": human, "oracle": oracle}


def choose(name: str, task: Task, answers: Answers) -> Choice:
    """Run a method or a reference by name. Only a reference is given the answers. Raises KeyError for another name."""
    return REFERENCES[name](task, answers) if name in REFERENCES else METHODS[name](task)


@lru_cache(maxsize=1)
def scored_trials(task: Task) -> list[list[Trial]]:
    """40 phrases of each report tried on the index, their results scored by the logged risk model."""
    risk = logged_risk(task.training, seed=task.seed)
    tried = [
        try_on_index(candidates(report.text, analysis=task.analysis, risk=risk), task.searcher)
        for report in task.reports
    ]
    ids = sorted({id for own in tried for trial in own for id in trial.first})
    risks = dict(zip(ids, risk.score(map(task.searcher.text_of, ids)).tolist(), strict=True))
    return [rescore(own, risks) for own in tried]


@lru_cache(maxsize=1)
def _train_shares(task: Task) -> list[list[tuple[float, str, Found]]]:
    """For each report its phrases that match anything: smoothed train precision, phrase, what it finds."""
    lengths = query_lengths(task.analysis)
    phrases = {phrase for report in task.reports for phrase in phrases_of(report.text, task.analysis, lengths)}
    table = frequencies(phrases, task.training.items, task.analysis)
    base = len(task.training.toxic) / len(task.training.items)
    return [
        [(_smoothed(table[phrase], base), phrase, found) for phrase, found in _matching(task, report).items()]
        for report in task.reports
    ]


def _matching(task: Task, report: TaskReport) -> dict[str, Found]:
    return task.searcher.matching(report.text, query_lengths(task.analysis))


def _smoothed(frequency: Frequency, base: float) -> float:
    """Toxic share of the train items that hold a phrase, drawn towards the base rate as if by 5 more items."""
    return (frequency.toxic + SMOOTHING * base) / (frequency.items + SMOOTHING)


def _best_of_each(task: Task, scored: Sequence[Sequence[tuple[float, str]]]) -> Choice:
    """The best-scored phrase of each report, best first; equal scores keep the order of reports and phrases."""
    best = [
        (*max(own, key=lambda pair: pair[0]), report.id)
        for report, own in zip(task.reports, scored, strict=True)
        if own
    ]
    best.sort(key=lambda row: -row[0])
    return Choice(tuple(Query(report, phrase) for _score, phrase, report in best))


def _known_trial(phrase: str, found: Found, verdicts: Mapping[int, bool]) -> Trial:
    candidate = Candidate(phrase, 0, 0, phrase, MatchMode.PHRASE, 0.0)
    risks = tuple(float(verdicts[id]) for id in found.ids)
    return Trial(candidate, Counts(found.matches, 0, 0, 0), found.ids, risks)

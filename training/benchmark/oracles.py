"""Marks to compare with: what annotators marked, and three ceilings that choose by the labels themselves.

The ceilings are largely luck, hence no goals: they pick phrases after seeing the answers.
"""

from collections.abc import Mapping

from extraction.search.base import Counts
from extraction.suggest import Candidate, Trial, expected_share, play_order
from extraction.text import MatchMode
from training.benchmark.choice import Choice, MethodUnavailable, Query, best_of_each
from training.benchmark.floors import matching
from training.benchmark.searcher import Found
from training.benchmark.suites import Answers, Task

SURE = 3


def human(task: Task, answers: Answers) -> Choice:
    """The first phrase that annotators marked, in file order. Raises MethodUnavailable where nobody marked any."""
    marked = [(report.id, answers.human_phrases[report.id]) for report in task.reports]
    if not any(phrases for _id, phrases in marked):
        raise MethodUnavailable("nobody marked phrases in these reports.")
    return Choice(tuple(Query(id, phrases[0]) for id, phrases in marked if phrases))


def oracle(task: Task, answers: Answers) -> Choice:
    """Phrases chosen by the labels, up to 3 a report, as `search` chooses by risk: greedy with novelty."""
    return _greedy(task, _known_trials(task, answers))


def oracle_one(task: Task, answers: Answers) -> Choice:
    """The best phrase of each report by the labels, as `search-one` chooses by risk."""
    scored = [
        [(score, trial.candidate.text) for trial in own if (score := expected_share(trial, frozenset())[0])]
        for own in _known_trials(task, answers)
    ]
    return best_of_each(task, scored)


def oracle_three(task: Task, answers: Answers) -> Choice:
    """As `oracle`, but only phrases that hit at least 3 toxic items, which is less a matter of luck."""
    trials = [[trial for trial in own if sum(trial.risks) >= SURE] for own in _known_trials(task, answers)]
    return _greedy(task, trials)


def _greedy(task: Task, trials: list[list[Trial]]) -> Choice:
    moves = play_order(trials, floor=0.0)
    return Choice(tuple(Query(task.reports[move.report].id, move.trial.candidate.text) for move in moves if move.score))


def _known_trials(task: Task, answers: Answers) -> list[list[Trial]]:
    return [
        [_known_trial(phrase, found, answers.verdicts) for phrase, found in matching(task, report).items()]
        for report in task.reports
    ]


def _known_trial(phrase: str, found: Found, verdicts: Mapping[int, bool]) -> Trial:
    candidate = Candidate(phrase, 0, 0, phrase, MatchMode.PHRASE, 0.0)
    risks = tuple(float(verdicts[id]) for id in found.ids)
    return Trial(candidate, Counts(found.matches, 0, 0, 0), found.ids, risks)

"""Floors: what is found without knowing anything of toxicity, or without looking at the reports."""

import random as random_numbers
from collections.abc import Mapping

from training.benchmark.choice import Choice, Query
from training.benchmark.lexicon import build_lexicon
from training.benchmark.phrases import query_lengths
from training.benchmark.searcher import Found
from training.benchmark.suites import Task, TaskReport


def matching(task: Task, report: TaskReport) -> Mapping[str, Found]:
    """All phrases of a report that match anything, with what they find."""
    return task.searcher.matching(report.text, query_lengths(task.analysis))


def longest(task: Task) -> Choice:
    """The longest phrase with at least 3 matches, ties to fewer matches; no order of its own."""
    queries = []
    for report in task.reports:
        found = {phrase: found for phrase, found in matching(task, report).items() if found.matches >= 3}
        if found:
            best = min(found, key=lambda phrase: (-phrase.count(" "), found[phrase].matches))
            queries.append(Query(report.id, best))
    return Choice(tuple(queries), is_ordered=False)


def broadest(task: Task) -> Choice:
    """The phrase with the most matches; no order of its own. It raises hit@100 and the query hit rate, little else."""
    queries = []
    for report in task.reports:
        found = matching(task, report)
        if found:
            queries.append(Query(report.id, max(found, key=lambda phrase: found[phrase].matches)))
    return Choice(tuple(queries), is_ordered=False)


def random(task: Task) -> Choice:
    """A phrase with a match, drawn evenly; no order of its own."""
    draw = random_numbers.Random(task.seed)  # noqa: S311 - a baseline, not a secret
    phrases = [(report.id, sorted(matching(task, report))) for report in task.reports]
    return Choice(tuple(Query(id, draw.choice(found)) for id, found in phrases if found), is_ordered=False)


def lexicon(task: Task) -> Choice:
    """Phrases of the train split, as many as there are reports, that look at no report: the one row that may do so.

    The reports that they are counted for are arbitrary. What this finds needs no report and no suggestion.
    """
    phrases = build_lexicon(task.training.items, task.analysis, most=len(task.reports))
    return Choice(tuple(Query(report.id, phrase) for report, phrase in zip(task.reports, phrases, strict=False)))

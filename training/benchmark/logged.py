"""The *logged* reading: what a risk model may learn from is what a live system would have logged, nothing more.

The log is simulated on the train split: people search from each train report, and everything on the first page is
judged. A report contributes every phrase that annotators marked, the longest phrase with at least 3 matches, and a rare
phrase of 2-4 tokens. On the two Chinese suites that gives within 1 % the rows that the recipe was measured with.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from training.benchmark.phrases import Frequency, frequencies, phrases_of, query_lengths
from training.benchmark.suites import LabelledReport, Training

LONGEST_NEEDS = 3
RARE_NEEDS = 2
RARE_LENGTHS = range(2, 5)


@lru_cache(maxsize=1)
def logged_queries(training: Training) -> dict[str, list[str]]:
    """For each train report (by id) the queries that people would have run from it."""
    lengths = query_lengths(training.analysis)
    phrases = {report.id: phrases_of(report.text, training.analysis, lengths) for report in training.reports}
    table = frequencies({phrase for own in phrases.values() for phrase in own}, training.items, training.analysis)
    return {report.id: _queries(report, phrases[report.id], table) for report in training.reports}


def judged_items(training: Training) -> list[int]:
    """Ids of the train items that the simulated log holds a verdict on, ascending; the reports are among them."""
    queries = logged_queries(training)
    judged = {report.item for report in training.reports}
    for report in training.reports:
        for query in queries[report.id]:
            judged.update(training.searcher.find(query).ids)
    return sorted(judged)


def _queries(report: LabelledReport, phrases: Sequence[str], table: Mapping[str, Frequency]) -> list[str]:
    """The report's own item holds each of its phrases and is no match of theirs (leave one out)."""
    others = {phrase: table[phrase].items - 1 for phrase in phrases}
    found = [phrase for phrase in phrases if others[phrase] >= LONGEST_NEEDS]
    rare = [phrase for phrase in phrases if _length(phrase) in RARE_LENGTHS and others[phrase] >= RARE_NEEDS]
    queries = list(report.human_phrases)
    if found:
        queries.append(min(found, key=lambda phrase: (-_length(phrase), others[phrase])))
    if rare:
        queries.append(min(rare, key=others.__getitem__))
    return queries


def _length(phrase: str) -> int:
    return phrase.count(" ") + 1

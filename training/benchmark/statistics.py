"""Statistics of the phrase alone: TF-IDF, YAKE, keyness, and the toxic share among train items.

TF-IDF and YAKE know no label. Both choose among words: of a Chinese text those that jieba's segmentation gives (as in
QExplorer section 4.2.1), of an English one its tokens. A word of a single Chinese character is no query of a suite.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import xlogy

from extraction.suggest import MASK
from extraction.text import Analysis, MatchMode
from training.benchmark.choice import Choice, MethodUnavailable, Query, best_of_each
from training.benchmark.floors import matching
from training.benchmark.lexicon import smoothed
from training.benchmark.phrases import Frequency, frequencies, phrases_of, query_lengths
from training.benchmark.searcher import Found
from training.benchmark.suites import Task, TaskReport, Training

YAKE_WORDS = 3
YAKE_PHRASES = 20


def tf_idf(task: Task) -> Choice:
    """The N words with the highest TF-IDF over all reports together, N the number of reports (section 4.2.1).

    Each word is issued once, for the report where it scores highest. Some reports get none, others several.
    """
    best: dict[str, tuple[float, str]] = {}
    for report, words in zip(task.reports, _tf_idf(task.reports, task.training), strict=True):
        for score, word in words:
            if score > best.get(word, (0.0, ""))[0]:
                best[word] = (score, report.id)
    order = sorted(best, key=lambda word: -best[word][0])[: len(task.reports)]
    return Choice(tuple(Query(best[word][1], word) for word in order))


def tf_idf_one(task: Task) -> Choice:
    """The word with the highest TF-IDF of each report."""
    return best_of_each(task, _tf_idf(task.reports, task.training))


def yake(task: Task) -> Choice:
    """The first phrase of each report by YAKE, of up to 3 words as its authors set it; its lower scores are better."""
    return best_of_each(task, [list(_yake(task, report, YAKE_WORDS)) for report in task.reports])


def yake_word(task: Task) -> Choice:
    """The first single word of each report by YAKE: of three words nearly every phrase of Chinese matches nothing."""
    return best_of_each(task, [list(_yake(task, report, 1)) for report in task.reports])


def keyness(task: Task) -> Choice:
    """The phrase of each report that toxic train items hold most surprisingly often: log-likelihood, overused only."""
    table = _train_table(task.reports, task.training)
    items, toxic = len(task.training.items), len(task.training.toxic)
    scored = [
        [(value, phrase) for phrase in own if (value := log_likelihood(table[phrase], items, toxic)) > 0]
        for own in _phrases(task.reports, task.analysis)
    ]
    return best_of_each(task, scored)


def train_precision(task: Task) -> Choice:
    """The most toxic phrase of each report by its precision among train items, smoothed; matches do not count."""
    return best_of_each(task, [[(share, phrase) for share, phrase, _found in own] for own in _train_shares(task)])


def expected_hits(task: Task) -> Choice:
    """Smoothed train precision times the matches (at most 100): the phrase that should bring most hits."""
    scored = [[(share * len(found.ids), phrase) for share, phrase, found in own] for own in _train_shares(task)]
    return best_of_each(task, scored)


def log_likelihood(frequency: Frequency, items: int, toxic: int) -> float:
    """G2 of a phrase in toxic against normal items (Rayson and Garside 2000), negative where toxic ones hold it less.

    Of `items` items `toxic` are toxic; a phrase held by equal shares of both gives 0.

    >>> round(log_likelihood(Frequency(items=10, toxic=10), items=100, toxic=20), 2)
    32.19
    """
    held = np.array([frequency.toxic, frequency.items - frequency.toxic])
    sizes = np.array([toxic, items - toxic])
    expected = np.maximum(frequency.items * sizes / items, 1e-12)
    value = 2 * float(xlogy(held, held / expected).sum())
    return value if held[0] > expected[0] else -value


def words_of(text: str, analysis: Analysis) -> list[str]:
    """The words (keys) of a text that can stand as a query, in order, each as often as it occurs.

    Raises MethodUnavailable where a Chinese text needs the segmentation and its package is not there.
    """
    if analysis.base == "bench-en-1":
        return [token for token in analysis.tokens(text, MatchMode.PHRASE) if token != MASK]
    keys = [analysis.key(word, MatchMode.PHRASE) for word in _segmented(text)]
    return [key for key in keys if _is_query(key, analysis)]


def _segmented(text: str) -> list[str]:
    try:
        import rjieba
    except ImportError as error:
        raise MethodUnavailable("words of Chinese need the package rjieba: run `install_learning`.") from error
    return list(rjieba.cut(text))


def _is_query(key: str, analysis: Analysis) -> bool:
    tokens = key.split()
    return len(tokens) in query_lengths(analysis) and MASK not in tokens


@lru_cache(maxsize=1)
def _tf_idf(reports: tuple[TaskReport, ...], training: Training) -> list[list[tuple[float, str]]]:
    """For each report its words with their TF-IDF; the document frequencies are those of the train items."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    rules = training.analysis
    vectorizer = TfidfVectorizer(analyzer=lambda text: words_of(text, rules))
    vectorizer.fit(item.text for item in training.items)
    names = vectorizer.get_feature_names_out()
    rows = vectorizer.transform(report.text for report in reports)
    return [
        [
            (float(score), str(names[column]))
            for column, score in zip(row.indices, row.data, strict=True)
            if rules.matches(report.text, names[column], MatchMode.PHRASE)
        ]
        for report, row in zip(reports, rows, strict=True)
    ]


def _yake(task: Task, report: TaskReport, most: int) -> Iterator[tuple[float, str]]:
    """YAKE's phrases of at most so many words that stand in the report, each with its score turned round.

    YAKE calls every word of fewer than three letters a stop word, as nearly all Chinese words are: so a word of two
    characters is given to it twice over ("加微加微") unless it stands in YAKE's own list, and is read back as one.
    """
    extractor = _yake_extractor(task.analysis.base, most)
    text = report.text
    doubled: dict[str, str] = {}
    if task.analysis.base != "bench-en-1":
        words = _segmented(text)
        doubled = {word * 2: word for word in words if len(word) == 2 and word not in extractor.stopword_set}
        text = " ".join(word * 2 if word * 2 in doubled else word for word in words)
    for phrase, score in extractor.extract_keywords(text):
        key = task.analysis.key("".join(doubled.get(word, word) + " " for word in phrase.split()), MatchMode.PHRASE)
        if _is_query(key, task.analysis) and task.analysis.matches(report.text, key, MatchMode.PHRASE):
            yield -float(score), key


@lru_cache(maxsize=2)
def _yake_extractor(rules: str, most: int) -> Any:
    try:
        from yake import KeywordExtractor
    except ImportError as error:
        raise MethodUnavailable("YAKE needs the package yake: run `install_learning`.") from error
    return KeywordExtractor(lan="en" if rules == "bench-en-1" else "zh", n=most, top=YAKE_PHRASES)


@lru_cache(maxsize=1)
def _train_shares(task: Task) -> list[list[tuple[float, str, Found]]]:
    """For each report its phrases that match anything: smoothed train precision, phrase, what it finds."""
    table = _train_table(task.reports, task.training)
    base = len(task.training.toxic) / len(task.training.items)
    return [
        [(smoothed(table[phrase], base), phrase, found) for phrase, found in matching(task, report).items()]
        for report in task.reports
    ]


@lru_cache(maxsize=1)
def _train_table(reports: tuple[TaskReport, ...], training: Training) -> dict[str, Frequency]:
    phrases = {phrase for own in _phrases(reports, training.analysis) for phrase in own}
    return frequencies(phrases, training.items, training.analysis)


def _phrases(reports: Sequence[TaskReport], analysis: Analysis) -> list[list[str]]:
    return [phrases_of(report.text, analysis, query_lengths(analysis)) for report in reports]

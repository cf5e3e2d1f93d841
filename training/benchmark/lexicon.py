"""A standing lexicon: the phrases of labelled items that together find most of the toxic ones."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

from extraction.text import Analysis, MatchMode
from training.benchmark.phrases import Frequency, frequencies, phrases_of
from training.benchmark.suites import LabelledItem

PRECISION = 0.3
SMOOTHING = 5
CHARACTERS = range(2, 7)
WORDS = range(1, 5)


def build_lexicon(items: Sequence[LabelledItem], analysis: Analysis, *, most: int | None = None) -> list[str]:
    """Greedy cover of the toxic items by phrases (keys) of 2-6 characters or 1-4 words, at most `most`, best first.

    A phrase qualifies with a smoothed toxic share of at least 0.3 and two toxic items; each next one is that which
    finds most toxic items that no earlier one found.
    """
    lengths = WORDS if analysis.base == "bench-en-1" else CHARACTERS
    holders = defaultdict(set)
    for item in items:
        if item.toxic:
            for phrase in phrases_of(item.text, analysis, lengths):
                holders[phrase].add(item.id)
    repeated = {phrase: ids for phrase, ids in holders.items() if len(ids) > 1}
    table = frequencies(_with_beginnings(repeated), items, analysis)
    base = sum(item.toxic for item in items) / len(items)
    return _cover({phrase: ids for phrase, ids in repeated.items() if smoothed(table[phrase], base) >= PRECISION}, most)


def smoothed(frequency: Frequency, base: float) -> float:
    """Toxic share of the items that hold a phrase, drawn towards the base rate as if by 5 more items."""
    return (frequency.toxic + SMOOTHING * base) / (frequency.items + SMOOTHING)


def holds_any(text: str, phrases: frozenset[str], analysis: Analysis) -> bool:
    """True if a text holds one of the phrases (keys)."""
    tokens = analysis.tokens(text, MatchMode.PHRASE)
    lengths = {phrase.count(" ") + 1 for phrase in phrases}
    return any(" ".join(tokens[first : first + n]) in phrases for n in lengths for first in range(len(tokens) - n + 1))


def _with_beginnings(phrases: Mapping[str, object]) -> set[str]:
    """The phrases and their beginnings, without which `frequencies` would not see them."""
    return {
        " ".join(tokens[:n]) for phrase in phrases for tokens in [phrase.split()] for n in range(1, len(tokens) + 1)
    }


def _cover(holders: Mapping[str, set[int]], most: int | None) -> list[str]:
    """Lazy greedy: gains only fall, so an entry that still leads after a second look is the best."""
    heap = [(-len(ids), phrase) for phrase, ids in holders.items()]
    heapify(heap)
    found: set[int] = set()
    chosen: list[str] = []
    while heap and (most is None or len(chosen) < most):
        negative, phrase = heappop(heap)
        gain = len(holders[phrase] - found)
        if gain == -negative:
            chosen.append(phrase)
            found |= holders[phrase]
        elif gain:
            heappush(heap, (-gain, phrase))
    return chosen

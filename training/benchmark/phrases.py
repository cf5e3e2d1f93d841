"""The phrases of a text as the suites count them, and how often train items hold them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from extraction.suggest import MASK
from extraction.text import Analysis, MatchMode
from training.benchmark.suites import LabelledItem

CHARACTERS_OF_A_QUERY = range(2, 11)
WORDS_OF_A_QUERY = range(1, 6)


@dataclass
class Frequency:
    """Train items that hold a phrase, and the toxic ones among them."""

    items: int = 0
    toxic: int = 0


def query_lengths(analysis: Analysis) -> range:
    """Tokens of a query under a suite's rule: 1-5 words, or 2-10 characters."""
    return WORDS_OF_A_QUERY if analysis.base == "bench-en-1" else CHARACTERS_OF_A_QUERY


def phrases_of(text: str, analysis: Analysis, lengths: range) -> list[str]:
    """The distinct phrases (keys) of a text with these numbers of tokens, short ones first, none with a mask."""
    tokens = analysis.tokens(text, MatchMode.PHRASE)
    return list(dict.fromkeys(gram for n in lengths for gram in _grams(tokens, n)))


def frequencies(phrases: Iterable[str], items: Sequence[LabelledItem], analysis: Analysis) -> dict[str, Frequency]:
    """How many items hold each phrase. With each phrase its beginnings must be asked for too, as `phrases_of` does."""
    table = {phrase: Frequency() for phrase in phrases}
    lengths = query_lengths(analysis)
    for item in items:
        for phrase in _known_grams(analysis.tokens(item.text, MatchMode.PHRASE), table, lengths):
            table[phrase].items += 1
            table[phrase].toxic += item.toxic
    return table


def _known_grams(tokens: Sequence[str], table: dict[str, Frequency], lengths: range) -> set[str]:
    found = set()
    for first in range(len(tokens)):
        for n in lengths:
            gram = " ".join(tokens[first : first + n])
            if first + n > len(tokens) or gram not in table:
                break
            found.add(gram)
    return found


def _grams(tokens: Sequence[str], n: int) -> Iterator[str]:
    for first in range(len(tokens) - n + 1):
        gram = tokens[first : first + n]
        if MASK not in gram:
            yield " ".join(gram)

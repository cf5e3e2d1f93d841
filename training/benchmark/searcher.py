"""The search of one index of a suite, as a method and the evaluator use it: the product's own engine, newest first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from extraction.search.base import MAX_SIZE, Order, SearchEngine, SearchPage, SearchRequest
from extraction.suggest import MASK
from extraction.text import Analysis, MatchMode
from training.metrics import DEPTH


@dataclass(frozen=True)
class Found:
    """What a query matches: how many items, and the ids of the newest 100."""

    matches: int
    ids: tuple[int, ...]


class Searcher:
    """Searches an engine and remembers the answers by query key; gives the text of what was found."""

    def __init__(self, engine: SearchEngine, analysis: Analysis, texts: Mapping[int, str]) -> None:
        self._engine = engine
        self._analysis = analysis
        self._texts = texts
        self._found: dict[str, Found] = {}
        self._all: dict[str, tuple[int, ...]] = {}

    def find(self, query: str) -> Found:
        """The newest 100 matches of a phrase. A query of which nothing remains finds nothing."""
        key = self._analysis.key(query, MatchMode.PHRASE)
        if not key:
            return Found(0, ())
        if key not in self._found:
            request = SearchRequest(text=query, mode=MatchMode.PHRASE, size=DEPTH, order=Order.RECENT)
            page = self._engine.search(request)
            self._found[key] = Found(page.counts.live, tuple(hit.id for hit in page.hits))
        return self._found[key]

    def all_of(self, query: str) -> tuple[int, ...]:
        """All matches of a phrase, newest first, as far as an engine gives them (10,000)."""
        key = self._analysis.key(query, MatchMode.PHRASE)
        if key not in self._all:
            request = SearchRequest(text=query, mode=MatchMode.PHRASE, size=MAX_SIZE, order=Order.RECENT)
            self._all[key] = tuple(hit.id for hit in self._engine.search(request).hits)
        return self._all[key]

    def matching(self, text: str, lengths: range) -> dict[str, Found]:
        """All phrases (keys) of a text that match anything, with what they match.

        A phrase is asked for only when the two phrases one token shorter inside it match, which loses nothing.
        """
        tokens = self._analysis.tokens(text, MatchMode.PHRASE)
        found: dict[str, Found] = {}
        for n in lengths:
            for first in range(len(tokens) - n + 1):
                gram = tokens[first : first + n]
                shorter = (" ".join(gram[:-1]), " ".join(gram[1:]))
                if MASK in gram or (n > lengths.start and not all(part in found for part in shorter)):
                    continue
                answer = self.find(" ".join(gram))
                if answer.matches:
                    found[" ".join(gram)] = answer
        return found

    def msearch(self, requests: Sequence[SearchRequest]) -> list[SearchPage]:
        """Several searches in one batch, as the suggester sends them."""
        return self._engine.msearch(requests)

    def text_of(self, id: int) -> str:
        return self._texts[id]

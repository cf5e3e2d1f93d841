"""D_pol: what the adapter itself proposes, scored by what the search system finds for it (SPEC section 5).

The paper's future work, after BEQUE section 3.3 (offline feedback of the search system). Queries are scored one by
one, not as the lists they were drawn in: a sharply trained adapter draws the same list again and again.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from extraction.search.base import Order, SearchPage, SearchRequest
from extraction.suggest import FIRST, PRIOR
from extraction.text import MatchMode, get_analysis
from training.datasets.builders import Candidate, LengthRule, Scored
from training.datasets.options import Options
from training.datasets.pairs import Evidence

BATCH = 32


class Drawn(Protocol):
    """A query that an adapter drew; `text` stands verbatim in the reported text."""

    @property
    def text(self) -> str: ...


class Sampler(Protocol):
    """What D_pol needs of a language model (`extraction.generation.LocalModel`)."""

    def sample(
        self, texts: Sequence[str], adapter: str | None, *, count: int, temperature: float, seed: int
    ) -> Sequence[Sequence[Sequence[Drawn]]]:
        """For each text `count` drawn answers, each a list of queries."""


Search = Callable[[Sequence[SearchRequest]], Sequence[SearchPage]]
"""`msearch` of a search engine."""

Risks = Callable[[Collection[int]], Mapping[int, float]]
"""Item ids → risk; on a labelled corpus 1 for a toxic item and 0 for another."""


@dataclass(frozen=True)
class ReportedText:
    """A text to draw for. `item`: the reported item, which each phrase of its text matches: it never counts."""

    id: str
    text: str
    policy: str
    item: int


@dataclass(frozen=True)
class Proposals:
    """The different queries that an adapter drew for a text, in the order in which they were first drawn."""

    reported: ReportedText
    queries: tuple[str, ...]


def draw(
    reported: Iterable[ReportedText], sampler: Sampler, adapter: str | None, options: Options
) -> Iterator[Proposals]:
    """Let the adapter draw queries for each text; those that D would not hold (length, separators) are left out."""
    rules, fits = get_analysis(options.analysis), LengthRule(options)
    rest = iter(reported)
    for number, batch in enumerate(iter(lambda: list(islice(rest, BATCH)), [])):
        answers = sampler.sample(
            [one.text for one in batch],
            adapter,
            count=options.samples,
            temperature=options.temperature,
            seed=options.seed + number,
        )
        for one, own in zip(batch, answers, strict=True):
            queries: dict[str, str] = {}
            for drawn in (query.text for answer in own for query in answer):
                key = rules.key(drawn, MatchMode.PHRASE)
                if key and fits.refusal(one.text, drawn, shown=0) is None:
                    queries.setdefault(key, drawn)
            yield Proposals(one, tuple(queries.values()))


def score_by_risk(proposals: Iterable[Proposals], search: Search, risks: Risks) -> Iterator[Scored]:
    """s(q) = sum of r(d) over the newest 100 matches / (n + 1), n = how many those are.

    Unlike a suggestion's, matches count whether or not somebody saw them, and those removed since count too: a phrase
    is not blamed for coming second. A query without a match scores 0. Raises SearchError.
    """
    for one in proposals:
        requests = [_request(query) for query in one.queries]
        found = [_others(page, one.reported.item) for page in (search(requests) if requests else ())]
        risk_of = risks({item for items in found for item in items})
        candidates = (
            Candidate(query, math.fsum(risk_of[item] for item in items) / (len(items) + PRIOR), len(items))
            for query, items in zip(one.queries, found, strict=True)
        )
        yield Scored(one.reported.id, one.reported.text, one.reported.policy, tuple(candidates))


def score_by_precision(
    proposals: Iterable[Proposals], evidence_of: Callable[[str], Evidence], options: Options
) -> Iterator[Scored]:
    """p(k|S) of the log; a query with fewer judged matches than `min_judged_preferred` has no score."""
    for one in proposals:
        known = [(query, evidence_of(query)) for query in one.queries]
        candidates = (
            Candidate(query, evidence.precision, evidence.judged)
            for query, evidence in known
            if evidence.judged >= options.min_judged_preferred
        )
        yield Scored(one.reported.id, one.reported.text, one.reported.policy, tuple(candidates))


def _request(query: str) -> SearchRequest:
    return SearchRequest(text=query, mode=MatchMode.PHRASE, size=FIRST + 1, order=Order.RECENT, live=None)


def _others(page: SearchPage, item: int) -> list[int]:
    return [hit.id for hit in page.hits if hit.id != item][:FIRST]

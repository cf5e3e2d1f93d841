"""The suggester `search`: phrases of the reported text, tried on the index, ordered by what they would retrieve.

A phrase is not judged by how it looks but by what it finds. Each candidate is run as a search, the risk model says how
toxic its results probably are, and the phrases are ordered by expected new toxic items per item that somebody has to
review. On labelled corpora that finds more toxic items for the same review effort than statistics of the phrase alone
(docs/experiments.md); 40 searches a report, sent as one batch, lose little against trying every phrase.

The steps, one function each:

1. `candidates`: short n-grams of the text, verbatim, the 40 most promising by the risk weights inside them.
   `proposed_candidates`: the phrases of the text that an LLM adapter proposed, where one is at work. `merge` makes one
   list; nothing after it depends on who proposed. The adapter's log-probability stays beside its phrase and orders
   nothing: as a factor of s(q) it only lost (docs/experiments.md).
2. `try_on_index`: one batch of searches; a trial keeps figures and ids, no text, and logs no exposure.
3. `propose`: s(q) = sum of r(d) over the unseen of the first 100 / (n + 1), n = how many those are; the best goes
   first, its results count as seen, the others are scored again (lazy greedy). The 1 keeps a phrase with a single lucky
   result from looking perfect. Nothing below a floor is proposed.

`play_order` does step 3 across a queue of reports, `rescore` puts the risks of a refitted model into old trials.

The idea of scoring a phrase by its retrieval follows BEQUE section 3.3 (offline feedback of the search system) and the
p(k|S) of QExplorer section 3.2; the increment over what is already found is BEQUE's second feedback score. Deviation:
both papers train a language model on such scores, here they order phrases directly. Scores are for ordering only: the
largest of many estimates is optimistic, so no page shows one.

The report's own item is in the index and matches each of its phrases: callers put its id into `seen`.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extraction.risk import LONGEST_GRAM, RiskModel
from extraction.search.base import Counts, Order, SearchPage, SearchRequest
from extraction.text import Analysis, MatchMode, Token

CANDIDATE_LIMIT = 40
CHARACTER_LENGTHS = range(2, 5)  # up to 10 was no better in any measurement, and 40 searches cover less of it
WORD_LENGTHS = range(1, 6)
FIRST = 100
MASK = "*"
LONGEST = 200
"""Code points; no longer phrase is a query."""
PRIOR = 1.0
PROPOSAL_LIMIT = 8
QUERIES_PER_REPORT = 3

# Measured on the dev reports of three suites, with everything in the index: of what is new in proposals that score
# 0.10-0.15, 6-11 % are toxic, in those of 0.05-0.10 only 3-6 %. So the floor is near the 5 % that QExplorer section 3.2
# asks of a phrase worth preferring. docs/experiments.md has the table.
FLOOR = 0.1
NEAR_EQUAL = 0.8


class BatchSearch(Protocol):
    """What a suggester needs of a `SearchEngine`."""

    def msearch(self, requests: Sequence[SearchRequest]) -> list[SearchPage]:
        """Several searches in one batch, pages in the order of the requests."""


@dataclass(frozen=True)
class Candidate:
    """A phrase that might become a query: `text` is `source[start:end]` of the reported text, in code points."""

    text: str
    start: int
    end: int
    key: str
    mode: MatchMode
    weight: float
    """v(q): sum of the risk weights of the 1-4-grams inside / sqrt(tokens); 0 without a risk model."""
    by_search: bool = True
    """Whether it is one of the n-grams that `search` tries."""
    confidence: float | None = None
    """Mean log-probability of its tokens under the adapter that proposed it, nats; None where no adapter did."""


@dataclass(frozen=True)
class Trial:
    """What a candidate would retrieve now: figures and ids, newest first; `risks` runs beside `first`."""

    candidate: Candidate
    counts: Counts
    first: tuple[int, ...]
    risks: tuple[float, ...]


@dataclass(frozen=True)
class Proposal:
    """A trial worth an auditor's look, with its forecast. `rank` counts from 1."""

    candidate: Candidate
    counts: Counts
    rank: int
    score: float
    """s(q) when it was picked: expected toxic among the results that nobody has seen, per one reviewed."""
    novelty: float
    """Share of the first 100 that neither was seen nor comes with an accepted or an earlier proposed query."""
    unseen: int
    """How many of the first 100 nobody was shown yet."""
    overlap: int
    """How many of the first 100 accepted queries of the report show already."""
    first: tuple[int, ...]


@dataclass(frozen=True)
class Play:
    """One query in the order of a whole queue: which report it comes from (position given), and its s(q) then."""

    report: int
    trial: Trial
    score: float


def candidates(
    text: str, *, analysis: Analysis, risk: RiskModel | None, limit: int = CANDIDATE_LIMIT
) -> list[Candidate]:
    """The most promising phrases of a raw text, best first, at most `limit`, distinct after normalisation.

    Phrases have 2-4 tokens, in spaced languages 1-5 words, and none contains a masked value (`*`). They are ordered by
    v(q); phrases with a 1-4-gram that no training row of the risk model had go last, since they will rarely match
    anything. Without a risk model short phrases come first, in the order of the text.
    """
    spans = analysis.spans(text, MatchMode.PHRASE)
    lengths = WORD_LENGTHS if analysis.is_spaced(text) else CHARACTER_LENGTHS
    windows = _windows(text, spans, lengths)
    valued = zip(windows, _values(spans, windows, risk), strict=True)
    found: dict[str, Candidate] = {}
    for window, value in sorted(valued, key=lambda pair: (pair[1].is_foreign, -pair[1].weight)):
        if len(found) == limit:
            break
        key = _key(spans, window)
        if key not in found:
            start, end = spans[window.first].start, spans[window.last].end
            found[key] = Candidate(text[start:end], start, end, key, MatchMode.PHRASE, value.weight)
    return list(found.values())


def proposed_candidates(text: str, spans: Iterable[tuple[int, int, float]], *, analysis: Analysis) -> list[Candidate]:
    """The phrases that an adapter proposed, as candidates, in its order, distinct after normalisation.

    `spans` are (start, end, mean log-probability), in code points of the raw text. Each shrinks to the tokens that lie
    whole inside it, because the engine matches whole tokens; one without any, with a masked value or longer than
    `LONGEST` is left out.
    """
    tokens = analysis.spans(text, MatchMode.PHRASE)
    found: dict[str, Candidate] = {}
    for start, end, confidence in spans:
        inside = [index for index, token in enumerate(tokens) if start <= token.start and token.end <= end]
        if not inside:
            continue
        window = _Window(inside[0], len(inside))
        raw = _raw(text, tokens, window)
        if MASK in raw or len(raw) > LONGEST or not _is_whole(tokens, window):
            continue
        key = _key(tokens, window)
        place = tokens[window.first].start
        candidate = Candidate(raw, place, place + len(raw), key, MatchMode.PHRASE, weight=0.0)
        found.setdefault(key, replace(candidate, by_search=False, confidence=confidence))
    return list(found.values())


def merge(ngrams: Sequence[Candidate], proposed: Sequence[Candidate]) -> list[Candidate]:
    """One list for the index. A phrase that both propose (equal after normalisation) stands once, where `search` found
    it, with the adapter's confidence.
    """
    merged = {candidate.key: candidate for candidate in ngrams}
    for candidate in proposed:
        same = merged.get(candidate.key)
        merged[candidate.key] = replace(same, confidence=candidate.confidence) if same else candidate
    return list(merged.values())


def try_on_index(candidates: Sequence[Candidate], engine: BatchSearch) -> list[Trial]:
    """Run the candidates of any suggester as one batch; one trial each, in the order given.

    The first 100 come newest first, unordered by risk: the mean over a risk-ordered page would flatter broad phrases
    (each would be judged by its own best-looking results). An item without a stored risk counts as 0.
    """
    requests = [
        SearchRequest(text=candidate.text, mode=candidate.mode, size=FIRST, order=Order.RECENT)
        for candidate in candidates
    ]
    return [
        Trial(
            candidate=candidate,
            counts=page.counts,
            first=tuple(hit.id for hit in page.hits),
            risks=tuple(hit.risk or 0.0 for hit in page.hits),
        )
        for candidate, page in zip(candidates, engine.msearch(requests), strict=True)
    ]


def rescore(trials: Sequence[Trial], risks: Mapping[int, float]) -> list[Trial]:
    """The trials with new risks by item id, as after a refit; an id that `risks` lacks keeps its old one."""
    return [
        replace(trial, risks=tuple(risks.get(id_, old) for id_, old in zip(trial.first, trial.risks, strict=True)))
        for trial in trials
    ]


def propose(
    trials: Sequence[Trial],
    *,
    seen: AbstractSet[int],
    accepted: AbstractSet[int] = frozenset(),
    limit: int = PROPOSAL_LIMIT,
    floor: float = FLOOR,
) -> list[Proposal]:
    """The trials worth proposing for one report, best first; [] when nothing is worth it.

    `seen` are ids that somebody was shown (with the report's own item), `accepted` ids that the report's accepted
    queries show. Left out is what scores below `floor`, and what would only repeat: a phrase of whose first results
    at least `NEAR_EQUAL` come with accepted queries or earlier proposals.
    """
    proposals: list[Proposal] = []
    repeated = set(accepted)
    ordered = _greedy(trials, seen | accepted, lambda position: _share(trials[position].first, repeated) < NEAR_EQUAL)
    for position, score in ordered:
        if score < floor or len(proposals) == limit:
            break
        trial = trials[position]
        proposals.append(
            Proposal(
                candidate=trial.candidate,
                counts=trial.counts,
                rank=len(proposals) + 1,
                score=score,
                novelty=1.0 - _share(trial.first, seen | repeated),
                unseen=sum(id_ not in seen for id_ in trial.first),
                overlap=sum(id_ in accepted for id_ in trial.first),
                first=trial.first,
            )
        )
        repeated.update(trial.first)
    return proposals


def play_order(
    trials: Sequence[Sequence[Trial]],
    *,
    seen: AbstractSet[int] = frozenset(),
    most: int = QUERIES_PER_REPORT,
    floor: float = FLOOR,
) -> list[Play]:
    """The order in which the queries of a whole queue are best played; `trials[i]` are those of report i.

    Lazy greedy over all reports together: only items that nobody was shown count, at most `most` queries a report, none
    below `floor`. Some reports get no query, which is right: review goes where the toxic items are.
    """
    everything = [trial for own in trials for trial in own]
    owners = [report for report, own in enumerate(trials) for _trial in own]
    used = [0] * len(trials)
    plays: list[Play] = []
    for position, score in _greedy(everything, seen, lambda position: used[owners[position]] < most):
        if score < floor:
            break
        used[owners[position]] += 1
        plays.append(Play(report=owners[position], trial=everything[position], score=score))
    return plays


def expected_share(trial: Trial, shown: AbstractSet[int]) -> tuple[float, int]:
    """s(q) and n: risk of the first 100 that are not in `shown`, summed, over (n + 1), n = how many those are.

    >>> first = Trial(candidate, counts, first=(7, 8, 9), risks=(0.9, 0.6, 0.1))  # doctest: +SKIP
    >>> expected_share(first, {8})  # (0.9 + 0.1) / (2 + 1)  # doctest: +SKIP
    (0.333..., 2)
    """
    unseen = [risk for id_, risk in zip(trial.first, trial.risks, strict=True) if id_ not in shown]
    return math.fsum(unseen) / (len(unseen) + PRIOR), len(unseen)


def _greedy(
    trials: Sequence[Trial], shown: AbstractSet[int], may_play: Callable[[int], bool]
) -> Iterator[tuple[int, float]]:
    """Positions of trials with their s(q), best first; the results of each count as shown before the next is chosen.

    Of equal scores the longer phrase goes first: it is easier to read, and phrases that retrieve the same are common. A
    heap entry whose value fell goes back with the new one. A value can also rise (what was shown was the normal part),
    which a heap does not see; the recipe was measured with this approximation.
    """
    shown = set(shown)
    heap = [
        (-expected_share(trial, shown)[0], -len(trial.candidate.key), position) for position, trial in enumerate(trials)
    ]
    heapq.heapify(heap)
    while heap:
        value, length, position = heapq.heappop(heap)
        if not may_play(position):
            continue
        score, unseen = expected_share(trials[position], shown)
        if not unseen:
            continue
        if score < -value:
            heapq.heappush(heap, (-score, length, position))
            continue
        yield position, score
        shown.update(trials[position].first)


def _share(ids: Sequence[int], among: AbstractSet[int]) -> float:
    """Share of `ids` that are in `among`; 1 for no ids, because nothing new is in them."""
    return sum(id_ in among for id_ in ids) / len(ids) if ids else 1.0


@dataclass(frozen=True)
class _Window:
    """The n-gram of `length` tokens that begins at token `first`."""

    first: int
    length: int

    @property
    def last(self) -> int:
        return self.first + self.length - 1


@dataclass(frozen=True)
class _Value:
    """What the risk weights say of a window: its v(q), and whether a gram in it is foreign to the training rows."""

    weight: float
    is_foreign: bool


def _windows(text: str, spans: Sequence[Token], lengths: range) -> list[_Window]:
    """All n-grams of these lengths that can stand as a query: no mask inside, no ligature cut at an end."""
    windows = (_Window(first, length) for length in lengths for first in range(len(spans) - length + 1))
    return [window for window in windows if _is_whole(spans, window) and MASK not in _raw(text, spans, window)]


def _is_whole(spans: Sequence[Token], window: _Window) -> bool:
    cut_before = window.first > 0 and spans[window.first - 1].end > spans[window.first].start
    cut_after = window.last + 1 < len(spans) and spans[window.last + 1].start < spans[window.last].end
    return not (cut_before or cut_after)


def _raw(text: str, spans: Sequence[Token], window: _Window) -> str:
    return text[spans[window.first].start : spans[window.last].end]


def _key(spans: Sequence[Token], window: _Window) -> str:
    return " ".join(token.text for token in spans[window.first : window.last + 1])


def _values(spans: Sequence[Token], windows: Sequence[_Window], risk: RiskModel | None) -> list[_Value]:
    if risk is None:
        return [_Value(0.0, is_foreign=False)] * len(windows)
    grams = risk.gram_weights([token.text for token in spans])
    sums, unknown = _running_sums(grams), _running_sums(grams == 0)
    return [_value(window, sums, unknown) for window in windows]


def _running_sums(table: NDArray[Any]) -> NDArray[np.float64]:
    """Sums (T + 1, 4) down the columns of a table (T, 4), from 0: the sum over rows a to b-1 is sums[b] - sums[a]."""
    sums = np.zeros((len(table) + 1, LONGEST_GRAM))
    np.cumsum(table, axis=0, out=sums[1:])
    return sums


def _value(window: _Window, sums: NDArray[np.float64], unknown: NDArray[np.float64]) -> _Value:
    longest = min(LONGEST_GRAM, window.length)
    columns = np.arange(longest)
    ends = window.first + window.length - columns
    weight = float((sums[ends, columns] - sums[window.first, columns]).sum())
    unseen_grams = unknown[ends[-1], longest - 1] - unknown[window.first, longest - 1]
    return _Value(weight / math.sqrt(window.length), is_foreign=bool(unseen_grams > 0))

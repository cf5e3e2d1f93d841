"""The datasets of QExplorer section 3 as pure functions: from pairs, or groups of pairs, to rows as TRL reads them.

Nothing here asks a database, so that labelled corpora are built by the same code. What goes in and does not come out is
counted in `drops`, by reason.

Deviations from the paper, each with its reason:

- A joined answer holds each phrase once (the paper joins what it has): a list that repeats a query teaches to repeat.
- Samples are filled until `max_characters`; the paper cuts at 2,048 tokens, which would cut answers in silence.
- For eq. (4) only texts with a phrase of known side are sampled, in turn from both sides, so that a group that has both
  sides keeps them in its sample.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import TypedDict, overload

from extraction.prompts import Prompt, answer, get_prompt, is_sayable, messages
from extraction.text import Analysis, MatchMode, get_analysis
from training import near
from training.datasets.options import Mix, Options
from training.datasets.pairs import DropReason, Drops, Pair, Side, side_of

UNEXPOSED_LENGTH = 10
"""Eq. (1): the longest phrase that is kept although it exposed nothing, where no `max_length` is set."""

Messages = list[dict[str, str]]


class SftRow(TypedDict):
    """`lengths` (here and in the others): characters of each text that `content` was joined from, one mark between."""

    prompt: Messages
    completion: Messages
    id: str
    policy: str
    source: str
    content: str
    lengths: list[int]
    queries: list[str]


class PreferenceRow(TypedDict):
    """`*_scores` are [p(k|S) or s(q), how many items it rests on] of each query."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    id: str
    policy: str
    source: str
    content: str
    lengths: list[int]
    chosen_queries: list[str]
    rejected_queries: list[str]
    chosen_scores: list[tuple[float, int]]
    rejected_scores: list[tuple[float, int]]


class ListRow(TypedDict):
    """Candidates best first; `rewards` are their scores brought to [0, 1] within the list."""

    prompt: Messages
    candidates: list[Messages]
    rewards: list[float]
    id: str
    policy: str
    source: str
    content: str
    lengths: list[int]
    candidate_queries: list[list[str]]
    candidate_scores: list[tuple[float, int]]


Row = SftRow | PreferenceRow | ListRow


@dataclass(frozen=True)
class Candidate:
    """A phrase that an adapter proposed for a text, its score, and the number of items that the score rests on."""

    text: str
    score: float
    count: int


@dataclass(frozen=True)
class Scored:
    """A text with the candidates that could be scored. `lengths`: as in the rows; () for a text that is not joined."""

    id: str
    text: str
    policy: str
    candidates: tuple[Candidate, ...]
    lengths: tuple[int, ...] = ()


# --- D --------------------------------------------------------------------------------------------------------------


def eligible(pairs: Iterable[Pair], options: Options, drops: Drops, *, for_preferences: bool = False) -> Iterator[Pair]:
    """The pairs of D: phrases of a fitting length, from the sources of the mix, each text and phrase once.

    A phrase has two characters or more in every language (a single word is a query in spaced languages; `search`
    suggests such), and at most `max_length` characters, or words in spaced languages. Whether it found toxic items does
    not matter (eq. 1). For preferences the mix asks no hits of a model's query: there its verdicts are the lesson.
    The pairs of one text come one after another.
    """
    fits = LengthRule(options)
    seen: set[int] = set()
    for pair in pairs:
        reason = fits.refusal(pair.text, pair.phrase, pair.evidence.shown) or _mixed_out(
            pair, options.mix, for_preferences
        )
        if reason is None:
            identity = _identity(pair)
            reason = DropReason.REPEATED if identity in seen else None
            seen.add(identity)
        if reason is None:
            yield pair
        else:
            drops[reason] += 1


def build_d(pairs: Iterable[Pair], options: Options, drops: Drops) -> Iterator[SftRow]:
    """D (eq. 1): one row a pair."""
    prompt = get_prompt(options.prompt_version)
    return (pair_row(pair, prompt) for pair in eligible(pairs, options, drops))


def pair_row(pair: Pair, prompt: Prompt) -> SftRow:
    """The row of one pair of D."""
    return SftRow(
        prompt=messages(pair.text, prompt),
        completion=_said([pair.phrase], prompt),
        id=pair.id,
        policy=pair.policy,
        source=pair.source,
        content=pair.text,
        lengths=[len(pair.text)],
        queries=[pair.phrase],
    )


def _identity(pair: Pair) -> int:
    """64 bits of (text, phrase): among a million pairs two share them with a chance of 3 in 100 million."""
    digest = hashlib.blake2b(f"{pair.text}\n{pair.key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _mixed_out(pair: Pair, mix: Mix, for_preferences: bool) -> DropReason | None:
    if pair.source == "human" or mix is Mix.ALL:
        return None
    if mix is Mix.WITH_HITS and (for_preferences or pair.evidence.toxic):
        return None
    return DropReason.MIX


class LengthRule:
    """Eq. (1)'s rule of lengths, and whether an answer can hold a phrase. Remembers the text it was asked of last."""

    def __init__(self, options: Options) -> None:
        self._rules: Analysis = get_analysis(options.analysis)
        self._prompt = get_prompt(options.prompt_version)
        self._longest = options.max_length
        self._text, self._is_spaced = "", False

    def refusal(self, text: str, phrase: str, shown: int) -> DropReason | None:
        """Why D does not hold the phrase, which exposed `shown` items; None where it does."""
        if phrase not in text:
            return DropReason.NOT_IN_TEXT
        if not is_sayable(phrase, self._prompt):
            return DropReason.UNSAYABLE
        if len(phrase) < 2:
            return DropReason.TOO_SHORT
        length = self._length(text, phrase)
        if self._longest is None:
            return None if shown or length <= UNEXPOSED_LENGTH else DropReason.NOTHING_EXPOSED
        return DropReason.TOO_LONG if length > self._longest else None

    def _length(self, text: str, phrase: str) -> int:
        if text != self._text:
            self._text, self._is_spaced = text, self._rules.is_spaced(text)
        return len(self._rules.tokens(phrase, MatchMode.PHRASE)) if self._is_spaced else len(phrase)


# --- groups ---------------------------------------------------------------------------------------------------------


def grouped(
    pairs: Sequence[Pair], options: Options, *, tell: Callable[[int], None] = lambda _done: None
) -> Iterator[list[Pair]]:
    """D clustered by policy and similarity (the G of eq. 2 and 4), one group at a time; see `training.near.groups`."""
    rules = get_analysis(options.analysis)
    found = near.groups(_Columns(pairs), seed=options.seed, analysis=rules, tell=tell)
    return ([pairs[position] for position in positions.tolist()] for positions in found)


class _Columns(Sequence[tuple[str, str]]):
    """(policy, text) of pairs that may lie on disk."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, at: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[tuple[str, str]]: ...
    def __getitem__(self, at: int | slice) -> tuple[str, str] | Sequence[tuple[str, str]]:
        if isinstance(at, slice):
            return [(pair.policy, pair.text) for pair in self._pairs[at]]
        return self._pairs[at].policy, self._pairs[at].text

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((pair.policy, pair.text) for pair in self._pairs)


@dataclass
class _Text:
    """One text of a group with its phrases; `place` in the group, for the order of a sample."""

    place: int
    text: str
    pairs: list[Pair] = field(default_factory=list)


Half = Callable[[Pair], int | None]
"""Which answer of a row a phrase belongs to (0 the only or chosen one, 1 the rejected one); None: to none."""


def build_d_cat(groups: Iterable[Sequence[Pair]], options: Options, drops: Drops) -> Iterator[SftRow]:
    """D_cat (eq. 2): of each group up to `group_size` different texts joined with commas, and their phrases as well."""
    prompt = get_prompt(options.prompt_version)
    for texts in _cat_samples(groups, options, drops):
        yield _cat_row(texts, prompt)


def build_added(groups: Iterable[Sequence[Pair]], options: Options, drops: Drops) -> Iterator[SftRow]:
    """What D_cat adds to D in D + D_cat, a union of sets: a sample of one pair is a row of D already.

    The paper's sizes say the same: 25,772 + 2,378 are 957 more than its D + D_cat of 27,193.
    """
    prompt = get_prompt(options.prompt_version)
    for texts in _cat_samples(groups, options, drops):
        if len(texts) == len(texts[0].pairs) == 1:
            drops[DropReason.SAME_AS_PAIR] += 1
        else:
            yield _cat_row(texts, prompt)


def build_d_comp(groups: Iterable[Sequence[Pair]], options: Options, drops: Drops) -> Iterator[PreferenceRow]:
    """D_comp (eq. 4), and with a threshold of 0 D_comp2: phrases of a group with p(k|S) above the threshold against
    those at or below it, each with enough judged matches; both joined with commas. A group without both sides gives
    none. The two answers are not brought to one length: the card tells how many phrases each has on average.
    """
    prompt = get_prompt(options.prompt_version)
    halves = {Side.PREFERRED: 0, Side.DISPREFERRED: 1}

    def half(pair: Pair) -> int | None:
        return halves.get(side_of(pair.evidence, options))

    for group in groups:
        good, bad = (
            [text for text in _drawn(group, options) if any(half(pair) == wanted for pair in text.pairs)]
            for wanted in (0, 1)
        )
        if not good or not bad:
            drops[DropReason.ONE_SIDED] += 1
            continue
        texts = _fitting(_in_turn(good, bad), half, options)
        chosen, rejected = (_distinct(texts, half, wanted) for wanted in (0, 1))
        if chosen and rejected:
            yield _preference_row(texts, chosen, rejected, prompt)
        else:
            drops[DropReason.NO_ROOM] += 1


def build_ranked(groups: Iterable[Sequence[Pair]], options: Options, drops: Drops) -> Iterator[ListRow]:
    """Ranked lists for PRO (BEQUE eq. 9) from the log: a group's texts, and its phrases of known side as candidates of
    one query each, ordered by p(k|S).
    """
    prompt = get_prompt(options.prompt_version)

    def half(pair: Pair) -> int | None:
        return None if side_of(pair.evidence, options) is Side.UNKNOWN else 0

    for group in groups:
        known = [text for text in _drawn(group, options) if any(half(pair) == 0 for pair in text.pairs)]
        texts = _fitting(known, half, options)
        pairs = _distinct(texts, half, 0)
        candidates = [Candidate(pair.phrase, pair.evidence.precision, pair.evidence.judged) for pair in pairs]
        content = prompt.separator.join(text.text for text in texts)
        lengths = tuple(len(text.text) for text in texts)
        scored = Scored(_id_of(texts), content, group[0].policy, tuple(candidates), lengths)
        yield from _list_rows(scored, options, drops, prompt, source=_source_of(pairs))


# --- D_pol ----------------------------------------------------------------------------------------------------------


def build_d_pol(scored: Iterable[Scored], options: Options, drops: Drops) -> Iterator[PreferenceRow]:
    """D_pol (SPEC section 5): of the candidates that the adapter itself proposed for a text the best against the worst,
    where they are more than `gap` apart. Of equal ones the first counts.
    """
    prompt = get_prompt(options.prompt_version)
    for one in scored:
        if not _is_wide(one, options, drops):
            continue
        best = max(one.candidates, key=lambda candidate: candidate.score)
        worst = min(one.candidates, key=lambda candidate: candidate.score)
        yield PreferenceRow(
            prompt=messages(one.text, prompt),
            chosen=_said([best.text], prompt),
            rejected=_said([worst.text], prompt),
            id=one.id,
            policy=one.policy,
            source="model",
            content=one.text,
            lengths=list(one.lengths or (len(one.text),)),
            chosen_queries=[best.text],
            rejected_queries=[worst.text],
            chosen_scores=[(best.score, best.count)],
            rejected_scores=[(worst.score, worst.count)],
        )


def build_ranked_pol(scored: Iterable[Scored], options: Options, drops: Drops) -> Iterator[ListRow]:
    """Ranked lists for PRO from the candidates that an adapter proposed."""
    prompt = get_prompt(options.prompt_version)
    for one in scored:
        yield from _list_rows(one, options, drops, prompt, source="model")


def _is_wide(one: Scored, options: Options, drops: Drops) -> bool:
    """Whether there is something to prefer; counts why not."""
    scores = [candidate.score for candidate in one.candidates]
    if len(scores) < 2:
        drops[DropReason.FEW_CANDIDATES] += 1
        return False
    if max(scores) - min(scores) <= options.gap:
        drops[DropReason.NO_GAP] += 1
        return False
    return True


def _list_rows(one: Scored, options: Options, drops: Drops, prompt: Prompt, *, source: str) -> Iterator[ListRow]:
    """The list of `one`, or nothing. Of more than `list_size` candidates those evenly spread over the ranks are taken,
    the best and the worst among them.
    """
    if not _is_wide(one, options, drops):
        return
    ranked = sorted(one.candidates, key=lambda candidate: -candidate.score)
    taken = min(options.list_size, len(ranked))
    kept = [ranked[at * (len(ranked) - 1) // (taken - 1)] for at in range(taken)]
    best, worst = kept[0].score, kept[-1].score
    yield ListRow(
        prompt=messages(one.text, prompt),
        candidates=[_said([candidate.text], prompt) for candidate in kept],
        rewards=[(candidate.score - worst) / (best - worst) for candidate in kept],
        id=one.id,
        policy=one.policy,
        source=source,
        content=one.text,
        lengths=list(one.lengths or (len(one.text),)),
        candidate_queries=[[candidate.text] for candidate in kept],
        candidate_scores=[(candidate.score, candidate.count) for candidate in kept],
    )


# --- samples and rows -----------------------------------------------------------------------------------------------


def _cat_samples(groups: Iterable[Sequence[Pair]], options: Options, drops: Drops) -> Iterator[list[_Text]]:
    for group in groups:
        texts = _fitting(_drawn(group, options), lambda _pair: 0, options)
        if texts:
            yield texts
        else:
            drops[DropReason.NO_ROOM] += 1


def _drawn(group: Sequence[Pair], options: Options) -> list[_Text]:
    """The different texts of a group in a random order, which depends on the seed and this group alone."""
    texts: dict[str, _Text] = {}
    for pair in group:
        texts.setdefault(pair.text, _Text(len(texts), pair.text)).pairs.append(pair)
    draw = random.Random(f"{options.seed} {group[0].id}")  # noqa: S311 - a sample, not a secret
    return draw.sample(list(texts.values()), len(texts))


def _in_turn(good: Sequence[_Text], bad: Sequence[_Text]) -> list[_Text]:
    """One text of each side after the other, each text once."""
    texts = chain.from_iterable(zip_longest(good, bad))
    return list({text.place: text for text in texts if text is not None}.values())


def _fitting(texts: Iterable[_Text], half: Half, options: Options) -> list[_Text]:
    """The first `group_size` texts that fit `max_characters` with their phrases, in the order of the group."""
    kept: list[_Text] = []
    content, answers = 0, [0, 0]
    for text in texts:
        if len(kept) == options.group_size:
            break
        longer = [length + _said_length(text, half, wanted) for wanted, length in enumerate(answers)]
        if content + len(text.text) + max(longer) > options.max_characters:
            continue
        kept.append(text)
        content, answers = content + len(text.text) + 1, longer
    return sorted(kept, key=lambda text: text.place)


def _said_length(text: _Text, half: Half, wanted: int) -> int:
    return sum(len(pair.phrase) + 1 for pair in text.pairs if half(pair) == wanted)


def _distinct(texts: Iterable[_Text], half: Half, wanted: int) -> list[Pair]:
    """The phrases of one answer in the order of the content, equal ones once."""
    pairs = (pair for text in texts for pair in text.pairs if half(pair) == wanted)
    found: dict[str, Pair] = {}
    for pair in pairs:
        found.setdefault(pair.key, pair)
    return list(found.values())


def _cat_row(texts: Sequence[_Text], prompt: Prompt) -> SftRow:
    pairs = _distinct(texts, lambda _pair: 0, 0)
    content, queries = prompt.separator.join(text.text for text in texts), [pair.phrase for pair in pairs]
    return SftRow(
        prompt=messages(content, prompt),
        completion=_said(queries, prompt),
        id=_id_of(texts),
        policy=pairs[0].policy,
        source=_source_of(pairs),
        content=content,
        lengths=[len(text.text) for text in texts],
        queries=queries,
    )


def _preference_row(
    texts: Sequence[_Text], chosen: Sequence[Pair], rejected: Sequence[Pair], prompt: Prompt
) -> PreferenceRow:
    content = prompt.separator.join(text.text for text in texts)
    return PreferenceRow(
        prompt=messages(content, prompt),
        chosen=_said([pair.phrase for pair in chosen], prompt),
        rejected=_said([pair.phrase for pair in rejected], prompt),
        id=_id_of(texts),
        policy=chosen[0].policy,
        source=_source_of([*chosen, *rejected]),
        content=content,
        lengths=[len(text.text) for text in texts],
        chosen_queries=[pair.phrase for pair in chosen],
        rejected_queries=[pair.phrase for pair in rejected],
        chosen_scores=[(pair.evidence.precision, pair.evidence.judged) for pair in chosen],
        rejected_scores=[(pair.evidence.precision, pair.evidence.judged) for pair in rejected],
    )


def _said(queries: Sequence[str], prompt: Prompt) -> Messages:
    return [{"role": "assistant", "content": answer(queries, prompt)}]


def _id_of(texts: Sequence[_Text]) -> str:
    """The first pair of the sample, and how many texts come with it."""
    return f"{texts[0].pairs[0].id}+{len(texts) - 1}" if texts else ""


def _source_of(pairs: Iterable[Pair]) -> str:
    sources = {pair.source for pair in pairs}
    return sources.pop() if len(sources) == 1 else "mixed"

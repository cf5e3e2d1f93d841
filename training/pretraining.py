"""Pretraining of a small base model on raw texts: what it reads, in which order, and the loop.

A row is what the model will see when it serves: prompt, text, lead-in, and an answer of phrases taken from the text
itself. First only the answer is learned, with random phrases, so that a query comes to be made of the text's own
characters; then the text as well, with phrases that other texts share. A larger model on a GPU reads plain texts
before that. docs/experiments.md has what it costs and what it brings.

Every batch is a pure function of seed and step, and nothing else is random once the weights are drawn: on a CPU one
seed gives one model, and a training that goes on from its checkpoint ends where an uninterrupted one does.
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extraction.prompts import Prompt, is_sayable
from extraction.suggest import MASK, WORD_LENGTHS
from extraction.text import Analysis, MatchMode
from training.tokenizer import frame
from training.watching import Progress, TrainingError, Watch, memory_mb, tell

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

CHARACTER_LENGTHS = range(2, 7)
QUERY_CHARACTERS = range(2, 21)
SHARED = range(3, 301)
"""A phrase is shared when so many texts hold it: fewer is chance, more is everybody's word."""
SHARED_AMONG = 50_000
"""So many texts are counted for that; all of them would not fit the memory of a small machine."""

_FRAME_AND_ANSWER = 30
"""Tokens that a row has beside its text, roughly: for the size of a batch."""
_SORTED_TOGETHER = 2_048
"""Rows that are put in order of length, so that a batch has little padding."""
_FACTORS = np.random.default_rng(1).integers(2**63, size=16, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_REPORT_EVERY_S = 1.0


class Stopped(TrainingError):
    """The watch asked for the end."""


@dataclass(frozen=True)
class Phase:
    """A part of a pretraining. `share`: of its steps; `phrases`: how few and how many an answer has.

    `text_weight` and `answer_weight` are those of a token in the loss. `text_part` is the share of the text tokens that
    a step learns from, drawn anew each time: to score all of them against the vocabulary takes most of a step.
    """

    share: float
    text_weight: float
    answer_weight: float
    phrases: tuple[int, int] = (0, 0)
    is_shared: bool = False
    text_part: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """How much is read, and how fast. `window`: characters of a text that make one row; a longer one makes several."""

    steps: int
    tokens_per_step: int
    learning_rate: float
    window: int
    phases: tuple[Phase, ...]
    save_steps: int = 0

    def phase(self, step: int) -> Phase:
        """The phase of a step, counted from 0."""
        ends = np.cumsum([phase.share for phase in self.phases]) * self.steps
        return self.phases[min(int(np.searchsorted(ends, step, side="right")), len(self.phases) - 1)]

    def rate(self, step: int) -> float:
        """The learning rate: up in a line over the first 5 % of the steps, then down in a cosine to 5 % of it."""
        warm_up = max(1, round(0.05 * self.steps))
        if step < warm_up:
            return self.learning_rate * (step + 1) / warm_up
        done = (step - warm_up) / max(1, self.steps - warm_up)
        return self.learning_rate * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of similar length, padded at the right. `weights` (B, T): of each token as a target; 0 is not learned."""

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    characters: int
    """Of the parts that have a weight; the end of an answer counts as one."""


class Rows:
    """The rows of a pretraining on these texts, made when they are asked for."""

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: "PreTrainedTokenizerFast",
        prompt: Prompt,
        *,
        analysis: Analysis,
        window: int,
    ) -> None:
        self._pieces = [text[start : start + window] for text in texts for start in range(0, len(text), window)]
        self._tokenizer = tokenizer
        self._separator = prompt.separator
        self._phrases = _Phrases(self._pieces, prompt, analysis)
        self._before, self._behind, self._lead_in = (
            int(tokenizer.convert_tokens_to_ids(token)) for token in frame(tokenizer, prompt)
        )

    def plan(self, tokens: int, seed: int) -> Iterator[list[int]]:
        """Numbers of the rows of each batch, for ever: each row once, then all of them again in another order."""
        draw = np.random.default_rng(seed)
        while self._pieces:
            order = draw.permutation(len(self._pieces)).tolist()
            for start in range(0, len(order), _SORTED_TOGETHER):
                batches = list(self._batches(order[start : start + _SORTED_TOGETHER], tokens))
                yield from (batches[at] for at in draw.permutation(len(batches)))

    def once(self, tokens: int) -> Iterator[list[int]]:
        """The same, each row once and in order of length."""
        return self._batches(range(len(self._pieces)), tokens)

    def batch(self, numbers: Sequence[int], phase: Phase, draw: np.random.Generator) -> Batch:
        """The batch of these rows; its phrases, and the text tokens to learn from, are drawn."""
        texts = [self._pieces[number] for number in numbers]
        answers = [self._separator.join(self._phrases.draw(number, phase, draw)) for number in numbers]
        rows = [
            self._row(text, answer, phase, draw)
            for text, answer in zip(self._ids(texts), self._ids(answers), strict=True)
        ]
        width = max(len(ids) for ids, _weights in rows)
        batch = Batch(
            ids=np.full((len(rows), width), self._tokenizer.pad_token_id, dtype=np.int64),
            weights=np.zeros((len(rows), width), dtype=np.float32),
            characters=sum(len(text) for text in texts if phase.text_weight)
            + sum(len(answer) + 1 for answer in answers if answer and phase.answer_weight),
        )
        for line, (ids, weights) in enumerate(rows):
            batch.ids[line, : len(ids)] = ids
            batch.weights[line, : len(ids)] = weights
        return batch

    def _batches(self, numbers: Sequence[int], tokens: int) -> Iterator[list[int]]:
        batch: list[int] = []
        for number in sorted(numbers, key=lambda number: len(self._pieces[number])):
            longest = len(self._pieces[number]) + _FRAME_AND_ANSWER
            if batch and (len(batch) + 1) * longest > tokens:
                yield batch
                batch = []
            batch.append(number)
        if batch:
            yield batch

    def _row(
        self, text: list[int], answer: list[int], phase: Phase, draw: np.random.Generator
    ) -> tuple[list[int], list[float]]:
        """Ids and weights of a row. One without an answer ends where the lead-in would begin."""
        learned = phase.text_weight * (draw.random(len(text)) < phase.text_part)
        ids, weights = [self._before, *text, self._behind], [0.0, *learned.tolist(), 0.0]
        if answer:
            ids += [self._lead_in, *answer, self._tokenizer.eos_token_id]
            weights += [0.0, *[phase.answer_weight] * (len(answer) + 1)]
        return ids, weights

    def _ids(self, texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        return found


@dataclass(frozen=True, eq=False)
class _Spans:
    """The search tokens of a piece: `places` (T, 2), where each begins and ends; `words` (T,), a number for each word.

    `lengths`: tokens of a phrase in its language.
    """

    places: NDArray[np.int32]
    words: NDArray[np.int64]
    lengths: range


class _Phrases:
    """Phrases of the pieces that could be queries: verbatim, of whole search tokens, without a mask."""

    def __init__(self, pieces: Sequence[str], prompt: Prompt, analysis: Analysis) -> None:
        self._pieces = pieces
        self._prompt = prompt
        self._analysis = analysis
        self._words: dict[str, int] = {}
        self._known: dict[int, _Spans] = {}

    def draw(self, number: int, phase: Phase, draw: np.random.Generator) -> list[str]:
        """Distinct phrases of a piece in random order: as many as the phase asks for, or as there are."""
        count = int(draw.integers(*phase.phrases, endpoint=True))
        if not count:
            return []
        spans = self._spans(number)
        windows = draw.permutation(self._shared(spans)) if phase.is_shared else _some_windows(spans, count, draw)
        found: dict[str, None] = {}
        for first, last in windows:
            phrase = self._pieces[number][spans.places[first, 0] : spans.places[last, 1]]
            if self._is_query(phrase):
                found[phrase] = None
            if len(found) == count:
                break
        return list(found)

    def _is_query(self, phrase: str) -> bool:
        return len(phrase) in QUERY_CHARACTERS and MASK not in phrase and is_sayable(phrase, self._prompt)

    def _shared(self, spans: _Spans) -> NDArray[np.int64]:
        """Windows (n, 2), first and last token, of the phrases that other texts hold too."""
        windows, grams = _grams(spans)
        places = np.searchsorted(self._shared_grams, grams)  # np.isin would sort the whole table for each row
        shared: NDArray[np.int64] = windows[self._shared_grams[places] == grams]
        return shared

    @cached_property
    def _shared_grams(self) -> NDArray[np.uint64]:
        """The phrases, as hashes in ascending order, that enough and not too many of the pieces hold; then an end."""
        counted = range(min(SHARED_AMONG, len(self._pieces)))
        each = [np.unique(_grams(self._spans(number))[1]) for number in counted]
        grams, counts = np.unique(np.concatenate(each), return_counts=True)
        shared = grams[(counts >= SHARED.start) & (counts < SHARED.stop)]
        return np.append(shared, np.iinfo(np.uint64).max)

    def _spans(self, number: int) -> _Spans:
        if number in self._known:
            return self._known[number]
        piece = self._pieces[number]
        tokens = self._analysis.spans(piece, MatchMode.PHRASE)
        spans = _Spans(
            places=np.array([(token.start, token.end) for token in tokens], dtype=np.int32).reshape(-1, 2),
            words=np.array([self._words.setdefault(token.text, len(self._words)) for token in tokens], dtype=np.int64),
            lengths=WORD_LENGTHS if self._analysis.is_spaced(piece) else CHARACTER_LENGTHS,
        )
        if number < SHARED_AMONG:
            self._known[number] = spans
        return spans


def _some_windows(spans: _Spans, count: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Random windows (n, 2), first and last token: three times as many as asked for, since some are no query."""
    first = draw.integers(max(1, len(spans.words)), size=3 * count)
    last = first + draw.integers(spans.lengths.start, spans.lengths.stop, size=3 * count) - 1
    return np.stack([first, last], axis=1)[last < len(spans.words)]


def _grams(spans: _Spans) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """All phrases of the piece's lengths: windows (n, 2), first and last token, and a hash (n,) of the words of each.

    The hash is a sum of products modulo 2^64 with odd random factors, one for each place, and one for the length.
    """
    windows, hashes = [np.empty((0, 2), dtype=np.int64)], [np.empty(0, dtype=np.uint64)]
    words = spans.words.astype(np.uint64)
    for length in spans.lengths:
        first = np.arange(max(0, len(words) - length + 1))
        products = [words[place : place + len(first)] * _FACTORS[place] for place in range(length)]
        windows.append(np.stack([first, first + length - 1], axis=1))
        hashes.append(np.sum(products, axis=0, dtype=np.uint64) + _FACTORS[-length])
    return np.concatenate(windows), np.concatenate(hashes)


# --- the loop -------------------------------------------------------------------------------------------------------


def pretrain(
    model: "Qwen2ForCausalLM",
    rows: Rows,
    schedule: Schedule,
    *,
    seed: int,
    watch: Watch,
    checkpoint: Path | None = None,
    of: str = "",
) -> None:
    """Train all weights of `model`, on the device where it is.

    AdamW (.9, .98), gradients cut to norm 1; the loss of a step is the weighted mean of -log P over its tokens, nats.
    Where the schedule has `save_steps`, the file `checkpoint` is kept, and the next call goes on from it; `of` says
    what is trained, so that no training goes on from the weights of another. Raises Stopped, and TrainingError where
    the loss is no number any more.
    """
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    began = _load(checkpoint, of, model, optimizer) if checkpoint else 0
    reporter = _Reporter(watch, began, schedule.steps)
    model.train()
    plan = islice(rows.plan(schedule.tokens_per_step, seed), began, schedule.steps)
    for step, numbers in enumerate(plan, start=began):
        batch = rows.batch(numbers, schedule.phase(step), np.random.default_rng([seed, step]))
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        loss = mean_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        reporter.report(step + 1, loss.item(), batch.ids.size)
        is_stopping = step + 1 < schedule.steps and bool(tell(watch.should_stop))
        if checkpoint and schedule.save_steps and (is_stopping or (step + 1) % schedule.save_steps == 0):
            _save(checkpoint, of, step + 1, model, optimizer)
        if is_stopping:
            raise Stopped(f"The building was stopped after step {step + 1} of {schedule.steps}.")


def mean_loss(model: "Qwen2ForCausalLM", batch: Batch) -> "Tensor":
    """Weighted mean over the batch of -log P(token | tokens before), nats; only tokens with a weight are scored.

    The padding stands at the right, where a causal model never looks, so no attention mask is needed.
    """
    import torch
    from torch.nn.functional import cross_entropy

    device = model.device
    ids, weights = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.weights[:, 1:]).to(device)
    learned = weights > 0
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        scores = model.lm_head(states[learned])
    losses = cross_entropy(scores.float(), ids[:, 1:][learned], reduction="none")
    return (losses * weights[learned]).sum() / weights.sum().clamp(min=1e-6)


def loss_per_character(model: "Qwen2ForCausalLM", rows: Rows, phase: Phase, *, tokens: int) -> float | None:
    """-log P of what the phase learns, nats a character, over all rows once; None where there is none.

    Per character and not per token, because a rare character is spelled in several tokens, which are easy to foresee.
    """
    import torch

    model.eval()
    total = characters = 0.0
    draw = np.random.default_rng(0)
    with torch.no_grad():
        for numbers in rows.once(tokens):
            batch = rows.batch(numbers, phase, draw)
            total += mean_loss(model, batch).item() * float(batch.weights.sum())
            characters += batch.characters
    return total / characters if characters else None


class _Reporter:
    """Tells the watch, at most once a second and at the last step; a loss that is no number is a TrainingError."""

    def __init__(self, watch: Watch, began: int, steps: int) -> None:
        self.tokens = 0
        self._watch = watch
        self._began = began
        self._steps = steps
        self._start = self._told = time.monotonic()

    def report(self, step: int, loss: float, tokens: int) -> None:
        if not math.isfinite(loss):
            raise TrainingError(f"The loss is no finite number any more at step {step}: the training has diverged.")
        self.tokens += tokens
        now = time.monotonic()
        if now - self._told < _REPORT_EVERY_S and step < self._steps:
            return
        self._told = now
        took = max(now - self._start, 1e-6)
        progress = Progress(
            step=step,
            max_steps=self._steps,
            loss=loss,
            reward_margin=None,
            tokens_per_s=self.tokens / took,
            seconds_left=(self._steps - step) * took / (step - self._began),
            memory_mb=memory_mb(),
        )
        tell(lambda: self._watch.report(progress))


def _save(path: Path, of: str, step: int, model: "Qwen2ForCausalLM", optimizer: "Optimizer") -> None:
    """Replaced in one go, so a kill leaves the checkpoint before."""
    import torch

    beside = path.with_suffix(".new")
    saved = {"of": of, "step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with beside.open("wb") as file:
        torch.save(saved, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _load(path: Path, of: str, model: "Qwen2ForCausalLM", optimizer: "Optimizer") -> int:
    """Put the checkpoint into model and optimizer; its step, or 0 where there is none of this training."""
    import torch

    if not path.exists():
        return 0
    saved: dict[str, Any] = torch.load(path, map_location=model.device, weights_only=True)
    if saved["of"] != of:
        return 0
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])

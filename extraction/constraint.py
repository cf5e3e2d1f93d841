"""What the language model may say: phrases that stand in the reported text, letter by letter, and nothing else.

A grammar for llguidance, one for each text: up to `most` queries with separators between them, each a run of whole
tokens of the text, of a length in bounds, without separator, line break and masked value. Where the text holds
`vx12345`, a query holds all of it or nothing, since an exact phrase search finds no half tokens. The same grammar is
given to a server that knows llguidance (vLLM).

The mask works on the bytes of each vocabulary entry, so that characters spelled in bytes and entries that hold the end
of one query and the begin of the next are handled; it is measured to reach every answer that a text allows
(docs/decisions/0016-constrained-decoding.md).
"""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from extraction.prompts import Prompt
from extraction.suggest import MASK
from extraction.text import Analysis, MatchMode

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

LETTERS_A_WORD = 10
"""Bounds a query of words in characters: ten times as many of these as words. No word is longer than all may be."""
_SURROGATES = re.compile("[\ud800-\udfff]")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How long a query may be: `shortest` characters at least, `longest` at most, in spaced languages so many words."""

    shortest: int = 2
    longest: int = 20


@dataclass(frozen=True)
class Piece:
    """A query of an answer: its text, and the positions in the answer of the tokens that spell it."""

    text: str
    tokens: range


def encodable(text: str) -> str:
    """The text with line breaks for lone surrogates, which no tokenizer takes: no place moves, no query holds one."""
    return _SURROGATES.sub("\n", text)


def grammar(content: str, prompt: Prompt, *, most: int, limits: Limits, analysis: Analysis) -> str | None:
    """The grammar of all answers to this text, in llguidance's dialect of Lark; None if no query can be made of it.

    The text goes in as ASCII JSON, so that nothing in it can be taken for grammar. The whole answer is one terminal:
    between terminals the lexer is greedy, by bytes, and after `加微信` of "加微信！" it would take the first bytes of a
    separator "，" for those of "！", and then allow no separator any more.
    """
    outside = re.escape(prompt.separator + MASK) + r"\n\r"
    if not any(len(run.strip()) >= limits.shortest for run in re.split(f"[{outside}]", content)):
        return None
    is_spaced = analysis.is_spaced(content)
    letters = limits.longest * (LETTERS_A_WORD if is_spaced else 1)
    words = rf" & /[^{outside}\s]+([^\S\n\r]+[^{outside}\s]+){{0,{limits.longest - 1}}}/" if is_spaced else ""
    more = f" ({json.dumps(prompt.separator)} QUERY){{0,{most - 1}}}" if most > 1 else ""
    return (
        "start: ANSWER\n"
        f"ANSWER: QUERY{more}\n"
        f"QUERY: PHRASE & /[^{outside}]{{{limits.shortest},{letters}}}/{words}\n"
        f'PHRASE: %regex {{"substring_chunks": {json.dumps(_chunks(content, analysis))}}}\n'
    )


class Constraint:
    """The vocabulary of a tokenizer made ready for masks: 1-2 s for a large one, so it is made once for a model.

    `width` is the number of logits, which may be more than the tokenizer has entries.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        prompt: Prompt,
        *,
        width: int,
        end: int,
        limits: Limits,
        analysis: Analysis,
    ) -> None:
        from llguidance import LLExecutor
        from llguidance.hf import from_tokenizer

        self.end = end
        self._vocabulary = from_tokenizer(tokenizer, n_vocab=max(width, len(tokenizer)), eos_token=end)
        self._executor = LLExecutor()
        words = np.zeros(-(-self._vocabulary.vocab_size // 32), dtype=np.uint32)
        words[end // 32] = 1 << end % 32
        self._only_end = words.view(np.int32)
        self._prompt = prompt
        self._limits = limits
        self._analysis = analysis

    def matcher(self, content: str, *, most: int) -> "LLMatcher | None":
        """What follows an answer to this text token by token; None if no query can be made of the text.

        None as well where llguidance refuses the grammar, which no text is known to do: one text must not hold up all
        that wait with it.
        """
        from llguidance import LLMatcher

        rules = grammar(content, self._prompt, most=most, limits=self._limits, analysis=self._analysis)
        if rules is None:
            return None
        matcher = LLMatcher(self._vocabulary, rules, log_level=0)
        if matcher.is_error():
            logger.error("The grammar of a text of %d characters was refused.", len(content))
            logger.debug("%s", matcher.get_error())
            return None
        return matcher

    def mask(self, matchers: Sequence["LLMatcher"]) -> "Mask":
        """A logits processor for one `generate`: row i follows `matchers[i]`, which are used up."""
        return Mask(self, matchers)

    def pieces(self, ids: Sequence[int]) -> list[Piece]:
        """The queries of an answer that ended; of one that was cut off at the length limit, all but the last."""
        spelled = [self._vocabulary.decode_bytes([id_]) for id_ in ids[: _index(ids, self.end)]]
        ends = [0]
        for part in spelled:
            ends.append(ends[-1] + len(part))
        whole, pieces, start = b"".join(spelled), [], 0
        for text in whole.split(self._prompt.separator.encode()):
            end = start + len(text)
            tokens = [at for at in range(len(spelled)) if ends[at] < end and ends[at + 1] > start]
            if tokens:
                pieces.append(Piece(text.decode(errors="replace"), range(tokens[0], tokens[-1] + 1)))
            start = end + len(self._prompt.separator.encode())
        return pieces if self.end in ids else pieces[:-1]

    def fill(self, matchers: Sequence["LLMatcher"], width: int) -> "Tensor":
        """The entries allowed next, as bits (B, ceil(width / 32)) of int32; only the end in rows that ended."""
        import torch
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par

        bits = allocate_token_bitmask(len(matchers), self._vocabulary.vocab_size)
        going = [(matcher, row) for row, matcher in enumerate(matchers) if not matcher.is_stopped()]
        bits[:] = self._only_end
        if going:
            fill_next_token_bitmask_par(self._executor, going, bits)
        return torch.from_numpy(np.ascontiguousarray(bits[:, : -(-width // 32)]))


class Mask:
    """Lets `generate` choose only what the text allows, and keeps how probable each choice was to the model itself.

    It must be the first of the logits processors. The log-probabilities are those of the raw logits, before the mask,
    a temperature or anything else: renormalised over what is allowed, a model that wants to say something quite
    different would look sure of itself.
    """

    def __init__(self, constraint: Constraint, matchers: Sequence["LLMatcher"]) -> None:
        self._constraint = constraint
        self._matchers = list(matchers)
        self._raw: Tensor | None = None
        self._chosen: list[Tensor] = []

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Logits (B, V) with -inf where the text allows no such entry; `input_ids` (B, T) end in the last choice."""
        import torch

        if self._raw is not None:
            self._chosen.append(_log_prob(self._raw, input_ids[:, -1]))
            for matcher, token in zip(self._matchers, input_ids[:, -1].tolist(), strict=True):
                if not matcher.is_stopped():
                    matcher.consume_token(token)
        self._raw = scores
        bits = self._constraint.fill(self._matchers, scores.shape[1]).to(scores.device)
        places = torch.arange(32, dtype=torch.int32, device=scores.device)
        allowed = ((bits.unsqueeze(2) >> places) & 1).bool().flatten(1)[:, : scores.shape[1]]
        return scores.masked_fill(~allowed, float("-inf"))

    def log_probs(self, last: "Tensor") -> "Tensor":
        """Raw log-probabilities (B, T) in nats of all tokens that were chosen; `last` (B,) is the last choice.

        What stands behind the end of a row has no meaning.
        """
        import torch

        if self._raw is None:
            raise ValueError("Nothing was generated with this mask.")
        return torch.stack([*self._chosen, _log_prob(self._raw, last)], dim=1)


def _log_prob(logits: "Tensor", tokens: "Tensor") -> "Tensor":
    return logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - logits.logsumexp(1)


def _chunks(content: str, analysis: Analysis) -> list[str]:
    """The text cut at the borders of its tokens; what stands between two tokens is a chunk of its own."""
    chunks: list[str] = []
    done = 0
    for token in analysis.spans(content, MatchMode.PHRASE):
        if token.start < done:  # it shares a ligature with the one before
            chunks[-1] += content[done : token.end]
        else:
            chunks += [content[done : token.start], content[token.start : token.end]]
        done = max(done, token.end)
    return [chunk for chunk in [*chunks, content[done:]] if chunk]


def _index(ids: Sequence[int], end: int) -> int:
    return list(ids).index(end) if end in ids else len(ids)

"""A tokenizer for a small model of our own: one token a character, made from the operator's texts.

Raw text goes in and comes out, nothing is normalised, so that a generated phrase can be verbatim. A character that is
too rare for a token is spelled in the bytes of its UTF-8 (`<0xNN>`). Whatever the prompt puts around the reported text
is one token each: system message and instruction before it, the turn to the assistant after it, the lead-in, the end.
A small model would have to read 140 characters of instruction otherwise. The chat template is the usual one of Qwen2,
only that it adds no system message, so that training and serving use it as they use any other model's.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from extraction.prompts import CUT, Prompt, render_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MIN_COUNT = 3
END = "<|im_end|>"
PAD = "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_PLACE = "\ue000"  # a private character that no prompt holds


def build_tokenizer(texts: Iterable[str], prompt: Prompt, *, min_count: int = MIN_COUNT) -> "PreTrainedTokenizerFast":
    """Characters that occur at least `min_count` times in raw texts (read once), in order of code points, and bytes.

    The same texts, in any order, give the same tokenizer.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(_tokens(texts, prompt, min_count))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    around = [AddedToken(text, special=True, normalized=False) for text in frame(tokenizer, prompt)]
    tokenizer.add_special_tokens({"additional_special_tokens": around})
    return tokenizer


def frame(tokenizer: "PreTrainedTokenizerFast", prompt: Prompt) -> tuple[str, str, str]:
    """What stands before the reported text, what stands behind it, and the lead-in: each is one token."""
    before, _place, behind = render_prompt(tokenizer, _PLACE, prompt).partition(_PLACE)
    return before, behind.removesuffix(prompt.lead_in), prompt.lead_in


def _tokens(texts: Iterable[str], prompt: Prompt, min_count: int) -> list[str]:
    """The end token is number 0, the padding number 1: some of the library's code takes a padding of 0 for none."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    common = {character for character, count in counts.items() if count >= min_count}
    return [END, PAD, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(common | {*prompt.separator, CUT})]

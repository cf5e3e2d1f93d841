"""What the language model is asked: versioned prompts, the same for training and for serving.

The system message holds the whole instruction and comes first, the reported text last, so that a server can keep the
work on the instruction between reports. The lead-in begins the answer; it stands in the prompt, nobody generates it.
It ends in a line break: after any other character a tokenizer may merge its end with the first query, and the ids that
were learned could never be generated.

A version is never changed once an adapter was trained with it: new words get a new version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CURRENT_PROMPT = "zh-1"
CUT = "\n"
"""Stands where the middle of a long text was cut out. No query holds a line break, so none runs across the cut."""
HEAD_SHARE = 0.6
NOT_LEARNED = -100
"""The label of a token that the loss leaves out."""


class PromptUnknown(Exception):
    """A prompt version that this installation does not have."""


class DoesNotFit(Exception):
    """A text and its answer cannot be brought below the length limit, or no query survives the cut."""


@dataclass(frozen=True)
class Prompt:
    """One version of what is asked. `instruction` is the user's message, with `{content}` for the reported text."""

    version: str
    system: str
    instruction: str
    lead_in: str
    separator: str


PROMPTS: Mapping[str, Prompt] = {
    "zh-1": Prompt(
        version="zh-1",
        system=(
            "你是内容安全专家。用户会给出一条被举报的违规内容，请从中摘出关键词，用来在平台上搜索，找出与它风险相似的其他内容。"
            "请关注这条违规内容特有的说法，例如联系方式、暗语、变形写法、商品代称，不要选人人都会用的日常词语。"
            "关键词必须与原文逐字一致，越有用的越靠前，用逗号隔开。"
        ),
        instruction="被举报的内容：\n{content}",
        lead_in="关键词：\n",
        separator="，",
    ),
    "en-1": Prompt(
        version="en-1",
        system=(
            "You are an expert in content safety. The user shows you a text that was reported as a violation. Copy "
            "from it the keywords with which a search on the platform finds other content of similar risk. Attend to "
            "what is unique to this violation, such as contact details, coded words, odd spellings or names of goods, "
            "and leave out words that everybody uses. Copy each keyword letter by letter, put the most useful one "
            "first, and separate them with commas."
        ),
        instruction="Reported content:\n{content}",
        lead_in="Keywords:\n",
        separator=",",
    ),
}


def get_prompt(version: str = CURRENT_PROMPT) -> Prompt:
    """The prompt of that version. Raises PromptUnknown."""
    if version not in PROMPTS:
        raise PromptUnknown(f"There is no prompt {version!r} here, only {', '.join(PROMPTS)}.")
    return PROMPTS[version]


def messages(content: str, prompt: Prompt) -> list[dict[str, str]]:
    """The system message (always our own: some templates put in theirs where it is missing) and the user's."""
    return [
        {"role": "system", "content": prompt.system},
        {"role": "user", "content": prompt.instruction.replace("{content}", content)},
    ]


def answer(queries: Sequence[str], prompt: Prompt) -> str:
    """What the assistant says, lead-in included: "关键词：\\n加微信，代开发票"."""
    return prompt.lead_in + prompt.separator.join(queries)


def is_sayable(query: str, prompt: Prompt) -> bool:
    """True if an answer can hold the query: it is not blank, and has no separator and no line break inside."""
    return bool(query.strip()) and not any(mark in query for mark in (prompt.separator, "\n", "\r"))


def render_prompt(tokenizer: "PreTrainedTokenizerBase", content: str, prompt: Prompt) -> str:
    """The text that the model goes on from: the tokenizer's chat template around our messages, then the lead-in.

    A special token that somebody wrote into the reported text is broken by a space, so that no report can end its own
    message and begin to give instructions. Models that can think aloud are told not to.
    """
    return _rendered(tokenizer, messages(_without_special(tokenizer, content), prompt)) + prompt.lead_in


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", content: str, prompt: Prompt) -> list[int]:
    """Token ids of `render_prompt`; the template already holds every special token."""
    return _ids(tokenizer, render_prompt(tokenizer, content, prompt))


def answer_ids(tokenizer: "PreTrainedTokenizerBase", queries: Sequence[str], prompt: Prompt) -> list[int]:
    """Token ids of the answer, without its lead-in and with the token that ends the assistant's turn.

    Cut behind the lead-in and not tokenized alone, because some tokenizers put a space before a text's first word.
    """
    joined = _without_special(tokenizer, prompt.separator.join(queries))
    lead_in = _ids(tokenizer, prompt.lead_in)
    whole = _ids(tokenizer, prompt.lead_in + joined)
    is_aligned = whole[: len(lead_in)] == lead_in
    return [*(whole[len(lead_in) :] if is_aligned else _ids(tokenizer, joined)), end_token_id(tokenizer)]


def end_token_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token that ends the assistant's turn in the chat template; the tokenizer's end token if it has none there.

    The two differ in some models: a chat template may end a turn where the end token would end a document.
    """
    turn = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    after = _ids(tokenizer, str(tokenizer.apply_chat_template(turn, tokenize=False)).rpartition("!")[2].strip())
    if after and after[0] in _special_tokens(tokenizer):
        return after[0]
    if tokenizer.eos_token_id is None:
        raise ValueError("The tokenizer has no token that ends an answer.")
    return int(tokenizer.eos_token_id)


def fit_content(
    tokenizer: "PreTrainedTokenizerBase", content: str, queries: Sequence[str], prompt: Prompt, max_length: int
) -> tuple[str, list[str]]:
    """Content and queries of one row of at most `max_length` tokens: prompt, lead-in, answer and end token.

    Only the content is cut, never the answer: of its tokens 60 % stay from the head and 40 % from the tail, where
    contact details tend to stand. Queries that are not in what remains, or that no answer can hold, are left out. With
    no queries given, it makes the content fit a prompt without an answer. Raises DoesNotFit.
    """
    stated = [query for query in queries if is_sayable(query, prompt)]
    room = max_length - (len(answer_ids(tokenizer, stated, prompt)) if queries else 0)
    fitting = _cut(tokenizer, content, prompt, room)
    kept = [query for query in stated if query in fitting]
    if queries and not kept:
        raise DoesNotFit(f"None of the {len(queries)} queries is in what fits {max_length} tokens of the text.")
    return fitting, kept


def training_ids(
    tokenizer: "PreTrainedTokenizerBase", content: str, queries: Sequence[str], prompt: Prompt, max_length: int
) -> tuple[list[int], list[int]]:
    """(input_ids, labels) of one training row, both (T,), T at most `max_length`.

    Learned are the answer and the end of the turn (eq. 3: answer tokens only); prompt and lead-in carry the label -100.
    Raises DoesNotFit.
    """
    content, kept = fit_content(tokenizer, content, queries, prompt, max_length)
    if not kept:
        raise DoesNotFit("A training row needs at least one query.")
    before, learned = prompt_ids(tokenizer, content, prompt), answer_ids(tokenizer, kept, prompt)
    return before + learned, [NOT_LEARNED] * len(before) + learned


def _rendered(tokenizer: "PreTrainedTokenizerBase", chat: list[dict[str, str]]) -> str:
    from jinja2 import TemplateError

    try:
        return _templated(tokenizer, chat)
    except TemplateError:  # some families refuse a system role: there the instruction opens the user's message
        system, user = chat
        return _templated(tokenizer, [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}])


def _templated(tokenizer: "PreTrainedTokenizerBase", chat: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=False))


def _cut(tokenizer: "PreTrainedTokenizerBase", content: str, prompt: Prompt, room: int) -> str:
    """The content, its middle cut out until the prompt has at most `room` tokens.

    A loop, since the tokens at the cut can be others than those that were counted.
    """
    over = len(prompt_ids(tokenizer, content, prompt)) - room
    if over <= 0:
        return content
    places = tokenizer(content, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    keep = len(places) - over
    while keep > 0:
        head = round(HEAD_SHARE * keep)
        first_end = places[head - 1][1] if head else 0
        last_start = max(places[head - keep][0], first_end) if head < keep else len(content)
        shorter = content[:first_end] + CUT + content[last_start:]
        over = len(prompt_ids(tokenizer, shorter, prompt)) - room
        if over <= 0:
            return shorter
        keep -= over
    raise DoesNotFit(f"The prompt without any content needs more than {room} tokens.")


def _without_special(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    for token in _special_tokens(tokenizer).values():
        if len(token) > 1:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _special_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[int, str]:
    return {id_: token.content for id_, token in tokenizer.added_tokens_decoder.items() if token.special}


def _ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])

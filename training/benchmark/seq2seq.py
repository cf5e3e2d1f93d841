"""A BART-like encoder-decoder (QExplorer section 4.2.1): the report goes in, a query comes out.

By path or name, fine-tuned for 5 epochs with the input cut at 1,024 tokens, as the paper does; or a small one of BART's
architecture made here from nothing, which has read no other text. Both see a text as the engine's tokens do. What
comes out is held to token sequences of the input: a query that stands in no report would be no query of this table.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from extraction.generation import ModelRefused, model_folder
from extraction.text import MatchMode
from training.benchmark.choice import Choice, MethodUnavailable, best_of_each
from training.benchmark.suites import Task
from training.benchmark.trained import Example, can_stand, examples, kept_in, need_torch, repeatable

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CUT = 1024
BEAMS = 8
LONGEST_ANSWER = 24
"""Tokens of the model; a query has at most 10 characters or 5 words."""
READ_AT_ONCE = 16
VOCABULARY = 8_000
START, PAD, END = "<s>", "<pad>", "</s>"


@dataclass(frozen=True)
class Sizes:
    """Settings of a training; `model` is "" for the small one, whose shape the rest describes."""

    model: str = ""
    epochs: int = 30
    learning_rate: float = 5e-4
    batch: int = 32
    width: int = 192
    layers: int = 3
    heads: int = 4


NAMED = Sizes(epochs=5, learning_rate=3e-5, batch=8)
"""As the paper fine-tunes bart-large, batch and rate apart, which it leaves open."""


def encoder_decoder(task: Task) -> Choice:
    """The most probable query of each report, by its mean log-probability, the surest first."""
    need_torch()
    model, tokenizer = _trained(task)
    texts = [_shown(task.analysis.tokens(report.text, MatchMode.PHRASE), task) for report in task.reports]
    with repeatable(task.seed):
        answers = list(_answers(model, tokenizer, texts, least=1 if _is_spaced(task) else 2))
    found = [
        [
            (sureness, key)
            for sureness, answer in own
            if (key := _key(answer, task)) and can_stand(key, report.text, task.analysis)
        ]
        for report, own in zip(task.reports, answers, strict=True)
    ]
    return best_of_each(task, found)


def train(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    pairs: Sequence[tuple[str, str]],
    sizes: Sizes,
) -> None:
    """Fine-tune on (text, query) pairs: cross-entropy on the query's tokens, teacher forcing."""
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), lr=sizes.learning_rate)
    by_length = sorted(range(len(pairs)), key=lambda pair: len(pairs[pair][0]))
    batches = [by_length[first : first + sizes.batch] for first in range(0, len(pairs), sizes.batch)]
    model.train()
    for _epoch in range(sizes.epochs):
        for number in torch.randperm(len(batches)).tolist():
            texts, queries = zip(*(pairs[pair] for pair in batches[number]), strict=True)
            read = tokenizer(list(texts), padding=True, truncation=True, max_length=CUT, return_tensors="pt")
            labels = _labels(tokenizer, queries)
            optimiser.zero_grad()
            model(input_ids=read["input_ids"], attention_mask=read["attention_mask"], labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
    model.eval()


def _labels(tokenizer: "PreTrainedTokenizerBase", queries: Sequence[str]) -> "Tensor":
    """What is learned of each query (B, T): its tokens and the end; -100 is padding. No start, unlike BART's own."""
    import torch

    rows = tokenizer(list(queries), add_special_tokens=False)["input_ids"]
    longest = max(map(len, rows)) + 1
    return torch.tensor([[*row, tokenizer.eos_token_id, *[-100] * (longest - len(row) - 1)] for row in rows])


def continuations(source: Sequence[int], begun: Sequence[int], end: int, *, least: int = 1) -> list[int]:
    """The tokens that may follow `begun`, so that it stays a part of `source`; `end` as soon as there are `least`.

    >>> continuations([5, 6, 7, 6, 8], [6], end=2)
    [2, 7, 8]
    """
    length = len(begun)
    following = {
        source[place + length]
        for place in range(len(source) - length)
        if list(source[place : place + length]) == list(begun)
    }
    return sorted(following | ({end} if length >= least else set()))


def _answers(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], *, least: int
) -> Iterator[list[tuple[float, str]]]:
    """For each text the beams, best first, each with its mean log-probability; at least `least` tokens long."""
    import torch

    special, end = set(tokenizer.all_special_ids), int(tokenizer.eos_token_id)
    for first in range(0, len(texts), READ_AT_ONCE):
        part = list(texts[first : first + READ_AT_ONCE])
        read = tokenizer(part, padding=True, truncation=True, max_length=CUT, return_tensors="pt")
        sources = [[id_ for id_ in row if id_ not in special] for row in read["input_ids"].tolist()]
        with torch.no_grad():
            said = model.generate(
                input_ids=read["input_ids"],
                attention_mask=read["attention_mask"],
                num_beams=BEAMS,
                num_return_sequences=BEAMS,
                max_new_tokens=LONGEST_ANSWER,
                do_sample=False,
                no_repeat_ngram_size=0,
                min_length=0,
                forced_bos_token_id=None,
                forced_eos_token_id=None,
                prefix_allowed_tokens_fn=_allowed(sources, special, end, least),
                return_dict_in_generate=True,
                output_scores=True,
            )
        answers = tokenizer.batch_decode(said.sequences, skip_special_tokens=True)
        scored = list(zip(said.sequences_scores.tolist(), answers, strict=True))
        yield from (scored[at : at + BEAMS] for at in range(0, len(scored), BEAMS))


def _allowed(
    sources: Sequence[Sequence[int]], special: set[int], end: int, least: int
) -> Callable[[int, Any], list[int]]:
    def allowed(row: int, said: Any) -> list[int]:
        begun = [id_ for id_ in said.tolist() if id_ not in special]
        return continuations(sources[row], begun, end, least=least) or [end]

    return allowed


def _shown(tokens: Sequence[str], task: Task) -> str:
    """Tokens as the model reads them: words with a space before each, characters as they are."""
    return "".join(f" {token}" for token in tokens) if _is_spaced(task) else "".join(tokens)


def _key(answer: str, task: Task) -> str:
    return task.analysis.key(answer, MatchMode.PHRASE)


def _is_spaced(task: Task) -> bool:
    return task.analysis.base == "bench-en-1"


# --- the models -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _trained(task: Task) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    sizes = _sizes(task)
    learned = examples(task.training)
    folder = kept_in(task, "seq2seq", asdict(sizes), learned)
    if not folder.exists():
        with repeatable(task.seed):
            model, tokenizer = _opened(sizes.model) if sizes.model else small(task, sizes)
            train(model, tokenizer, _pairs(learned, task), sizes)
        beside = folder.with_name(folder.name + ".new")
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        (beside / "training.json").write_text(json.dumps(asdict(sizes), indent=1))
        beside.rename(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _sizes(task: Task) -> Sizes:
    sizes = replace(NAMED, model=task.options.seq2seq) if task.options.seq2seq else Sizes()
    return replace(sizes, epochs=task.options.epochs or sizes.epochs)


def _pairs(learned: Sequence[Example], task: Task) -> list[tuple[str, str]]:
    """D as eq. (1) has it: each text with one of its phrases."""
    shown = partial(_shown, task=task)
    return [(shown(example.tokens), shown(phrase)) for example in learned for phrase in example.phrases]


def _opened(named: str) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """A model by path, or by `name@commit`. Raises MethodUnavailable for a name without its commit."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    name, _at, revision = named.partition("@")
    try:
        folder = model_folder(name, revision)
    except ModelRefused as error:
        raise MethodUnavailable(str(error)) from error
    model = AutoModelForSeq2SeqLM.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def small(task: Task, sizes: Sizes) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """BART's architecture in small, with random weights, and byte-level BPE of the train items."""
    from transformers import BartConfig, BartForConditionalGeneration

    tokenizer = _tokenizer(
        _shown(task.analysis.tokens(item.text, MatchMode.PHRASE), task) for item in task.training.items
    )
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=sizes.width,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=4 * sizes.width,
        decoder_ffn_dim=4 * sizes.width,
        max_position_embeddings=CUT,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
    )
    return BartForConditionalGeneration(config), tokenizer


def _tokenizer(texts: Iterator[str]) -> "PreTrainedTokenizerBase":
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, pad_token=PAD, eos_token=END, model_max_length=CUT
    )

"""The language model that proposes queries for a report, and how its files are known.

`LocalModel` holds one base model and any number of LoRA adapters of it, in this process: transformers and PEFT do the
work. It answers many reports in one batch, each by the adapter that is named for it, with one greedy list of queries a
report, held to the report's own words (extraction/constraint.py). The order of the list is the model's own ranking, as
in KESR; a search may order it anew.

Greedy, since lists by beam search were better or worse by chance at four to six times the cost
(docs/decisions/0016-constrained-decoding.md).
"""

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from extraction.artifacts import SAFE
from extraction.constraint import Constraint, Limits, encodable
from extraction.parsing import locate
from extraction.prompts import DoesNotFit, Prompt, answer_ids, end_token_id, fit_content, prompt_ids
from extraction.suggest import MASK, PROPOSAL_LIMIT
from extraction.text import Analysis, MatchMode, get_analysis

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from extraction.models import Adapter, BaseModel

MAX_LENGTH = 2048
"""Tokens of prompt and answer together, as in training (QExplorer section 4.4)."""
ANSWER_TOKENS = 256
"""An answer that is longer loses its last query."""
TOKENS_PER_BATCH = 16_384
"""About 50 reports; a batch that the card cannot hold is halved, and so are those after it."""
BASE = "__base__"
"""What PEFT calls the base without an adapter, in a batch for several."""
STAMP_FILE = "training.json"
"""Lies beside the weights of an adapter; holds at least the keys of `stamp`."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")
_COMMIT = re.compile("[0-9a-f]{40}")

T = TypeVar("T")
R = TypeVar("R")


class ModelRefused(Exception):
    """A model's files cannot be used: unsafe, incomplete, or of no pinned revision."""


class AdapterRefused(Exception):
    """An adapter does not belong to the base that it is put on, or its files are unsafe."""


class AdapterNotLoaded(Exception):
    """A report is to be answered by an adapter that this model does not have."""


@dataclass(frozen=True)
class Proposed:
    """A query that a language model proposes: `text` is `source[start:end]` of the reported text, in code points."""

    text: str
    start: int
    end: int
    confidence: float
    """Mean log-probability of its tokens in nats, of the model alone: before the constraint, before any temperature."""


class Proposer(Protocol):
    """What the worker of suggestions needs of a language model, wherever it runs."""

    def propose(
        self, texts: Sequence[str], adapters: Sequence[str | None], *, limit: int = PROPOSAL_LIMIT
    ) -> list[list[Proposed]]:
        """Queries for each text by the adapter beside it (None: the base alone), at most `limit`, the best first.

        All are verbatim in their text and distinct after normalisation. [] for a text that allows none.
        """


# --- files ----------------------------------------------------------------------------------------------------------


def model_folder(folder_or_name: Path | str, revision: str = "", *, with_weights: bool = True) -> Path:
    """The folder of a model: itself if it is one, else this machine's copy of a named model at a pinned commit.

    Only weights in safetensors, configuration and text are fetched from the hub. Raises ModelRefused for a revision
    that is no commit, since a branch may move.
    """
    if Path(folder_or_name).is_dir():
        return Path(folder_or_name)
    if not _COMMIT.fullmatch(revision):
        raise ModelRefused(f"{folder_or_name} needs the full commit of its revision, not {revision!r}.")
    from huggingface_hub import snapshot_download

    patterns = [f"*{suffix}" for suffix in sorted(SAFE) if with_weights or suffix != ".safetensors"]
    return Path(snapshot_download(str(folder_or_name), revision=revision, allow_patterns=patterns))


def open_tokenizer(folder: Path) -> "PreTrainedTokenizerFast":
    """The tokenizer of a model folder, padding on the left, as a batch needs it that goes on from its right end.

    `tokenizer.json` is taken as it is. AutoTokenizer would go by the model's architecture, and make a byte-level
    tokenizer of a Qwen2 model's own characters.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer.json").is_file():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def weights_hash(folder: Path) -> str:
    """SHA-256 over names and contents of the weights. Raises ModelRefused where there are none in safetensors."""
    return _files_hash(folder, sorted(path.name for path in folder.glob("*.safetensors")), "weights in safetensors")


def tokenizer_hash(folder: Path) -> str:
    """SHA-256 of what turns text into ids; `tokenizer.json` says it all where it exists."""
    names = [name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    return _files_hash(folder, names[:1] if names[:1] == ["tokenizer.json"] else names, "tokenizer")


def template_hash(folder: Path) -> str:
    """SHA-256 of the chat template, wherever it stands. Raises ModelRefused where there is none."""
    template = open_tokenizer(folder).chat_template
    if template is None:
        raise ModelRefused(f"{folder.name} has no chat template, so it cannot be asked.")
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()


def stamp(base: Path, prompt_version: str) -> dict[str, str]:
    """What an adapter must carry in its `training.json`: on which base it was trained, and how that was asked."""
    return {
        "weights_hash": weights_hash(base),
        "tokenizer_hash": tokenizer_hash(base),
        "template_hash": template_hash(base),
        "prompt_version": prompt_version,
    }


def check_adapter(folder: Path, *, adapter: "Adapter", base: "BaseModel") -> None:
    """Raise AdapterRefused unless the files are safe and were trained on this base, as the rows say.

    An adapter loads on any model of the same shape without a word, and then talks nonsense.
    """
    if adapter.base_id != base.pk:
        raise AdapterRefused(f"{adapter} belongs to the base {adapter.base}, not to {base}.")
    found = read_stamp(folder)
    asked = ("tokenizer_hash", "template_hash", "prompt_version")
    check_stamp(found, {key: getattr(adapter, key) for key in asked})
    check_stamp(found, {key: getattr(base, key) for key in ("weights_hash", *asked)})


def read_stamp(folder: Path) -> dict[str, Any]:
    """The stamp of an adapter's folder. Raises AdapterRefused where it has none, or holds what could run code."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in SAFE:
            raise AdapterRefused(
                f"{path.name} is none of {', '.join(sorted(SAFE))}: it could run code when it is read."
            )
    for name in ("adapter_config.json", "adapter_model.safetensors", STAMP_FILE):
        if not (folder / name).is_file():
            raise AdapterRefused(f"The adapter has no {name}.")
    try:
        read = json.loads((folder / STAMP_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise AdapterRefused(f"The adapter's {STAMP_FILE} is no JSON.") from error
    if not isinstance(read, dict):
        raise AdapterRefused(f"The adapter's {STAMP_FILE} is no JSON object.")
    return read


def check_stamp(found: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
    """Raise AdapterRefused at the first entry of a stamp that is not as wanted."""
    for key, value in wanted.items():
        if found.get(key) != value:
            raise AdapterRefused(f"The adapter was trained with {key} {found.get(key)!r}, needed is {value!r}.")


def _files_hash(folder: Path, names: list[str], what: str) -> str:
    if not names:
        raise ModelRefused(f"{folder.name} has no {what}.")
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()


# --- the model in this process --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """One answer to make: to which text, by whom, from which prompt, under which constraint."""

    text: int
    adapter: str | None
    ids: list[int]
    matcher: "LLMatcher"


@dataclass(frozen=True)
class _Answer:
    """The tokens of an answer and their raw log-probabilities, both (T,)."""

    ids: list[int]
    log_probs: list[float]


class LocalModel:
    """A base model and its adapters, on the card where there is one. For one thread; `open` makes it."""

    def __init__(
        self,
        folder: Path,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerFast",
        prompt: Prompt,
        limits: Limits,
    ) -> None:
        self._folder = folder
        self._model: Any = model  # a PeftModel while adapters are loaded; no type tells what both can do
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._limits = limits
        self._analysis = get_analysis()
        self._max_length = min(MAX_LENGTH, getattr(model.config, "max_position_embeddings", MAX_LENGTH))
        self._tokens_per_batch = TOKENS_PER_BATCH
        self._adapters: list[str] = []
        self._constraint = Constraint(
            tokenizer,
            prompt,
            width=model.get_output_embeddings().weight.shape[0],
            end=end_token_id(tokenizer),
            limits=limits,
            analysis=self._analysis,
        )

    @classmethod
    def open(
        cls,
        folder_or_name: Path | str,
        *,
        prompt: Prompt,
        revision: str = "",
        device: str = "auto",
        limits: Limits | None = None,
    ) -> Self:
        """Load a model from its folder, or by name at a pinned commit: bfloat16 on a card, float32 on the CPU.

        No code that comes with a model is ever run, and no pickle is read. Raises ModelRefused.
        """
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig

        folder = model_folder(folder_or_name, revision)
        tokenizer = open_tokenizer(folder)
        if tokenizer.chat_template is None:
            raise ModelRefused(f"{folder.name} has no chat template, so it cannot be asked.")
        place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32 if place == "cpu" else torch.bfloat16,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        model.generation_config = GenerationConfig()  # many models bring sampling and a penalty for repetition
        return cls(folder, model.to(place).eval(), tokenizer, prompt, limits or Limits())

    # --- adapters

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters that are loaded, in the order of loading."""
        return list(self._adapters)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Put an adapter beside those that are there. Raises AdapterRefused where it is not one of this base."""
        from peft import PeftModel

        if name in self._adapters:
            raise AdapterRefused(f"An adapter {name} is loaded already.")
        check_stamp(read_stamp(folder), self._stamp)
        # LoRA weights take the type of the base; left alone, PEFT would make them float32 on a base of bfloat16.
        kept = {"adapter_name": _inner(name), "autocast_adapter_dtype": False}
        if isinstance(self._model, PeftModel):
            self._model.load_adapter(str(folder), **kept)
        else:
            self._model = PeftModel.from_pretrained(self._model, str(folder), **kept)
        self._model.eval()
        self._adapters.append(name)

    def drop_adapter(self, name: str) -> None:
        """Free an adapter's memory. Raises AdapterNotLoaded."""
        self._check_loaded([name])
        if len(self._adapters) == 1:
            self._model = self._model.unload()
        else:
            self._model.delete_adapter(_inner(name))
        self._adapters.remove(name)

    # --- proposing

    def propose(
        self, texts: Sequence[str], adapters: Sequence[str | None], *, limit: int = PROPOSAL_LIMIT
    ) -> list[list[Proposed]]:
        """See Proposer. Raises AdapterNotLoaded, and torch.OutOfMemoryError where not even one report fits."""
        self._check_loaded(adapters)
        rows = self._rows(texts, adapters, limit)
        proposed: list[list[Proposed]] = [[] for _text in texts]
        for row, answer in self._answers(rows, self._answer_tokens(limit)):
            proposed[row.text] = self._proposed(answer, texts[row.text], limit)
        return proposed

    def sample(
        self,
        texts: Sequence[str],
        adapter: str | None,
        *,
        count: int = 8,
        temperature: float = 1.2,
        seed: int = 0,
        limit: int = PROPOSAL_LIMIT,
    ) -> list[list[list[Proposed]]]:
        """`count` lists for each text, drawn from the model: candidates for D_pol. The same seed draws the same.

        A sharply trained model repeats itself: below a temperature of 1.2 few of the lists differ.
        """
        import torch

        self._check_loaded([adapter])
        rows = [row for row in self._rows(texts, [adapter] * len(texts), limit) for _time in range(count)]
        sampled: list[list[list[Proposed]]] = [[] for _text in texts]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for row, answer in self._answers(rows, self._answer_tokens(limit), temperature):
                sampled[row.text].append(self._proposed(answer, texts[row.text], limit))
        return sampled

    def log_probs(
        self, texts: Sequence[str], adapter: str | None, phrases: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Log-probability in nats of each phrase as the whole answer to its text, end token included, unconstrained.

        A sum over its tokens, so that longer phrases have lower values.
        """
        import torch

        self._check_loaded([adapter])
        with torch.inference_mode(), self._speaking([adapter]):
            return [self._phrase_log_probs(text, of_text) for text, of_text in zip(texts, phrases, strict=True)]

    # --- how

    @cached_property
    def _stamp(self) -> dict[str, str]:
        return stamp(self._folder, self._prompt.version)

    def _check_loaded(self, adapters: Iterable[str | None]) -> None:
        missing = {name for name in adapters if name is not None} - set(self._adapters)
        if missing:
            raise AdapterNotLoaded(f"Not loaded: {', '.join(sorted(missing))}.")

    def _answer_tokens(self, limit: int) -> int:
        return min(ANSWER_TOKENS, limit * (self._limits.longest + 1))

    def _rows(self, texts: Sequence[str], adapters: Sequence[str | None], limit: int) -> list[_Row]:
        """The answers to make; none for a text that allows no query."""
        rows = []
        for at, (text, adapter) in enumerate(zip(texts, adapters, strict=True)):
            content = self._fitting(text, self._answer_tokens(limit))
            matcher = self._constraint.matcher(content, most=limit)
            if matcher is not None:
                rows.append(_Row(at, adapter, prompt_ids(self._tokenizer, content, self._prompt), matcher))
        return rows

    def _fitting(self, text: str, answer_tokens: int) -> str:
        room = self._max_length - answer_tokens
        try:
            return fit_content(self._tokenizer, encodable(text), [], self._prompt, room)[0]
        except DoesNotFit as error:
            raise ModelRefused(f"{self._folder.name} reads {self._max_length} tokens, too few: {error}") from error

    def _answers(
        self, rows: Sequence[_Row], answer_tokens: int, temperature: float = 0.0
    ) -> Iterator[tuple[_Row, _Answer]]:
        return self._in_batches(
            rows,
            width=lambda row: len(row.ids) + answer_tokens,
            work=lambda batch: self._generate(batch, answer_tokens, temperature),
        )

    def _in_batches(
        self, rows: Iterable[T], *, width: Callable[[T], int], work: Callable[[list[T]], list[R]]
    ) -> Iterator[tuple[T, R]]:
        """All rows with their results, in batches of rows of similar width (tokens), the widest first.

        A batch that does not fit the card's memory is halved, and none after it is larger.
        """
        from torch import OutOfMemoryError

        waiting = sorted(rows, key=width, reverse=True)
        while waiting:
            widest = width(waiting[0])
            batch = waiting[: max(1, self._tokens_per_batch // widest)]
            try:
                results = work(batch)
            except OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self._tokens_per_batch = len(batch) // 2 * widest
            else:
                yield from zip(batch, results, strict=True)
                waiting = waiting[len(batch) :]

    def _generate(self, rows: Sequence[_Row], answer_tokens: int, temperature: float) -> list[_Answer]:
        """One batch: prompts padded on the left, each row held to its own text, greedy at temperature 0."""
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        widest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), widest), self._tokenizer.pad_token_id)
        attention = torch.zeros_like(ids)
        for line, row in enumerate(rows):
            ids[line, widest - len(row.ids) :] = torch.tensor(row.ids)
            attention[line, widest - len(row.ids) :] = 1
        mask = self._constraint.mask([row.matcher.deep_copy() for row in rows])
        drawn = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        with torch.inference_mode(), self._speaking([row.adapter for row in rows]) as adapters:
            whole = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=attention.to(self._model.device),
                logits_processor=LogitsProcessorList([mask]),
                generation_config=GenerationConfig(
                    max_new_tokens=answer_tokens,
                    eos_token_id=self._constraint.end,
                    pad_token_id=self._tokenizer.pad_token_id,
                    **drawn,
                ),
                **adapters,
            )
            log_probs = mask.log_probs(whole[:, -1]).tolist()
        return [_Answer(*answer) for answer in zip(whole[:, widest:].tolist(), log_probs, strict=True)]

    @contextmanager
    def _speaking(self, adapters: Sequence[str | None]) -> Iterator[dict[str, list[str]]]:
        """While it lasts, row i is answered by `adapters[i]`; what `generate` must be told for that is given.

        A batch for one adapter alone is quicker than a mixed one, so it is switched instead of named.
        """
        if not self._adapters:
            yield {}
        elif len(set(adapters)) > 1:
            yield {"adapter_names": [BASE if name is None else _inner(name) for name in adapters]}
        elif adapters[0] is None:
            with self._model.disable_adapter():
                yield {}
        else:
            self._model.set_adapter(_inner(adapters[0]))
            yield {}

    def _proposed(self, answer: _Answer, source: str, limit: int) -> list[Proposed]:
        said = [
            (piece.text, fmean(answer.log_probs[at] for at in piece.tokens))
            for piece in self._constraint.pieces(answer.ids)
        ]
        return verbatim(said, source, self._analysis, shortest=self._limits.shortest)[:limit]

    def _phrase_log_probs(self, text: str, phrases: Sequence[str]) -> list[float]:
        """The prompt is read once, and what the model keeps of it is repeated for each batch of phrases."""
        import torch

        answers = [answer_ids(self._tokenizer, [phrase], self._prompt) for phrase in phrases]
        content = self._fitting(text, max(map(len, answers), default=0))
        prompt = prompt_ids(self._tokenizer, content, self._prompt)
        read = self._model(
            input_ids=torch.tensor([prompt], device=self._model.device), use_cache=True, logits_to_keep=1
        )

        def score(batch: list[int]) -> list[float]:
            rows = [answers[at] for at in batch]
            ids = torch.full((len(rows), max(map(len, rows))), self._constraint.end, device=self._model.device)
            for line, row in enumerate(rows):
                ids[line, : len(row)] = torch.tensor(row)
            memory = copy.deepcopy(read.past_key_values)
            memory.batch_repeat_interleave(len(rows))
            later = self._model(input_ids=ids[:, :-1], past_key_values=memory).logits
            logits = torch.cat([read.logits[:, -1:].expand(len(rows), -1, -1), later], dim=1).float()
            chosen = logits.gather(2, ids.unsqueeze(2)).squeeze(2) - logits.logsumexp(2)
            return [float(line[: len(row)].sum()) for line, row in zip(chosen, rows, strict=True)]

        found = dict(self._in_batches(range(len(phrases)), width=lambda at: len(prompt) + len(answers[at]), work=score))
        return [found[at] for at in range(len(phrases))]


def verbatim(said: Iterable[tuple[str, float]], source: str, analysis: Analysis, *, shortest: int) -> list[Proposed]:
    """What was said, with its confidence, as queries that stand in the reported text; in order.

    Left out is what the text does not say, what cannot be searched, what is too short, what holds a masked value, and
    what is one query already after normalisation. Punctuation at the ends goes.
    """
    found: dict[str, Proposed] = {}
    for phrase, confidence in said:
        place = locate(phrase, source, analysis)
        tokens = analysis.spans(source[place[0] : place[1]], MatchMode.PHRASE) if place else []
        if place is None or not tokens:
            continue
        start, end = place[0] + tokens[0].start, place[0] + tokens[-1].end
        text = source[start:end]
        if len(text) >= shortest and MASK not in text:
            found.setdefault(analysis.key(text, MatchMode.PHRASE), Proposed(text, start, end, confidence))
    return list(found.values())


def _inner(adapter: str) -> str:
    """The name inside PEFT, which loads an adapter wrongly that is called like a part of `lora_`."""
    return f"qx-{adapter}"

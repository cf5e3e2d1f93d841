"""A base model without a model hub: a small causal LM (Qwen2 architecture) made from the operator's own item texts.

Tokenizer and weights come from nothing but those texts and a seed; adapters sit on such a base exactly as on one of
seven billion weights. It points at phrases of a report, it does not understand them (docs/experiments.md). Whatever is
nearly the same as a report of the evaluation set is left out, and so is what came after the cut-off: nothing is tested
on what the base has read.
"""

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from audit.models import ItemText
from extraction.artifacts import store_folder
from extraction.generation import template_hash, tokenizer_hash, weights_hash
from extraction.models import BaseModel
from extraction.prompts import Prompt, get_prompt
from extraction.text import Analysis, get_analysis
from training.card import GaveUp, turn_to_train
from training.models import EvaluationSet
from training.naming import next_name
from training.near import near_to
from training.pretraining import Phase, Rows, Schedule, Stopped, loss_per_character, pretrain
from training.tokenizer import build_tokenizer
from training.trainer_parts import NothingToTrain, commit
from training.watching import TrainingError, Watch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

HELD_OUT_OF = 50
MOST_HELD_OUT = 400
LONGEST = 4_096
"""Positions that the configuration allows. Training windows are shorter, and so are most reports."""

_ANSWERS = Phase(share=0.3, text_weight=0.0, answer_weight=1.0, phrases=(6, 6))
_BOTH = Phase(share=0.7, text_weight=1.0, answer_weight=2.0, phrases=(1, 3), is_shared=True, text_part=0.25)
_TEXTS = Phase(share=0.8, text_weight=1.0, answer_weight=0.0)
_TASK = Phase(share=0.2, text_weight=1.0, answer_weight=2.0, phrases=(1, 3), is_shared=True)

_HELD_OUT_TEXT = Phase(share=1.0, text_weight=1.0, answer_weight=0.0)
_HELD_OUT_ANSWER = Phase(share=1.0, text_weight=0.0, answer_weight=1.0, phrases=(2, 2))
_PACKAGES = ("torch", "transformers", "tokenizers")
_CHUNK = 2_000


@dataclass(frozen=True)
class Profile:
    """Size and training of a base. `most_texts`: of more texts, so many are read, evenly over time."""

    name: str
    width: int
    layers: int
    heads: int
    inner: int
    most_texts: int
    schedule: Schedule
    needs_card: bool = False


PROFILES = {
    # Seconds, for tests.
    "tiny": Profile("tiny", 32, 2, 4, 64, 2_000, Schedule(30, 600, 4e-3, 160, (_ANSWERS, _BOTH))),
    # 0.4 million weights, minutes on one thread of a laptop.
    "small": Profile("small", 64, 2, 4, 192, 50_000, Schedule(2_400, 2_000, 8e-3, 480, (_ANSWERS, _BOTH))),
    # 53 million weights and those of the characters, for a card.
    "medium": Profile(
        "medium", 640, 10, 10, 1_920, 2_000_000, Schedule(6_000, 65_536, 6e-4, 480, (_TEXTS, _TASK), 500), True
    ),
}


@dataclass(frozen=True)
class BuiltBase:
    """A finished base: its folder in the layout of transformers, what it learned from, and what its card says."""

    folder: Path
    parameters: int
    data_digest: str
    card: dict[str, Any]


def build_base_model(
    profile: str,
    *,
    until: datetime,
    excluded: EvaluationSet | None,
    watch: Watch,
    seed: int = 0,
    user: User | None = None,
) -> BaseModel:
    """Build a base of the operator's texts up to `until`, store it, and record it as a new one: small-1, small-2 ...

    It waits until no training runs on this machine, and holds the training lock meanwhile. When it is interrupted
    nothing is recorded: the next call begins anew, or goes on from the checkpoint of a profile that keeps one. Raises
    TrainingError with a sentence for the admin; Stopped is one.
    """
    work: Path = settings.VAR_DIR / "bases"
    checkpoint = work / f"{profile}.pt"
    try:
        with turn_to_train(lambda: not watch.should_stop()), _empty_folder(work / profile) as folder:
            built = build_base(
                own_texts(until=until, excluded=excluded, most=PROFILES[profile].most_texts),
                profile=PROFILES[profile],
                prompt=get_prompt(),
                analysis=get_analysis(),
                seed=seed,
                out=folder,
                watch=watch,
                checkpoint=checkpoint,
            )
            base = _record(built, profile=profile, prompt=get_prompt(), until=until, excluded=excluded, user=user)
            checkpoint.unlink(missing_ok=True)
            return base
    except GaveUp as error:
        raise Stopped("The building was stopped before its turn came.") from error


def own_texts(*, until: datetime, excluded: EvaluationSet | None, most: int) -> list[str]:
    """The texts of all items up to `until`, oldest first, at most `most`: of more, every second or third and so on.

    Left out are those in a near-duplicate cluster of a report of `excluded`.
    """
    found = ItemText.objects.filter(at__lte=until).exclude(text="").order_by("pk")
    left_out = _near_to_tests(excluded, found.values_list("pk", "text").iterator(_CHUNK)) if excluded else frozenset()
    every = max(1, -(-(found.count() - len(left_out)) // most))
    texts = (text for pk, text in found.values_list("pk", "text").iterator(_CHUNK) if pk not in left_out)
    return list(islice(texts, 0, None, every))


def build_base(
    texts: Sequence[str],
    *,
    profile: Profile,
    prompt: Prompt,
    analysis: Analysis,
    seed: int,
    out: Path,
    watch: Watch,
    checkpoint: Path | None = None,
) -> BuiltBase:
    """Make tokenizer and weights of raw texts and save them in the folder `out`.

    A fiftieth of the texts, by digest, is held out to measure on. On one CPU thread, which the smaller profiles take,
    the same texts and seed give the same files. Raises TrainingError.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # to write two megabytes needs none, and it would end up in the worker's log
    learned, held_out = _split(texts)
    if not any(learned):
        raise NothingToTrain("There are no item texts to learn from.")
    data_digest = digest_of(texts)
    of = json.dumps([asdict(profile), seed, prompt.version, analysis.name, data_digest])
    with _device(profile) as device:
        tokenizer = build_tokenizer(learned, prompt)
        model = new_model(tokenizer, profile, seed=seed).to(device)
        rows, measured = (
            Rows(some, tokenizer, prompt, analysis=analysis, window=profile.schedule.window)
            for some in (learned, held_out)
        )
        pretrain(model, rows, profile.schedule, seed=seed, watch=watch, checkpoint=checkpoint, of=of)
        figures = {
            "text": loss_per_character(model, measured, _HELD_OUT_TEXT, tokens=profile.schedule.tokens_per_step),
            "answer": loss_per_character(model, measured, _HELD_OUT_ANSWER, tokens=profile.schedule.tokens_per_step),
        }
    model.to("cpu").save_pretrained(out)
    tokenizer.save_pretrained(out)
    card = {
        "profile": asdict(profile),
        "seed": seed,
        "texts": len(learned),
        "characters": sum(map(len, learned)),
        "vocabulary": len(tokenizer),
        "held_out": {"texts": len(held_out), "nll_per_character": figures},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "commit": commit(),
    }
    return BuiltBase(out, model.num_parameters(), data_digest, card)


def new_model(tokenizer: "PreTrainedTokenizerFast", profile: Profile, *, seed: int) -> "Qwen2ForCausalLM":
    """An untrained model of this size, its weights drawn from the seed.

    Queries and keys of the attention begin equal, and what a head writes undoes what it reads, both orthogonal: each
    place then looks at its like from the start and passes it on, which is half of copying. Measured on the demo's
    texts, that saves more than half of the training (docs/experiments.md).
    """
    import torch
    from torch.nn.init import orthogonal_
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=profile.width,
        intermediate_size=profile.inner,
        num_hidden_layers=profile.layers,
        num_attention_heads=profile.heads,
        num_key_value_heads=profile.heads,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.copy_(orthogonal_(attention.q_proj.weight))
            attention.o_proj.weight.copy_(orthogonal_(attention.v_proj.weight).T)
    return model


@contextmanager
def _empty_folder(folder: Path) -> Iterator[Path]:
    """Without what a killed build has left; gone at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _near_to_tests(excluded: EvaluationSet, texts: Iterator[tuple[int, str]]) -> frozenset[int]:
    tested = [text_id for _report_id, text_id in excluded.reports]
    seeds = ItemText.objects.filter(pk__in=tested).values_list("text", flat=True)
    return near_to(seeds.iterator(_CHUNK), texts)


def _split(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is learned and what is measured on: every fiftieth by digest, at most 400; equal texts are on one side."""
    chosen = [text for text in dict.fromkeys(texts) if int(_sha256(text)[:8], 16) % HELD_OUT_OF == 0]
    held_out = set(chosen[:MOST_HELD_OUT])
    return [text for text in texts if text not in held_out], chosen[:MOST_HELD_OUT]


def digest_of(texts: Sequence[str]) -> str:
    """SHA-256 over the digests of the texts, in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(bytes.fromhex(_sha256(text)))
    return digest.hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _device(profile: Profile) -> Iterator[str]:
    """Where the profile is trained. On a CPU that is one thread, so that pages stay quick and sums have one order."""
    import torch

    if profile.needs_card:
        if not torch.cuda.is_available():
            raise TrainingError(f"The profile {profile.name} needs a CUDA card; small does without.")
        yield "cuda"
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield "cpu"
    finally:
        torch.set_num_threads(threads)


def _record(
    built: BuiltBase,
    *,
    profile: str,
    prompt: Prompt,
    until: datetime,
    excluded: EvaluationSet | None,
    user: User | None,
) -> BaseModel:
    digest = store_folder(built.folder)
    with transaction.atomic():
        return BaseModel.objects.create(
            name=next_name(BaseModel, profile),
            digest=digest,
            weights_hash=weights_hash(built.folder),
            tokenizer_hash=tokenizer_hash(built.folder),
            template_hash=template_hash(built.folder),
            prompt_version=prompt.version,
            parameters=built.parameters,
            profile=profile,
            card=built.card | {"excluded": excluded.name if excluded else ""},
            data_digest=built.data_digest,
            data_until=until,
            user=user,
        )

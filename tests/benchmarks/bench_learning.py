"""How fast training and proposing are beside the libraries used plainly, on one card or small on a CPU. A script:

    python tests/benchmarks/bench_learning.py --dir /tmp/bench-learning --shape 7b --turns 1 --steps 15 --json out.json
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_learning.py --dir /tmp/bench-learning --shape tiny

The weights are random and the rows are made up, with the paper's mean lengths: 154 characters in D, 402 where texts are
joined, from half to one and a half times that. Contestants take turns in one process.

**Training** (`sft`, `dpo`): `train_sft` and `train_dpo` beside TRL's own scripts (trl/scripts/sft.py, dpo.py): the same
rows as texts in TRL's columns, the same settings of the recipe, and TRL's defaults for what only decides how it runs.
The scripts are given the tokenizer, since by the model's architecture alone they would take a wrong one for characters.
dpo.py trains a fresh adapter against the bare base; `TRL from the adapter` is the same with ours to start from, as the
method asks, so that both compute the same. Where there is no card, `TRL, card's head` scores the answer's tokens only,
which TRL does on cards alone and ours everywhere. A token is one of our rows sent through the trained model, padding
not counted; the ratio is that of the seconds a step.

**Proposing** (`proposing`): `LocalModel.propose` for all reports in one call, with grammars, masks, confidences and the
check that every query is verbatim, beside one `generate` a report on the same model and adapter, greedy, without a
constraint, with exactly as many new tokens as ours made for that report. Once with up to eight queries a report, once
with one. Random weights end an answer late: those of a trained model are shorter than with eight, longer than with one.

Seconds are those of the clock on a card, and of the processor where there is none, since a CPU is shared. The time of a
whole training (25,772 pairs for 2 epochs and 619 for 5) is extrapolated from the steps, or measured with `--full`.
"""

import argparse
import gc
import json
import math
import os
import platform
import pstats
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from cProfile import Profile
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported: nothing is asked for or reported
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from datasets import Dataset, disable_progress_bars  # noqa: E402
from django.conf import settings  # noqa: E402
from peft import PeftModel  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen2Config,
    TrainerCallback,
)
from transformers.utils.logging import disable_progress_bar  # noqa: E402
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer  # noqa: E402

from extraction.generation import LocalModel, Proposed, open_tokenizer  # noqa: E402
from extraction.prompts import PROMPTS, answer, get_prompt, messages, prompt_ids  # noqa: E402
from extraction.suggest import PROPOSAL_LIMIT  # noqa: E402
from training.config import TrainConfig, load_recipe  # noqa: E402
from training.dpo import dpo_examples, train_dpo  # noqa: E402
from training.sft import sft_examples, train_sft  # noqa: E402
from training.tokenizer import CHAT_TEMPLATE, END, PAD, build_tokenizer  # noqa: E402
from training.trainer_parts import Trained, commit, fast_cpu_head, lora  # noqa: E402
from training.watching import Unwatched, memory_mb  # noqa: E402

WARM_UP = 3
"""Steps that are not counted: memory is allotted and kernels are chosen there."""
PAPER = {"sft": 25_772, "dpo": 619}
"""Rows of D and D_comp (QExplorer section 4.1)."""
RECIPE = "paper-d"
CHARACTERS = 3_000
WORDS = 30_000
CONTENT = 154
JOINED = 402
PHRASES = {"chosen_queries": 2, "rejected_queries": 2}
"""The paper does not say how many phrases a side of D_comp has; its joined texts are those of two to three reports."""
ENTRIES = 151_643
"""Of Qwen's vocabulary without its special tokens; its models have 151,936 columns."""
COLUMNS = 151_936

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2 model. `columns` 0: the project's own characters, a column each."""

    hidden: int
    inner: int
    layers: int
    heads: int
    columns: int
    tied: bool
    proposing: tuple[int, int]
    """Reports that are answered together, and reports that are answered one by one."""


SHAPES = {
    "tiny": Shape(64, 192, 2, 4, 0, True, (64, 64)),  # the demo's base
    "small": Shape(256, 704, 4, 4, COLUMNS, True, (32, 16)),  # the real vocabulary on a body that a CPU can carry
    "7b": Shape(4_096, 11_008, 32, 32, COLUMNS, False, (96, 8)),  # Qwen1.5-7B
}


# --- the material ---------------------------------------------------------------------------------------------------


class Writer:
    """Texts of Chinese characters, in words with the skewed frequencies of real text, from a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        frequency = 1 / (np.arange(CHARACTERS) + 20)
        drawn = self._rng.choice(CHARACTERS, size=(WORDS, 3), p=frequency / frequency.sum())
        han = [chr(0x4E00 + 5 * number) for number in range(CHARACTERS)]
        lengths = [1 if number < 300 else 1 + number % 3 for number in range(WORDS)]
        words = ["".join(han[place] for place in row[:n]) for row, n in zip(drawn, lengths, strict=True)]
        self._words = np.array(words, dtype=object)
        share = 1 / (np.arange(WORDS) + 3.7)  # Zipf and Mandelbrot
        self._share = share / share.sum()

    def text(self, mean: int) -> str:
        """Of `mean` characters, give or take a half."""
        length = int(self._rng.integers(mean // 2, mean + mean // 2, endpoint=True))
        return "".join(self._rng.choice(self._words, size=length, p=self._share))[:length]

    def phrases(self, text: str, count: int) -> list[str]:
        """Of 2 to 10 characters (QExplorer eq. 1)."""
        lengths = self._rng.integers(2, 10, size=count, endpoint=True)
        starts = [int(self._rng.integers(0, len(text) - length)) for length in lengths]
        return [text[start : start + length] for start, length in zip(starts, lengths, strict=True)]

    def sft_row(self) -> Row:
        text = self.text(CONTENT)
        return {"content": text, "queries": self.phrases(text, 1)}

    def dpo_row(self) -> Row:
        text = self.text(JOINED)
        return {"content": text, **{side: self.phrases(text, count) for side, count in PHRASES.items()}}

    def rows(self, kind: str, count: int) -> list[Row]:
        make = self.sft_row if kind == "sft" else self.dpo_row
        return [make() for _row in range(count)]


def make_base(folder: Path, shape: Shape, seed: int) -> Path:
    """The model folder; it stays for the next run."""
    if folder.exists():
        return folder
    writer = Writer(seed)
    corpus = [writer.text(CONTENT) for _text in range(10_000)]
    tokenizer = make_vocabulary(corpus) if shape.columns else build_tokenizer(corpus, get_prompt())
    config = Qwen2Config(
        vocab_size=shape.columns or len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=32_768,
        tie_word_embeddings=shape.tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    with torch.device(device()):
        model = AutoModelForCausalLM.from_config(config, dtype=precision())
    beside = folder.with_suffix(".new")
    tokenizer.save_pretrained(beside)
    model.save_pretrained(beside)
    return beside.rename(folder)


def make_vocabulary(corpus: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with as many entries as Qwen's, learned from the texts and the prompts.

    No entry has more than three Chinese characters; longer ones would suit these texts better than any real vocabulary
    suits real texts. A token is 1.6 characters here.
    """
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    asked = [prompt.system + prompt.instruction + prompt.lead_in for prompt in PROMPTS.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=9,
        show_progress=False,
    )
    made.train_from_iterator([*corpus, *asked * 100], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


# --- the clock and the memory ---------------------------------------------------------------------------------------


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def precision() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


def seconds() -> float:
    """Of the clock, when the card has done its work; without a card those that the processor spent."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def forget() -> None:
    """Give back memory, and let its peak begin anew."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


class Pace(Unwatched):
    """When the steps of a training ended. The card is waited for only where counting begins and ends."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._step = 0
        self._at: dict[int, float] = {}
        self.notes: list[str] = []

    def ended(self) -> None:
        self._step += 1
        if self._step in (WARM_UP, self._steps):
            self._at[self._step] = seconds()

    def should_stop(self) -> bool:
        self.ended()
        return False

    def saved(self, checkpoint: Path, step: int) -> None:
        self.save_s = seconds() - self._at[step]

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    @property
    def step_s(self) -> float:
        if self.notes:  # the steps were not those that were asked for: the memory did not suffice, say
            raise RuntimeError(" ".join(self.notes))
        return (self._at[self._steps] - self._at[WARM_UP]) / (self._steps - WARM_UP)


class Ticking(TrainerCallback):  # type: ignore[misc]  # the library is untyped
    """A Pace for a trainer that is not ours."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._pace.ended()


# --- training -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """One training of some steps. `call_s`: all of `train_sft` or `train_dpo`, from reading rows to the record."""

    step_s: float
    memory_mb: int
    call_s: float = 0.0
    save_s: float = 0.0


@dataclass(frozen=True)
class Bench:
    """What a training starts from."""

    base: Path
    start: Path
    """An adapter of the base that was hardly trained."""


def train(bench: Bench, rows: Sequence[Row], config: TrainConfig, watch: Unwatched, place: Path) -> Trained:
    """Ours: SFT of the base, or DPO of the adapter."""
    call = train_sft if config.kind == "sft" else partial(train_dpo, start=bench.start)
    return call(
        rows,
        base=bench.base,
        prompt=get_prompt(),
        config=config,
        out=place / "out",
        work=place / "work",
        watch=watch,
    )


def our_turn(bench: Bench, rows: Sequence[Row], config: TrainConfig, place: Path) -> Turn:
    pace = Pace(config.max_steps)
    began = seconds()
    train(bench, rows, config, pace, place)
    return Turn(pace.step_s, memory_mb(), seconds() - began, pace.save_s)


def trl_turn(
    bench: Bench, rows: Sequence[Row], config: TrainConfig, place: Path, *, adapter: bool = False, head: bool = False
) -> Turn:
    """TRL's script; DPO from our `adapter` instead of a fresh one, on a CPU with the `head` that it has on a card."""
    make = trl_sft if config.kind == "sft" else partial(trl_dpo, adapter=adapter)
    trainer = make(bench, rows, config, place)
    pace = Pace(config.max_steps)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Ticking(pace))
    with fast_cpu_head() if head else nullcontext():
        trainer.train()
    return Turn(pace.step_s, memory_mb())


def trl_sft(bench: Bench, rows: Sequence[Row], config: TrainConfig, place: Path) -> SFTTrainer:
    prompt = get_prompt()
    texts = [{"prompt": messages(row["content"], prompt), "completion": said(row["queries"])} for row in rows]
    return SFTTrainer(
        model=str(bench.base),
        args=SFTConfig(**script_settings(config, place)),
        train_dataset=Dataset.from_list(texts),
        processing_class=open_tokenizer(bench.base),
        peft_config=lora(config),
    )


def trl_dpo(bench: Bench, rows: Sequence[Row], config: TrainConfig, place: Path, *, adapter: bool) -> DPOTrainer:
    sides = {"chosen": "chosen_queries", "rejected": "rejected_queries"}
    texts = [
        {
            "prompt": messages(row["content"], get_prompt()),
            **{column: said(row[queries]) for column, queries in sides.items()},
        }
        for row in rows
    ]
    stated = script_settings(config, place)
    model: Any = str(bench.base)
    if adapter:
        model = AutoModelForCausalLM.from_pretrained(bench.base, **stated.pop("model_init_kwargs"))
        model = PeftModel.from_pretrained(model, bench.start, is_trainable=True)
    args = DPOConfig(
        **stated,
        beta=config.beta,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, config.gamma],
    )
    return DPOTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(texts),
        processing_class=open_tokenizer(bench.base),
        peft_config=None if adapter else lora(config),
    )


def said(queries: Sequence[str]) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": answer(queries, get_prompt())}]


def script_settings(config: TrainConfig, place: Path) -> dict[str, Any]:
    """What the scripts are told. Optimizer, logging and checkpoints stay as TRL has them."""
    on_card = torch.cuda.is_available()
    return {
        "output_dir": str(place),
        "model_init_kwargs": {"dtype": "bfloat16" if on_card else "float32"},
        "max_steps": config.max_steps,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.scheduler,
        "warmup_steps": config.warmup,
        "per_device_train_batch_size": config.micro_batch_size,
        "gradient_accumulation_steps": config.batch_size // config.micro_batch_size,
        "max_length": config.max_length,
        "activation_checkpointing": config.activation_checkpointing == "on",
        "bf16": on_card,
        "use_cpu": not on_card,
        "seed": config.seed,
        "disable_tqdm": True,
    }


def contestants(kind: str) -> dict[str, Callable[..., Turn]]:
    """Ours first."""
    found: dict[str, Callable[..., Turn]] = {"ours": our_turn, "TRL's script": trl_turn}
    if kind == "dpo":
        found["TRL from the adapter"] = partial(trl_turn, adapter=True)
    if not torch.cuda.is_available():
        found["TRL, card's head"] = partial(trl_turn, adapter=kind == "dpo", head=True)
    return found


def run_training(bench: Bench, config: TrainConfig, given: argparse.Namespace) -> dict[str, Any]:
    rows = Writer(given.seed).rows(config.kind, config.max_steps * config.batch_size)
    per_row, read_s = row_figures(bench, rows, config)
    turns: dict[str, list[Turn]] = {name: [] for name in contestants(config.kind)}
    for _turn in range(given.turns):
        for name, run in contestants(config.kind).items():
            forget()
            with TemporaryDirectory(dir=given.dir) as place:
                turns[name].append(run(bench, rows, config, Path(place)))
    ours = turns["ours"]
    figures: dict[str, Any] = {
        "batch_size": config.batch_size,
        "micro_batch_size": config.micro_batch_size,
        "activation_checkpointing": config.activation_checkpointing,
        "steps_counted": config.max_steps - WARM_UP,
        "tokens_a_row": round(per_row, 1),
    }
    for name, ran in turns.items():
        step_s = median(turn.step_s for turn in ran)
        figures[name] = {
            "tokens_a_s": round(config.batch_size * per_row / step_s),
            "step_s": [round(turn.step_s, 4) for turn in ran],
            "peak_memory_mb": max(turn.memory_mb for turn in ran),
        }
        if name != "ours":
            ratios = [theirs.step_s / own.step_s for theirs, own in zip(ran, ours, strict=True)]
            figures[f"ours / {name}"] = round(median(ratios), 2)
    return {**figures, "whole training": extrapolated(config, ours, len(rows), read_s)}


def row_figures(bench: Bench, rows: Sequence[Row], config: TrainConfig) -> tuple[float, float]:
    """Tokens that a row sends through the trained model, and the seconds to make its ids."""
    tokenizer = open_tokenizer(bench.base)
    read = sft_examples if config.kind == "sft" else dpo_examples
    began = seconds()
    examples = read(rows, tokenizer, get_prompt(), config.max_length).rows
    read_s = (seconds() - began) / len(rows)
    if config.kind == "sft":
        tokens = sum(len(row["input_ids"]) for row in examples)
    else:
        tokens = sum(2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in examples)
    return tokens / len(rows), read_s


def extrapolated(config: TrainConfig, turns: Sequence[Turn], rows: int, read_s: float) -> dict[str, float]:
    """The paper's training: its rows, steps and checkpoints, and what a call needs beside them (loading, the record).

    `turns` are ours, of `rows` rows; `read_s` makes the ids of one.
    """
    step_s = median(turn.step_s for turn in turns)
    save_s = median(turn.save_s for turn in turns)
    call_s = median(turn.call_s for turn in turns)
    beside_s = call_s - rows * read_s - config.max_steps * step_s - save_s
    steps = config.epochs * math.ceil(PAPER[config.kind] / config.batch_size)
    saves = steps // config.save_steps + 1
    return {
        "rows": PAPER[config.kind],
        "steps": steps,
        "row_ms": round(1000 * read_s, 2),
        "step_s": round(step_s, 4),
        "checkpoint_s": round(save_s, 2),
        "beside_s": round(beside_s, 1),
        "extrapolated_s": round(beside_s + PAPER[config.kind] * read_s + steps * step_s + saves * save_s),
    }


def run_full(bench: Bench, configs: Mapping[str, TrainConfig], given: argparse.Namespace) -> dict[str, Any]:
    """The paper's two trainings after one another, by the clock."""
    figures: dict[str, Any] = {}
    with TemporaryDirectory(dir=given.dir) as place:
        for kind, config in configs.items():
            rows = Writer(given.seed).rows(kind, PAPER[kind])
            forget()
            began = time.perf_counter()
            trained = train(bench, rows, replace(config, max_steps=0), Unwatched(), Path(place) / kind)
            took = time.perf_counter() - began
            figures[kind] = {"whole_training_s": round(took), "steps": trained.step, "peak_memory_mb": memory_mb()}
            bench = replace(bench, start=Path(place) / kind / "out")
    return figures


# --- proposing ------------------------------------------------------------------------------------------------------


class Counting(LocalModel):
    """Keeps how many new tokens the answer to each text took, its end included."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.new_tokens: dict[str, int] = {}

    def _proposed(self, answer: Any, source: str, limit: int) -> list[Proposed]:
        end = self._constraint.end
        self.new_tokens[source] = answer.ids.index(end) + 1 if end in answer.ids else len(answer.ids)
        return super()._proposed(answer, source, limit)

    def alone(self, text: str) -> str:
        """What a plain `generate` says to this text, by the adapter that spoke last."""
        ids = torch.tensor([prompt_ids(self._tokenizer, text, self._prompt)], device=self._model.device)
        count = self.new_tokens[text]
        config = GenerationConfig(
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            eos_token_id=self._constraint.end,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        with torch.inference_mode():
            whole = self._model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config)
        return str(self._tokenizer.decode(whole[0, ids.shape[1] :]))


def run_proposing(bench: Bench, shape: Shape, given: argparse.Namespace) -> dict[str, Any]:
    writer = Writer(given.seed + 1)
    texts = [writer.text(CONTENT) for _report in range(max(shape.proposing))]
    forget()
    model = Counting.open(bench.base, prompt=get_prompt())
    model.load_adapter("bench", bench.start)
    return {
        f"at most {limit}": proposing_figures(model, texts, limit, shape.proposing, given.turns)
        for limit in (PROPOSAL_LIMIT, 1)
    }


def proposing_figures(
    model: Counting, texts: Sequence[str], limit: int, reports: tuple[int, int], turns: int
) -> dict[str, Any]:
    together, one_by_one = reports

    def ours() -> list[list[Proposed]]:
        return model.propose(texts[:together], ["bench"] * together, limit=limit)

    def plain() -> list[str]:
        return [model.alone(text) for text in texts[:one_by_one]]

    queries = sum(map(len, ours()))
    model.alone(texts[0])
    took: dict[str, list[float]] = {"ours": [], "plain": []}
    memory = {}
    for _turn in range(turns):
        for name, call, count in (("ours", ours, together), ("plain", plain, one_by_one)):
            forget()
            took[name].append(elapsed(call) / count)
            memory[name] = memory_mb()
    ratio = median(alone / own for own, alone in zip(took["ours"], took["plain"], strict=True))
    return {
        "reports": {"ours": together, "plain": one_by_one},
        "new_tokens_a_report": {
            "ours": round(sum(model.new_tokens.values()) / together, 1),
            "plain": round(sum(model.new_tokens[text] for text in texts[:one_by_one]) / one_by_one, 1),
        },
        "reports_a_s": {name: round(1 / median(of_all), 2) for name, of_all in took.items()},
        "suggestions_a_s": {"ours": round(queries / together / median(took["ours"]), 1)},
        "report_s": {name: [round(one, 4) for one in of_all] for name, of_all in took.items()},
        "ours / plain": round(ratio, 1),
        "peak_memory_mb": memory,
        "share_of_time": shares(ours),
    }


def elapsed(call: Callable[[], object]) -> float:
    began = seconds()
    call()
    return seconds() - began


def shares(call: Callable[[], object]) -> dict[str, float]:
    """Of the time of one more call under a profiler: making grammars, filling bits of masks, all of the masks' work."""
    profile = Profile(time.perf_counter)
    profile.runcall(call)
    stats = vars(pstats.Stats(profile))

    def share(method: str) -> float:
        lines = stats["stats"].items()
        spent = [line[3] for (file, _at, name), line in lines if name == method and file.endswith("constraint.py")]
        return round(float(sum(spent) / stats["total_tt"]), 3)

    return {"grammars": share("matcher"), "bits": share("fill"), "masks": share("__call__")}


# --- the whole ------------------------------------------------------------------------------------------------------


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--dir", type=Path, required=True, help="where the base is made and kept for the next run")
    options.add_argument("--shape", choices=SHAPES, default="tiny")
    options.add_argument("--parts", nargs="+", choices=["sft", "dpo", "proposing"], default=["sft", "dpo", "proposing"])
    options.add_argument("--steps", type=int, default=20, help="of each training, the first three uncounted")
    options.add_argument("--turns", type=int, default=2)
    options.add_argument("--micro", type=int, default=0, help="rows at a time, if the card does not hold the recipe's")
    options.add_argument("--checkpointing", choices=["on", "off"], default="off", help="of activations")
    options.add_argument("--full", action="store_true", help="run the paper's two trainings too")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", type=Path, help="write the figures here too, after each part")
    run(options.parse_args())


def run(given: argparse.Namespace) -> None:
    settings.configure()
    disable_progress_bars()
    disable_progress_bar()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    shape = SHAPES[given.shape]
    base = make_base(given.dir / f"{given.shape}-{given.seed}", shape, given.seed)
    configs = {step.kind: configured(step.config, given) for step in load_recipe(RECIPE).steps}
    figures = {"shape": given.shape, "parameters": parameters(base), **surroundings()}
    with TemporaryDirectory(dir=given.dir) as place:
        bench = Bench(base, Path(place) / "out")
        train(bench, Writer(given.seed).rows("sft", 16), replace(configs["sft"], max_steps=1), Unwatched(), Path(place))
        for part, call in parts(bench, shape, configs, given):
            figures[part] = call()
            figures["load_after"] = os.getloadavg()
            if given.json:
                given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


def parts(
    bench: Bench, shape: Shape, configs: Mapping[str, TrainConfig], given: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What is asked for, in order."""
    for kind, config in configs.items():
        if kind in given.parts:
            yield kind, partial(run_training, bench, config, given)
    if "proposing" in given.parts:
        yield "proposing", partial(run_proposing, bench, shape, given)
    if given.full:
        yield "full", partial(run_full, bench, configs, given)


def configured(config: TrainConfig, given: argparse.Namespace) -> TrainConfig:
    """The recipe's training, cut short."""
    return replace(
        config,
        max_steps=given.steps,
        micro_batch_size=given.micro or config.micro_batch_size,
        activation_checkpointing=given.checkpointing,
    )


def parameters(base: Path) -> int:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(Qwen2Config.from_pretrained(base))
    return sum(weights.numel() for weights in model.parameters())


def surroundings() -> dict[str, Any]:
    names = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    cpu = next(names, platform.machine()).rpartition(": ")[2]
    packages = ("torch", "transformers", "peft", "trl", "llguidance", "accelerate", "tokenizers")
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {cpu}",
        "seconds": "of the clock" if torch.cuda.is_available() else "of the processor, one thread",
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "commit": commit(),
    }


if __name__ == "__main__":
    main()

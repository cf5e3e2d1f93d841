"""What the three trainers share: loading a base, the arguments of a trainer, the training itself, what is kept of it.

Each of `sft.py`, `dpo.py` and `pro.py` reads top to bottom and calls these in the same order. The optimisation is the
libraries' (transformers, TRL, PEFT); here is what an unattended run needs around it.
"""

import gc
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extraction.artifacts import SAFE
from extraction.generation import STAMP_FILE, stamp
from extraction.prompts import Prompt
from training.checkpoints import clear_incomplete, completed_step, newest_checkpoint, trainer_state
from training.config import TrainConfig
from training.watching import RECENT, TrainingError, Watch, tell, watching

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, Trainer

TRL_WITH_KNOWN_HEAD = "1.16."
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_ACTIVATION_BYTES = 83
"""Kept for each token, layer and hidden unit: 290 KiB a token and layer of 3,584 units with fp32 LoRA under bf16."""
_SHARE_OF_FREE_MEMORY = 0.8
_METRICS = {
    "loss": "loss",
    "mean_token_accuracy": "token_accuracy",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
}
_DECIDES_NOTHING = {"micro_batch_size", "save_steps", "activation_checkpointing"}
_PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "safetensors", "tokenizers")


class NothingToTrain(TrainingError):
    """No row is left to learn from."""


class OutOfMemoryAtOne(TrainingError):
    """The memory of the card does not hold one row at a time."""


class CannotTrain(TrainingError):
    """This machine, or this number of cards, cannot do what the configuration asks for."""


@dataclass(frozen=True)
class Examples:
    """Rows as token ids, with what was left out by reason, and the most tokens that one row sends through the model."""

    rows: Sequence[Mapping[str, Any]]
    dropped: Mapping[str, int]
    longest: int


@dataclass(frozen=True)
class Fitted:
    """A training that ended in order, finished or stopped: everything else about it is in its newest checkpoint."""

    checkpoint: Path
    step: int
    max_steps: int
    micro_batch_size: int

    @property
    def is_finished(self) -> bool:
        return self.step >= self.max_steps


@dataclass(frozen=True)
class Trained:
    """How a training ended. `adapter` is the finished folder (a model folder after full training); None if stopped."""

    adapter: Path | None
    step: int
    max_steps: int
    checkpoint: Path
    metrics: Mapping[str, float]

    @property
    def is_finished(self) -> bool:
        return self.adapter is not None


def load_base(folder: Path, config: TrainConfig) -> "PreTrainedModel":
    """The base model: bf16 on a CUDA card, fp32 on a CPU and where all weights are trained. Raises CannotTrain."""
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if torch.cuda.is_available() and not config.full else torch.float32
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="sdpa",
        use_safetensors=True,
        trust_remote_code=False,
        **(_four_bit() if config.quantization else {}),
    )
    return model


def load_start(folder: Path, config: TrainConfig, adapter: Path) -> "PeftModel":
    """The base with an adapter that goes on learning, in fp32 also on a bf16 base."""
    from peft import PeftModel

    # ZeRO-3 gathers all weights in one type; TRL does the same for the fresh adapter of SFT.
    is_zero_3 = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"
    base = load_base(folder, config)
    return PeftModel.from_pretrained(base, adapter, is_trainable=True, autocast_adapter_dtype=not is_zero_3)


def lora(config: TrainConfig) -> "LoraConfig":
    """Low-rank matrices at every linear layer but the output (QExplorer section 4.4)."""
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def arguments(
    config: TrainConfig, *, work: Path, model: "PreTrainedModel | PeftModel", micro: int, longest: int
) -> dict[str, Any]:
    """Keywords for the TrainingArguments of all three trainers.

    Every step is logged, so that a broken number is seen before the step's checkpoint is written; the library's filter,
    which shows such a loss as 0, is off. Gradients are clipped at norm 1 and weights do not decay, as in the toolkit
    that the paper used.
    """
    import torch

    on_card = torch.cuda.is_available()
    shape = {"min_lr_rate": config.final_learning_rate} if config.final_learning_rate else None
    return {
        "output_dir": str(work),
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "learning_rate": config.learning_rate,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": _accumulation(config, micro),
        "optim": "adamw_torch",
        "adam_beta1": config.adam_beta1,
        "adam_beta2": config.adam_beta2,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "lr_scheduler_type": "cosine_with_min_lr" if shape else config.scheduler,
        "lr_scheduler_kwargs": shape,
        "warmup_steps": config.warmup,
        "bf16": on_card,
        "use_cpu": not on_card,
        "dataloader_pin_memory": on_card,
        "activation_checkpointing": _recomputes(config, model, tokens=micro * longest),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": 2,
        "seed": config.seed,
        "report_to": [],
        "disable_tqdm": True,
    }


def fit(
    build: "Callable[[int], Trainer]",
    *,
    config: TrainConfig,
    examples: Examples,
    work: Path,
    watch: Watch,
    resume: Path | None,
) -> Fitted:
    """Train to the end, or until the watch says stop, from the newest complete checkpoint of the same training on.

    `build(micro_batch_size)` makes base, adapter and trainer anew: after a lack of memory nothing of the old ones may
    be left. Then the micro-batch is halved, which changes the memory and not the steps, up to rounding and to the SFT
    term of DPO (docs/decisions/0018-token-average.md). Raises NothingToTrain, NotFinite, OutOfMemoryAtOne.
    """
    if not examples.rows:
        raise NothingToTrain(f"No row is left to learn from{_left_out(examples)}.")
    if examples.dropped:
        tell(partial(watch.note, f"{len(examples.rows)} rows are learned from{_left_out(examples)}."))
    work.mkdir(parents=True, exist_ok=True)
    if is_first_process():
        clear_incomplete(work)
    of = _digest(config, examples)
    if resume is not None and completed_step(resume, of=of) is None:
        tell(partial(watch.note, "The stored checkpoint is damaged or of another training; it is not used."))
    micro = config.micro_batch_size
    while (fitted := _attempt(build, micro, config, of=of, work=work, watch=watch, resume=resume)) is None:
        _forget()
        micro = _smaller(config, micro)
        sentence = f"Out of memory: goes on with {micro} rows at a time, {config.batch_size // micro} times a step."
        tell(partial(watch.note, sentence))
    return fitted


def _attempt(
    build: "Callable[[int], Trainer]",
    micro: int,
    config: TrainConfig,
    *,
    of: str,
    work: Path,
    watch: Watch,
    resume: Path | None,
) -> Fitted | None:
    """One training with this micro-batch; None where the memory did not suffice for it."""
    import torch
    from transformers import PrinterCallback

    checkpoint = newest_checkpoint(work, of=of, also=resume)
    if checkpoint is not None:
        reached = _fitted(checkpoint, micro)
        if reached.is_finished:  # the process ended between the last step and the saving of the result
            return reached
        tell(partial(watch.note, f"Goes on from the checkpoint of step {reached.step}."))
    _keep_to_ourselves()
    try:
        trainer = build(micro)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watching(watch, work=work, of=of))
        with fast_cpu_head(), _threads(config.threads):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except torch.OutOfMemoryError:
        return None
    newest = newest_checkpoint(work, of=of)
    if newest is None:
        raise RuntimeError(f"The training left no checkpoint in {work}.")
    return _fitted(newest, micro)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Where there is no card, compute with so many threads of the CPU."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if torch.cuda.is_available() else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def fast_cpu_head() -> Iterator[None]:
    """On a CPU, let TRL score the answer's positions only, as it does on a card; elsewhere it would score them all.

    Measured: 0.13 s instead of 1.2 s for a DPO step of 16 pairs, with the same losses. The switch is a private function
    of the one release that was read; with any other release nothing is touched and training is merely slow.
    """
    import torch

    if torch.cuda.is_available() or not version("trl").startswith(TRL_WITH_KNOWN_HEAD):
        yield
        return
    from trl.trainer import utils

    original = utils._use_triton
    utils._use_triton = lambda device: True
    try:
        yield
    finally:
        utils._use_triton = original


def keep(
    fitted: Fitted,
    *,
    out: Path,
    base: Path,
    prompt: Prompt,
    config: TrainConfig,
    examples: Examples,
    start: Path | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Trained:
    """Put the result of a finished training into `out`, whole or not at all, with its record; nothing if it stopped.

    An adapter folder holds exactly its configuration, its weights and the record: the rest of a checkpoint is pickles
    and the optimizer's state. Nothing in it depends on the machine or the time, so equal trainings have equal folders.
    """
    metrics = final_metrics(fitted.checkpoint)
    if not fitted.is_finished:
        return Trained(None, fitted.step, fitted.max_steps, fitted.checkpoint, metrics)
    if is_first_process():
        beside = out.with_name(f".{out.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _copy_model(base, fitted.checkpoint, beside) if config.full else _copy_adapter(fitted.checkpoint, beside)
        record = {
            **stamp(base, prompt.version),
            "config": config.write(),
            "micro_batch_size": fitted.micro_batch_size,
            "start": None if start is None else _sha256(start / ADAPTER_FILES[1]),
            "origin": dict(origin or {}),
            "rows": len(examples.rows),
            "dropped": dict(examples.dropped),
            "steps": fitted.step,
            "metrics": metrics,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
            "commit": commit(),
        }
        (beside / STAMP_FILE).write_text(json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False))
        shutil.rmtree(out, ignore_errors=True)
        beside.rename(out)
    return Trained(out, fitted.step, fitted.max_steps, fitted.checkpoint, metrics)


def final_metrics(checkpoint: Path) -> dict[str, float]:
    """Loss and its companions, each a mean over the last steps (at most RECENT) before the checkpoint."""
    history = [logs for logs in trainer_state(checkpoint)["log_history"] if "loss" in logs][-RECENT:]
    return {
        name: sum(logs[key] for logs in history) / len(history)
        for key, name in _METRICS.items()
        if history and all(key in logs for logs in history)
    }


def is_first_process() -> bool:
    """True on the process that writes; there are others only under `accelerate launch`."""
    return int(os.environ.get("RANK", "0")) == 0


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _accumulation(config: TrainConfig, micro: int) -> int:
    together = micro * _processes()
    if config.batch_size % together:
        raise CannotTrain(
            f"{_processes()} processes of {micro} rows each do not divide the batch of {config.batch_size} rows."
        )
    return config.batch_size // together


def _smaller(config: TrainConfig, micro: int) -> int:
    """The next micro-batch to try: at most half, a divisor of the batch."""
    if micro == 1:
        raise OutOfMemoryAtOne(
            "The card's memory does not hold a single row: switch activation_checkpointing on, lower max_length, "
            "use quantization 4bit, or train on several cards (docs/training.md)."
        )
    if _processes() > 1:  # the others wait for this process in the middle of a step
        raise CannotTrain(f"Out of memory with {micro} rows a card: lower micro_batch_size.")
    return max(size for size in range(1, micro // 2 + 1) if config.batch_size % size == 0)


def _recomputes(config: TrainConfig, model: "PreTrainedModel | PeftModel", tokens: int) -> bool:
    """Whether activations are computed again: as configured, or if the longest micro-batch would fill the card."""
    import torch

    if config.activation_checkpointing != "auto":
        return config.activation_checkpointing == "on"
    if not torch.cuda.is_available():
        return False
    shape = model.config.get_text_config()
    needed = tokens * shape.num_hidden_layers * shape.hidden_size * _ACTIVATION_BYTES
    still_to_come = 0 if model.device.type == "cuda" else model.get_memory_footprint()
    if config.full:  # with gradients and both moments of AdamW
        still_to_come *= 4
    return bool(needed > _SHARE_OF_FREE_MEMORY * (torch.cuda.mem_get_info()[0] - still_to_come))


def _four_bit() -> dict[str, Any]:
    """Keywords of from_pretrained for QLoRA. Raises CannotTrain where four bits cannot be had."""
    import torch

    if not torch.cuda.is_available() or find_spec("bitsandbytes") is None:
        raise CannotTrain("quantization 4bit needs a CUDA card and the package bitsandbytes; leave it empty here.")
    from accelerate import PartialState
    from transformers import BitsAndBytesConfig

    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": four_bit, "device_map": {"": PartialState().local_process_index}}


def _keep_to_ourselves() -> None:
    """TRL reports each trainer that it makes to its authors' server unless told not to: nothing leaves this machine."""
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True


def _forget() -> None:
    """Give back what a failed attempt held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _fitted(checkpoint: Path, micro: int) -> Fitted:
    state = trainer_state(checkpoint)
    return Fitted(checkpoint, state["global_step"], state["max_steps"], micro)


def _left_out(examples: Examples) -> str:
    """As "…, 3 are left out (1 both sides equal, 2 does not fit)"; empty where none is."""
    if not examples.dropped:
        return ""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(examples.dropped.items()))
    return f", {sum(examples.dropped.values())} are left out ({reasons})"


def _digest(config: TrainConfig, examples: Examples) -> str:
    """What is trained. Between two attempts of it the settings may change that decide nothing that is learned."""
    decides = {key: value for key, value in config.write().items() if key not in _DECIDES_NOTHING}
    found = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
    for row in examples.rows:
        found.update(json.dumps(row, sort_keys=True).encode())
    return found.hexdigest()


def _copy_adapter(checkpoint: Path, folder: Path) -> None:
    """The configuration without this machine's path and in a fixed order, and the weights."""
    name, weights = ADAPTER_FILES
    config = json.loads((checkpoint / name).read_text())
    config["base_model_name_or_path"] = ""
    config["target_modules"] = sorted(config["target_modules"])
    (folder / name).write_text(json.dumps(config, indent=1, sort_keys=True))
    shutil.copyfile(checkpoint / weights, folder / weights)


def _copy_model(base: Path, checkpoint: Path, folder: Path) -> None:
    """A model folder: tokenizer and all else as in the base, configuration and weights as trained."""
    for path in base.iterdir():
        if path.suffix in SAFE and ".safetensors" not in path.name:
            shutil.copyfile(path, folder / path.name)
    trained = [*checkpoint.glob("*.safetensors*"), checkpoint / "config.json", checkpoint / "generation_config.json"]
    for path in trained:
        if path.exists():
            shutil.copyfile(path, folder / path.name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commit() -> str:
    """The commit of this code where it runs from a checkout; empty where it was installed otherwise."""
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""

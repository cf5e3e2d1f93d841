"""Supervised fine-tuning on D, D_cat or their union (QExplorer section 3.1).

Eq. (3) sums the loss over the tokens of all answers; TRL, as used here, divides that sum by the number of answer tokens
in the optimizer step. The direction of a step is the same, its length hardly matters to AdamW
(docs/decisions/0018-token-average.md). Only the answer and the end of the turn are learned, never prompt or lead-in.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extraction.generation import model_folder, open_tokenizer
from extraction.prompts import DoesNotFit, Prompt, training_ids
from training.config import TrainConfig
from training.trainer_parts import Examples, Trained, arguments, fit, keep, load_base, lora
from training.watching import Watch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl import SFTTrainer


def train_sft(
    rows: Iterable[Mapping[str, Any]],
    *,
    base: Path | str,
    prompt: Prompt,
    config: TrainConfig,
    out: Path,
    work: Path,
    watch: Watch,
    revision: str = "",
    resume: Path | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Trained:
    """Train an adapter (all weights with `config.full`) on rows with `content` and `queries`; the result is in `out`.

    `base` is a model folder, or a hub name with its revision. `work` belongs to this training: its checkpoints lie
    there, and what an earlier attempt left is gone on from (or from `resume`, a checkpoint from elsewhere, if that is
    further). `origin` goes into the record as it is. Raises TrainingError, ModelRefused.
    """
    folder = model_folder(base, revision)
    tokenizer = open_tokenizer(folder)
    examples = sft_examples(rows, tokenizer, prompt, config.max_length)
    trainer = partial(sft_trainer, examples, base=folder, tokenizer=tokenizer, config=config, work=work)
    fitted = fit(trainer, config=config, examples=examples, work=work, watch=watch, resume=resume)
    return keep(fitted, out=out, base=folder, prompt=prompt, config=config, examples=examples, origin=origin)


def sft_trainer(
    examples: Examples, micro: int, *, base: Path, tokenizer: "PreTrainedTokenizerBase", config: TrainConfig, work: Path
) -> "SFTTrainer":
    """TRL's trainer of the base with a fresh adapter, `micro` rows at a time."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model = load_base(base, config)
    args = SFTConfig(
        **arguments(config, work=work, model=model, micro=micro, longest=examples.longest),
        max_length=config.max_length,
        # The rows carry ids and labels. TRL's own preparation would tokenize prompt and answer as one text, where
        # tokens merge across the border, and would cut what is too long at its end: the answer.
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(examples.rows),
        processing_class=tokenizer,
        peft_config=None if config.full else lora(config),
    )


def sft_examples(
    rows: Iterable[Mapping[str, Any]], tokenizer: "PreTrainedTokenizerBase", prompt: Prompt, max_length: int
) -> Examples:
    """`input_ids` and `labels` of each row; a row that cannot be brought below `max_length` tokens is left out."""
    kept, dropped = [], Counter[str]()
    for row in rows:
        try:
            ids, labels = training_ids(tokenizer, row["content"], row["queries"], prompt, max_length)
        except DoesNotFit:
            dropped["does not fit"] += 1
            continue
        kept.append({"input_ids": ids, "labels": labels})
    return Examples(kept, dropped, max((len(row["input_ids"]) for row in kept), default=0))

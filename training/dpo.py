"""Preference alignment on D_comp, D_comp2 or D_pol (QExplorer section 3.2).

L = L_DPO + γ · L_SFT(preferred), eq. (6), with L_DPO of eq. (5). The model starts as the SFT adapter, and the
reference is a frozen copy *of that adapter*, so one adapter comes out, and it sits on the base of the one that went in.
TRL's losses `sigmoid` and `sft` with weights 1 and γ are the two terms. Deviations: L_SFT is a mean over the
preferred answers' tokens of a micro-batch and not the sum of eq. (3), with which γ = 1 would make it outweigh the
preferences some twenty times (docs/decisions/0018-token-average.md); dropout is off, as TRL has it, so that a log-ratio
is not noise.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extraction.generation import model_folder, open_tokenizer
from extraction.prompts import DoesNotFit, Prompt, answer_ids, fit_content, prompt_ids
from training.config import TrainConfig
from training.trainer_parts import Examples, Trained, arguments, fit, keep, load_start
from training.watching import Watch

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl import DPOTrainer


def train_dpo(
    rows: Iterable[Mapping[str, Any]],
    *,
    base: Path | str,
    start: Path,
    prompt: Prompt,
    config: TrainConfig,
    out: Path,
    work: Path,
    watch: Watch,
    revision: str = "",
    resume: Path | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Trained:
    """Align the adapter in `start` on rows with `content`, `chosen_queries` and `rejected_queries`.

    The rest as in `train_sft`. Raises TrainingError, ModelRefused.
    """
    folder = model_folder(base, revision)
    tokenizer = open_tokenizer(folder)
    examples = dpo_examples(rows, tokenizer, prompt, config.max_length)
    trainer = partial(dpo_trainer, examples, base=folder, start=start, tokenizer=tokenizer, config=config, work=work)
    fitted = fit(trainer, config=config, examples=examples, work=work, watch=watch, resume=resume)
    return keep(
        fitted, out=out, base=folder, prompt=prompt, config=config, examples=examples, start=start, origin=origin
    )


def dpo_trainer(
    examples: Examples,
    micro: int,
    *,
    base: Path,
    start: Path,
    tokenizer: "PreTrainedTokenizerBase",
    config: TrainConfig,
    work: Path,
) -> "DPOTrainer":
    """TRL's trainer of the base with the SFT adapter, `micro` pairs at a time."""
    from datasets import Dataset
    from trl import DPOConfig

    model = load_start(base, config, start)
    args = DPOConfig(
        **arguments(config, work=work, model=model, micro=micro, longest=examples.longest),
        max_length=config.max_length,
        beta=config.beta,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, config.gamma],
    )
    # Neither ref_model nor peft_config: TRL then copies the adapter as the frozen reference `ref`.
    return _trainer_of_ids()(
        model=model, args=args, train_dataset=Dataset.from_list(examples.rows), processing_class=tokenizer
    )


def dpo_examples(
    rows: Iterable[Mapping[str, Any]], tokenizer: "PreTrainedTokenizerBase", prompt: Prompt, max_length: int
) -> Examples:
    """`prompt_ids`, `chosen_ids`, `rejected_ids` of each row; both answers follow the same, equally cut text.

    Left out are rows that cannot be brought below `max_length`, and those whose sides are equal after the cut: they
    would give a loss of ln 2 and no direction.
    """
    kept, dropped = [], Counter[str]()
    for row in rows:
        try:
            example = _pair(row, tokenizer, prompt, max_length)
        except DoesNotFit:
            dropped["does not fit"] += 1
            continue
        if example["chosen_ids"] == example["rejected_ids"]:
            dropped["both sides equal"] += 1
            continue
        kept.append(example)
    longest = max((_tokens(example) for example in kept), default=0)
    return Examples(kept, dropped, longest)


def _pair(
    row: Mapping[str, Any], tokenizer: "PreTrainedTokenizerBase", prompt: Prompt, max_length: int
) -> dict[str, list[int]]:
    """Raises DoesNotFit."""
    content, _ = fit_content(tokenizer, row["content"], row["chosen_queries"], prompt, max_length)
    content, rejected = fit_content(tokenizer, content, row["rejected_queries"], prompt, max_length)
    content, chosen = fit_content(tokenizer, content, row["chosen_queries"], prompt, max_length)
    rejected = [query for query in rejected if query in content]
    if not chosen or not rejected:
        raise DoesNotFit("A side has no query in what fits.")
    return {
        "prompt_ids": prompt_ids(tokenizer, content, prompt),
        "chosen_ids": answer_ids(tokenizer, chosen, prompt),
        "rejected_ids": answer_ids(tokenizer, rejected, prompt),
    }


def _tokens(example: Mapping[str, list[int]]) -> int:
    """What one pair sends through the model: its prompt twice, and both answers."""
    return 2 * len(example["prompt_ids"]) + len(example["chosen_ids"]) + len(example["rejected_ids"])


def _trainer_of_ids() -> "type[DPOTrainer]":
    from trl import DPOTrainer

    class TrainerOfIds(DPOTrainer):
        """A DPOTrainer of rows that are token ids already, made by the functions that also serve.

        TRL would tokenize texts again, prompt and answer as one, and with the tokenizer's own special tokens around.
        """

        def _prepare_dataset(self, dataset: "Dataset", *_args: Any) -> "Dataset":
            return dataset

    return TrainerOfIds

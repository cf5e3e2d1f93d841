"""List-wise alignment on ranked candidates (BEQUE section 3.4; KESR eq. 9-11), the alternative to DPO.

The model starts as the SFT adapter and learns to give its candidates probabilities in the order of their rewards, with
the rewards' gaps as temperatures (`losses.pro_loss`). There is no reference model. Rewards are scaled to [0, 1] within
each list. As in `dpo.py`, dropout is off: candidates are compared with each other.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extraction.generation import model_folder, open_tokenizer
from extraction.prompts import NOT_LEARNED, DoesNotFit, Prompt, answer_ids, fit_content, prompt_ids
from training.config import TrainConfig
from training.losses import TIE, align_loss, mean_log_probs, scaled
from training.trainer_parts import Examples, Trained, arguments, fit, keep, load_start
from training.watching import Watch

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase, Trainer


def train_pro(
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
    """Align the adapter in `start` on rows with `content`, `candidate_queries` and `rewards`.

    The rest as in `train_sft`. Raises TrainingError, ModelRefused.
    """
    folder = model_folder(base, revision)
    tokenizer = open_tokenizer(folder)
    examples = pro_examples(rows, tokenizer, prompt, config.max_length)
    trainer = partial(pro_trainer, examples, base=folder, start=start, tokenizer=tokenizer, config=config, work=work)
    fitted = fit(trainer, config=config, examples=examples, work=work, watch=watch, resume=resume)
    return keep(
        fitted, out=out, base=folder, prompt=prompt, config=config, examples=examples, start=start, origin=origin
    )


def pro_trainer(
    examples: Examples,
    micro: int,
    *,
    base: Path,
    start: Path,
    tokenizer: "PreTrainedTokenizerBase",
    config: TrainConfig,
    work: Path,
) -> "Trainer":
    """A trainer of the base with the SFT adapter, `micro` lists at a time."""
    from transformers import TrainingArguments
    from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

    model = load_start(base, config, start)
    disable_dropout_in_model(model)
    add_fused_lm_head(model.get_base_model())
    args = TrainingArguments(
        **arguments(config, work=work, model=model, micro=micro, longest=examples.longest), remove_unused_columns=False
    )
    return _trainer_of_lists()(
        weight=config.pro_lambda,
        model=model,
        args=args,
        train_dataset=examples.rows,
        processing_class=tokenizer,
        data_collator=partial(collate_lists, pad=int(tokenizer.pad_token_id)),
    )


def pro_examples(
    rows: Iterable[Mapping[str, Any]], tokenizer: "PreTrainedTokenizerBase", prompt: Prompt, max_length: int
) -> Examples:
    """`prompt_ids`, `candidates` (ids of each, best first) and `rewards` (in [0, 1]) of each row.

    A list is left out if fewer than two different candidates fit, or if all of them have the same reward.
    """
    kept, dropped = [], Counter[str]()
    for row in rows:
        example = _list(row, tokenizer, prompt, max_length)
        if len(example["candidates"]) < 2:
            dropped["does not fit"] += 1
            continue
        if example["rewards"][0] - example["rewards"][-1] <= TIE:
            dropped["without an order"] += 1
            continue
        kept.append(example)
    return Examples(kept, dropped, max((_tokens(example) for example in kept), default=0))


def collate_lists(lists: Sequence[Mapping[str, Any]], pad: int) -> "dict[str, Tensor]":
    """A batch of B lists with N candidates in all: input_ids, labels and attention_mask (N, T), padded on the right;
    rewards and mask (B, K), K the most candidates of a list, in whose order the N follow each other."""
    import torch

    sequences = [
        (example["prompt_ids"] + answer, [NOT_LEARNED] * len(example["prompt_ids"]) + answer)
        for example in lists
        for answer in example["candidates"]
    ]
    most = max(len(ids) for ids, _labels in sequences)
    width = max(len(example["rewards"]) for example in lists)
    counts = torch.tensor([len(example["rewards"]) for example in lists])
    return {
        "input_ids": torch.tensor([ids + [pad] * (most - len(ids)) for ids, _labels in sequences]),
        "labels": torch.tensor([labels + [NOT_LEARNED] * (most - len(labels)) for _ids, labels in sequences]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (most - len(ids)) for ids, _labels in sequences]),
        "rewards": torch.tensor([example["rewards"] + [0.0] * (width - len(example["rewards"])) for example in lists]),
        "mask": torch.arange(width)[None, :] < counts[:, None],
    }


def _list(
    row: Mapping[str, Any], tokenizer: "PreTrainedTokenizerBase", prompt: Prompt, max_length: int
) -> dict[str, Any]:
    """The text is cut until the longest candidate fits; those of which nothing is left in it fall away.

    Candidates that are equal then are one, with the best of their rewards.
    """
    content = row["content"]
    for queries in row["candidate_queries"]:
        with suppress(DoesNotFit):
            content, _ = fit_content(tokenizer, content, queries, prompt, max_length)
    ranked = sorted(zip(row["rewards"], row["candidate_queries"], strict=True), key=lambda pair: -pair[0])
    best: dict[tuple[int, ...], float] = {}
    for reward, queries in ranked:
        with suppress(DoesNotFit):
            _, kept = fit_content(tokenizer, content, queries, prompt, max_length)
            best.setdefault(tuple(answer_ids(tokenizer, kept, prompt)), reward)
    return {
        "prompt_ids": prompt_ids(tokenizer, content, prompt),
        "candidates": [list(answer) for answer in best],
        "rewards": scaled(list(best.values())) if best else [],
    }


def _tokens(example: Mapping[str, Any]) -> int:
    """What one list sends through the model: its prompt with each candidate."""
    return sum(len(example["prompt_ids"]) + len(answer) for answer in example["candidates"])


def _trainer_of_lists() -> "type[Trainer]":
    from transformers import Trainer

    class TrainerOfLists(Trainer):
        """`align_loss` over the candidates' log-probabilities, which TRL's fused head gives without the logits."""

        loss_is_scaled_for_ga = False  # a mean over the lists of a micro-batch, which accumulation has to divide

        def __init__(self, *, weight: float, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.weight = weight
            self.lists = 0
            self.margins = 0.0
            self.tokens = 0

        def compute_loss(self, model: Any, inputs: "dict[str, Tensor]", **_kwargs: Any) -> "Tensor":
            rewards, mask = inputs.pop("rewards"), inputs.pop("mask")
            outputs = model(**inputs, fused_lm_head=True)
            found = mean_log_probs(outputs.log_probs, outputs.label_mask)
            scores = found.new_zeros(mask.shape).masked_scatter(mask, found)
            last = scores.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
            self.tokens += int(inputs["attention_mask"].sum())
            self.lists += len(scores)
            self.margins += float((scores[:, 0] - last).detach().sum())
            return align_loss(scores, rewards, mask, self.weight)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if self.lists:
                logs |= {"rewards/margins": self.margins / self.lists, "num_tokens": float(self.tokens)}
                self.lists, self.margins = 0, 0.0
            super().log(logs, start_time)

    return TrainerOfLists

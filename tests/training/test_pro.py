"""PRO: lists as batches, its loss inside a trainer, and what comes out."""

import pytest

from extraction.generation import open_tokenizer
from extraction.prompts import NOT_LEARNED, get_prompt
from tests.tiny import END, base_folder, tiny_adapter
from tests.training.tiny_trainings import Notebook, largest_difference, list_rows, make_config, weights_of
from training.losses import pro_loss
from training.pro import collate_lists, pro_examples, pro_trainer, train_pro
from training.trainer_parts import fast_cpu_head
from training.watching import Unwatched

__all__ = ["base_folder"]
PROMPT = get_prompt("zh-1")


@pytest.fixture(scope="module")
def start(base_folder, tmp_path_factory):
    return tiny_adapter(tmp_path_factory.mktemp("start") / "sft", base_folder)


@pytest.fixture
def train(base_folder, start, tmp_path):
    def run(rows, *, name="run", watch=None, **settings):
        config = make_config(**{"kind": "pro"} | settings)
        places = {"out": tmp_path / f"{name}-out", "work": tmp_path / f"{name}-work"}
        return train_pro(
            rows, base=base_folder, start=start, prompt=PROMPT, config=config, watch=watch or Unwatched(), **places
        )

    return run


@pytest.fixture
def trainer_of(base_folder, start, tmp_path):
    def make(rows, *, micro=4, **settings):
        config, tokenizer = make_config(**{"kind": "pro"} | settings), open_tokenizer(base_folder)
        examples = pro_examples(rows, tokenizer, PROMPT, config.max_length)
        places = {"base": base_folder, "start": start, "work": tmp_path / "work"}
        return pro_trainer(examples, micro, tokenizer=tokenizer, config=config, **places)

    return make


def examples_of(base_folder, row, max_length=512):
    return pro_examples([row], open_tokenizer(base_folder), PROMPT, max_length)


def loss_by_hand(model, batch, weight):
    """Each candidate's mean log-probability from the logits, then eq. (9) list by list."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    log_probs = torch.log_softmax(logits[:, :-1].float(), -1)
    labels = batch["labels"][:, 1:]
    scores = iter(
        [
            log_probs[number].gather(-1, label.clamp(min=0)[:, None])[:, 0][label != NOT_LEARNED].mean()
            for number, label in enumerate(labels)
        ]
    )
    losses = []
    for rewards, mask in zip(batch["rewards"], batch["mask"], strict=True):
        own = torch.stack([next(scores) for _ in range(int(mask.sum()))])[None]
        gaps = rewards[: own.shape[1]][None]
        losses.append(pro_loss(own, gaps, torch.ones_like(gaps, dtype=torch.bool))[0] - weight * own[0, 0])
    return torch.stack(losses).mean().item()


def test_candidates_go_from_best_to_worst_with_scaled_rewards(base_folder):
    tokenizer = open_tokenizer(base_folder)
    (example,) = pro_examples(list_rows(2)[1:], tokenizer, PROMPT, 512).rows
    assert [tokenizer.decode(answer) for answer in example["candidates"]] == [
        "微信薇1，刷单" + END,
        "兼职" + END,
        "日结" + END,
    ]
    assert example["rewards"] == pytest.approx([1.0, 1 / 3, 0.0])


def test_batch_keeps_lists_of_different_length_apart():
    lists = [
        {"prompt_ids": [1, 2], "candidates": [[3, 4], [5]], "rewards": [1.0, 0.0]},
        {"prompt_ids": [6], "candidates": [[7], [8], [9]], "rewards": [1.0, 0.5, 0.0]},
    ]
    batch = {name: values.tolist() for name, values in collate_lists(lists, pad=0).items()}
    assert batch["input_ids"] == [[1, 2, 3, 4], [1, 2, 5, 0], [6, 7, 0, 0], [6, 8, 0, 0], [6, 9, 0, 0]]
    assert batch["labels"][:3] == [[-100, -100, 3, 4], [-100, -100, 5, -100], [-100, 7, -100, -100]]
    assert batch["attention_mask"][1] == [1, 1, 1, 0]
    assert batch["rewards"] == [[1.0, 0.0, 0.0], [1.0, 0.5, 0.0]]
    assert batch["mask"] == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_loss_is_eq_9_on_the_mean_log_probabilities(trainer_of, weight):
    trainer = trainer_of(list_rows(4), pro_lambda=weight)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    expected = loss_by_hand(trainer.model, batch, weight)
    with fast_cpu_head():
        loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("micro", [1, 2])
def test_smaller_micro_batches_follow_the_same_path(train, micro):
    whole = train(list_rows(8), name="whole", epochs=2)
    parts = train(list_rows(8), name="parts", epochs=2, micro_batch_size=micro)
    assert parts.metrics["loss"] == pytest.approx(whole.metrics["loss"], abs=1e-5)
    assert largest_difference(weights_of(whole.adapter), weights_of(parts.adapter)) < 2e-3


def test_best_comes_to_lead_over_the_last(train):
    watch = Notebook()
    train(list_rows(8), watch=watch, epochs=8)
    assert watch.reports[-1].reward_margin > watch.reports[0].reward_margin + 0.1


def test_result_is_one_adapter_that_moved(train, start):
    trained = train(list_rows(8))
    assert {path.name for path in trained.adapter.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "training.json"
    }  # fmt: skip
    assert largest_difference(weights_of(trained.adapter), weights_of(start)) > 1e-3


def test_equal_candidates_are_one_with_the_best_reward(base_folder):
    row = {"content": "加微信办证", "candidate_queries": [["办证"], ["加微信"], ["办证"]], "rewards": [0.0, 1.0, 2.0]}
    (example,) = examples_of(base_folder, row).rows
    assert example["rewards"] == [1.0, 0.0]


def test_candidate_that_the_cut_took_away_falls_out_alone(base_folder):
    row = {
        "content": "加微信" + "今天" * 150 + "办证" + "今天" * 150 + "刷单",
        "candidate_queries": [["刷单"], ["办证"], ["加微信"]],
        "rewards": [3.0, 2.0, 1.0],
    }
    (example,) = examples_of(base_folder, row, 256).rows
    assert example["rewards"] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("queries", "rewards", "reason"),
    [
        ([["办证"], ["加微信"]], [1.0, 1.0], "without an order"),
        ([["办证"], ["办证"]], [1.0, 0.0], "does not fit"),
        ([["不在"], ["办证"]], [1.0, 0.0], "does not fit"),
        ([], [], "does not fit"),
    ],
)
def test_list_without_an_order_is_left_out_and_counted(base_folder, queries, rewards, reason):
    row = {"content": "加微信办证", "candidate_queries": queries, "rewards": rewards}
    examples = examples_of(base_folder, row)
    assert (examples.rows, examples.dropped) == ([], {reason: 1})

"""DPO: eq. (5) and (6), the frozen SFT adapter as the reference, and what comes out."""

import json
from hashlib import sha256

import pytest

from extraction.generation import open_tokenizer
from extraction.prompts import NOT_LEARNED, get_prompt
from tests.tiny import END, base_folder, tiny_adapter
from tests.training.tiny_trainings import Notebook, largest_difference, make_config, pair_rows, weights_of
from training.dpo import dpo_examples, dpo_trainer, train_dpo
from training.trainer_parts import NothingToTrain, fast_cpu_head
from training.watching import Unwatched

__all__ = ["base_folder"]
PROMPT = get_prompt("zh-1")


@pytest.fixture(scope="module")
def start(base_folder, tmp_path_factory):
    """An SFT adapter that says something else than the base."""
    return tiny_adapter(tmp_path_factory.mktemp("start") / "sft", base_folder)


@pytest.fixture
def train(base_folder, start, tmp_path):
    def run(rows, *, name="run", watch=None, **settings):
        config = make_config(**{"kind": "dpo"} | settings)
        places = {"out": tmp_path / f"{name}-out", "work": tmp_path / f"{name}-work"}
        return train_dpo(
            rows, base=base_folder, start=start, prompt=PROMPT, config=config, watch=watch or Unwatched(), **places
        )

    return run


@pytest.fixture
def trainer_of(base_folder, start, tmp_path):
    def make(rows, *, micro=4, **settings):
        config, tokenizer = make_config(**{"kind": "dpo"} | settings), open_tokenizer(base_folder)
        examples = dpo_examples(rows, tokenizer, PROMPT, config.max_length)
        places = {"base": base_folder, "start": start, "work": tmp_path / "work"}
        return dpo_trainer(examples, micro, tokenizer=tokenizer, config=config, **places)

    return make


def answer_log_probs(model, batch):
    """Log-probability of each answer token and 0 elsewhere, (2B, T - 1): chosen first, then rejected."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    log_probs = torch.log_softmax(logits[:, :-1].float(), -1)
    chosen = log_probs.gather(-1, batch["input_ids"][:, 1:, None])[:, :, 0]
    return chosen * batch["completion_mask"][:, 1:]


def loss_by_hand(model, batch, *, beta, gamma):
    """Eq. (5) with summed log-probabilities, plus γ times the mean over the preferred answers' tokens."""
    import torch

    model.set_adapter("default")
    policy = answer_log_probs(model, batch)
    model.set_adapter("ref")
    reference = answer_log_probs(model, batch)
    model.set_adapter("default")
    ratios = (policy - reference).sum(-1)
    chosen, rejected = ratios.chunk(2)
    preference = -torch.nn.functional.logsigmoid(beta * (chosen - rejected)).mean()
    preferred_tokens = batch["completion_mask"][:, 1:].chunk(2)[0].sum()
    return (preference - gamma * policy.chunk(2)[0].sum() / preferred_tokens).item()


@pytest.mark.parametrize("gamma", [0.0, 1.0, 0.5])
def test_loss_is_eq_5_plus_gamma_times_the_token_mean(trainer_of, gamma):
    trainer = trainer_of(pair_rows(8), gamma=gamma, beta=0.3)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.train()  # away from the reference, where eq. (5) is ln 2 whatever the sign
    trainer.model.eval()
    expected = loss_by_hand(trainer.model, batch, beta=0.3, gamma=gamma)
    with fast_cpu_head():
        loss = trainer.compute_loss(trainer.model, dict(batch)).item()
    assert loss == pytest.approx(expected, abs=1e-5)
    assert abs(loss - gamma * 6) > 0.01


def test_preference_alone_starts_at_ln_2(train):
    watch = Notebook()
    train(pair_rows(4), watch=watch, gamma=0.0)
    assert watch.reports[0].loss == pytest.approx(0.693147, abs=1e-5)
    assert watch.reports[0].reward_margin == pytest.approx(0.0, abs=1e-6)


def test_reference_stays_the_sft_adapter(trainer_of, start):
    trainer = trainer_of(pair_rows(8))
    trainer.train()
    sft = weights_of(start)
    inside = dict(trainer.model.named_parameters())
    for name, weight in sft.items():
        reference = inside[name.replace(".weight", ".ref.weight")]
        policy = inside[name.replace(".weight", ".default.weight")]
        assert reference.equal(weight)
        assert not policy.equal(weight)
        assert not reference.requires_grad


def test_base_does_not_move(trainer_of, base_folder):
    trainer = trainer_of(pair_rows(8))
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if "lora_" not in name}
    trainer.train()
    assert all(dict(trainer.model.named_parameters())[name].equal(weight) for name, weight in before.items())


def test_margin_grows(train):
    watch = Notebook()
    train(pair_rows(8), watch=watch, epochs=6)
    assert watch.reports[-1].reward_margin > 0.1


def test_result_is_one_adapter_of_the_same_base(train, start):
    trained = train(pair_rows(8))
    assert {path.name for path in trained.adapter.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "training.json"
    }  # fmt: skip
    record = json.loads((trained.adapter / "training.json").read_text())
    assert record["start"] == sha256((start / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert weights_of(trained.adapter).keys() == weights_of(start).keys()
    assert trained.metrics.keys() == {"loss", "token_accuracy", "reward_margin", "reward_accuracy"}


def test_pair_has_one_prompt_and_two_answers(base_folder):
    tokenizer = open_tokenizer(base_folder)
    (pair,) = dpo_examples(pair_rows(2)[1:], tokenizer, PROMPT, 512).rows
    assert tokenizer.decode(pair["prompt_ids"]).endswith("assistant\n关键词：\n")
    assert tokenizer.decode(pair["chosen_ids"]) == "微信薇1，刷单" + END
    assert tokenizer.decode(pair["rejected_ids"]) == "日结" + END


def test_batch_masks_all_but_the_answers(trainer_of):
    trainer = trainer_of(pair_rows(4))
    batch = next(iter(trainer.get_train_dataloader()))
    shown = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, NOT_LEARNED)
    answers = [trainer.processing_class.decode(row[row != NOT_LEARNED]) for row in shown]
    assert sorted(answers[4:]) == ["日结" + END] * 4
    assert all(answer.startswith("微信薇") and answer.endswith(END) for answer in answers[:4])


def test_longer_text_is_cut_equally_for_both_sides(base_folder):
    tokenizer = open_tokenizer(base_folder)
    row = {
        "content": "加微信" + "今天" * 300 + "代开发票办证刷单",
        "chosen_queries": ["办证"],
        "rejected_queries": ["加微信", "代开发票", "刷单"],
    }
    (pair,) = dpo_examples([row], tokenizer, PROMPT, 256).rows
    assert len(pair["prompt_ids"]) + len(pair["rejected_ids"]) <= 256
    assert tokenizer.decode(pair["rejected_ids"]) == "加微信，代开发票，刷单" + END


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (["办证"], ["办证"], "both sides equal"),
        (["办证"], [], "does not fit"),
        ([], ["办证"], "does not fit"),
        (["不在"], ["办证"], "does not fit"),
    ],
)
def test_pair_that_teaches_nothing_is_left_out_and_counted(base_folder, chosen, rejected, reason):
    row = {"content": "加微信办证", "chosen_queries": chosen, "rejected_queries": rejected}
    examples = dpo_examples([row], open_tokenizer(base_folder), PROMPT, 256)
    assert (examples.rows, examples.dropped) == ([], {reason: 1})


def test_pair_that_differs_only_in_what_was_cut_is_left_out(base_folder):
    row = {
        "content": "加微信" + "今天" * 150 + "办证" + "今天" * 150 + "刷单",
        "chosen_queries": ["刷单", "办证"],
        "rejected_queries": ["刷单"],
    }
    examples = dpo_examples([row], open_tokenizer(base_folder), PROMPT, 256)
    assert examples.dropped == {"both sides equal": 1}


def test_no_pair_left_is_an_error_with_the_reasons(train):
    row = {"content": "加微信办证", "chosen_queries": ["办证"], "rejected_queries": ["办证"]}
    with pytest.raises(NothingToTrain, match=r"No row is left to learn from, 1 are left out \(1 both sides equal\)"):
        train([row])


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_smaller_micro_batches_follow_the_same_path(train, gamma):
    # Answers of equal length: there the token mean of a micro-batch and that of the batch are the same.
    rows = pair_rows(10)[::2]
    whole = train(rows, name="whole", epochs=2, gamma=gamma)
    parts = train(rows, name="parts", epochs=2, gamma=gamma, micro_batch_size=1)
    assert parts.metrics["loss"] == pytest.approx(whole.metrics["loss"], abs=1e-5)
    assert largest_difference(weights_of(whole.adapter), weights_of(parts.adapter)) < 2e-3

"""SFT: what is learned, by which loss, and what comes out."""

import json

import pytest

from extraction.generation import ModelRefused, model_folder, open_tokenizer, read_stamp, stamp, tokenizer_hash
from extraction.prompts import NOT_LEARNED, get_prompt, messages
from tests.tiny import END, base_folder
from tests.training.tiny_trainings import Notebook, largest_difference, make_config, sft_rows, weights_of
from training.sft import sft_examples, sft_trainer, train_sft
from training.trainer_parts import CannotTrain, NothingToTrain, fast_cpu_head
from training.watching import Unwatched

__all__ = ["base_folder"]
PROMPT = get_prompt("zh-1")


@pytest.fixture
def train(base_folder, tmp_path):
    """`train(rows, batch_size=2)` trains the tiny base in folders of its own; the watch is `train.watch`."""

    def run(rows, *, name="run", watch=None, **settings):
        config = make_config(**settings)
        places = {"out": tmp_path / f"{name}-out", "work": tmp_path / f"{name}-work"}
        return train_sft(rows, base=base_folder, prompt=PROMPT, config=config, watch=watch or Unwatched(), **places)

    return run


@pytest.fixture
def trainer_of(base_folder, tmp_path):
    def make(rows, *, micro=4, **settings):
        config, tokenizer = make_config(**settings), open_tokenizer(base_folder)
        examples = sft_examples(rows, tokenizer, PROMPT, config.max_length)
        return sft_trainer(examples, micro, base=base_folder, tokenizer=tokenizer, config=config, work=tmp_path / "w")

    return make


def loss_by_hand(model, batch):
    """Eq. (3) divided by the number of answer tokens, from the logits."""
    import torch

    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    log_probs = torch.log_softmax(logits[:, :-1].float(), -1)
    labels = batch["labels"][:, 1:]
    learned = labels != NOT_LEARNED
    chosen = log_probs.gather(-1, labels.clamp(min=0)[:, :, None])[:, :, 0]
    return -chosen[learned].sum() / learned.sum()


def test_only_answer_and_end_of_turn_are_learned(base_folder):
    tokenizer = open_tokenizer(base_folder)
    (row,) = sft_rows(2)[1:]
    (example,) = sft_examples([row], tokenizer, PROMPT, 512).rows
    learned = [id_ for id_, label in zip(*example.values(), strict=True) if label != NOT_LEARNED]
    assert tokenizer.decode(learned) == "，".join(row["queries"]) + END
    assert [label for label in example["labels"] if label != NOT_LEARNED] == learned


def test_row_is_what_the_models_own_template_makes_of_the_conversation(base_folder):
    tokenizer = open_tokenizer(base_folder)
    (row,) = sft_rows(2)[1:]
    (example,) = sft_examples([row], tokenizer, PROMPT, 512).rows
    said = {"role": "assistant", "content": PROMPT.lead_in + "，".join(row["queries"])}
    whole = tokenizer.apply_chat_template([*messages(row["content"], PROMPT), said], tokenize=False)
    assert tokenizer.decode(example["input_ids"]) == whole.rstrip("\n")


def test_loss_is_the_mean_over_answer_tokens(trainer_of):
    trainer = trainer_of(sft_rows(4))
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    expected = loss_by_hand(trainer.model, batch).item()
    assert trainer.compute_loss(trainer.model, dict(batch)).item() == pytest.approx(expected, abs=1e-6)


def test_faster_head_on_a_cpu_gives_the_same_loss_and_gradient(trainer_of):
    found = []
    for is_fast in (False, True):
        trainer = trainer_of(sft_rows(4), lora_dropout=0.0)
        batch = next(iter(trainer.get_train_dataloader()))
        if is_fast:
            with fast_cpu_head():
                loss = trainer.compute_loss(trainer.model, dict(batch))
        else:
            loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        grads = {name: weight.grad for name, weight in trainer.model.named_parameters() if weight.grad is not None}
        found.append((loss.item(), grads))
    (slow, slow_grads), (fast, fast_grads) = found
    assert fast == pytest.approx(slow, abs=1e-6)
    assert largest_difference(slow_grads, fast_grads) < 1e-6


def test_adapter_moves_and_the_base_does_not(trainer_of, base_folder):
    trainer = trainer_of(sft_rows(8))
    trained = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, weight in trainer.model.named_parameters() if not weight.equal(before[name])}
    assert moved == trained
    assert all("lora_" in name for name in trained)
    assert {name.split(".")[-4] for name in trained} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip


@pytest.mark.parametrize("micro", [1, 2])
def test_smaller_micro_batches_follow_the_same_path(train, micro):
    whole = train(sft_rows(10), name="whole", micro_batch_size=4, lora_dropout=0.0, epochs=2)
    parts = train(sft_rows(10), name="parts", micro_batch_size=micro, lora_dropout=0.0, epochs=2)
    assert whole.step == parts.step == 6
    assert parts.metrics["loss"] == pytest.approx(whole.metrics["loss"], abs=1e-5)
    assert largest_difference(weights_of(whole.adapter), weights_of(parts.adapter)) < 2e-3


@pytest.mark.parametrize(("setting", "recomputes"), [("on", True), ("off", False), ("auto", False)])
def test_activations_are_computed_again_as_configured(trainer_of, setting, recomputes):
    trainer = trainer_of(sft_rows(4), activation_checkpointing=setting)
    trainer.train()
    layers = [module for module in trainer.model.modules() if hasattr(module, "gradient_checkpointing")]
    assert any(layer.gradient_checkpointing for layer in layers) is recomputes


def test_recomputing_activations_changes_nothing(train):
    kept = train(sft_rows(8), name="kept", activation_checkpointing="off")
    again = train(sft_rows(8), name="again", activation_checkpointing="on")
    assert largest_difference(weights_of(kept.adapter), weights_of(again.adapter)) == 0.0


def test_loss_falls(train):
    watch = Notebook()
    train(sft_rows(8), watch=watch, epochs=10, learning_rate=3e-2)
    assert watch.reports[-1].loss < watch.reports[0].loss - 0.4


def test_folder_holds_configuration_weights_and_record_only(train, base_folder):
    trained = train(sft_rows(8), seed=5)
    assert {path.name for path in trained.adapter.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "training.json"
    }  # fmt: skip
    record = read_stamp(trained.adapter)
    assert record.items() >= stamp(base_folder, "zh-1").items()
    assert (record["config"]["seed"], record["rows"], record["steps"]) == (5, 8, 2)
    assert record["metrics"] == trained.metrics
    assert record["versions"].keys() >= {"python", "torch", "transformers", "peft", "trl"}
    assert str(base_folder.parent) not in (trained.adapter / "adapter_config.json").read_text()


def test_longer_text_loses_its_middle_and_never_the_answer(base_folder):
    tokenizer = open_tokenizer(base_folder)
    row = {"content": "加微信" + "今天" * 300 + "代开发票", "queries": ["加微信", "代开发票"]}
    (example,) = sft_examples([row], tokenizer, PROMPT, 256).rows
    assert len(example["input_ids"]) <= 256
    assert tokenizer.decode(example["input_ids"]).endswith("关键词：\n加微信，代开发票" + END)


def test_row_that_does_not_fit_is_left_out_and_the_admin_is_told(train):
    watch = Notebook()
    lost = {"content": "今天" * 300 + "加微信" + "今天" * 300, "queries": ["加微信"]}
    train([*sft_rows(8), lost], watch=watch, max_length=256)
    assert watch.notes == ["8 rows are learned from, 1 are left out (1 does not fit)."]


def test_nothing_to_learn_from_is_said_before_a_model_is_loaded(train):
    with pytest.raises(NothingToTrain, match="No row is left"):
        train([])


def test_all_weights_are_trained_into_a_model_folder(train, base_folder):
    trained = train(sft_rows(8), full=True)
    weights = weights_of(trained.adapter, "model.safetensors")
    assert largest_difference(weights, weights_of(base_folder, "model.safetensors")) > 1e-3
    assert tokenizer_hash(trained.adapter) == tokenizer_hash(base_folder)
    assert {path.name for path in trained.adapter.iterdir()} == {path.name for path in base_folder.iterdir()} | {
        "training.json"
    }
    assert json.loads((trained.adapter / "training.json").read_text())["config"]["full"] is True


def test_model_folder_of_a_full_training_is_a_base_again(train, tmp_path):
    full = train(sft_rows(8), name="full", full=True)
    on_top = train_sft(
        sft_rows(8),
        base=model_folder(full.adapter),
        prompt=PROMPT,
        config=make_config(),
        out=tmp_path / "out",
        work=tmp_path / "work",
        watch=Unwatched(),
    )
    assert on_top.is_finished


def test_four_bits_are_refused_where_they_cannot_be_had(train):
    with pytest.raises(CannotTrain, match="needs a CUDA card and the package bitsandbytes"):
        train(sft_rows(4), quantization="4bit")


def test_base_from_the_hub_needs_a_pinned_commit(tmp_path):
    with pytest.raises(ModelRefused, match="full commit"):
        train_sft(
            sft_rows(4),
            base="somebody/model",
            prompt=PROMPT,
            config=make_config(),
            out=tmp_path / "out",
            work=tmp_path / "work",
            watch=Unwatched(),
        )


def test_batch_that_cards_do_not_divide_is_refused(train, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(CannotTrain, match="3 processes of 4 rows each do not divide the batch of 4"):
        train(sft_rows(4))

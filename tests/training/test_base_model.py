"""A base model made from item texts: rows, loss, resuming, one seed one model, and its row in the database."""

import hashlib
import json
import random
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import timedelta

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from extraction.artifacts import fetch_folder
from extraction.generation import open_tokenizer, tokenizer_hash, weights_hash
from extraction.models import BaseModel
from extraction.prompts import get_prompt, training_ids
from extraction.text import get_analysis
from tests.factories import make_item, make_report
from tests.tiny import need_learning_stack
from training.base_model import PROFILES, build_base, build_base_model, new_model, own_texts
from training.models import EvaluationSet
from training.pretraining import Phase, Rows, Schedule, Stopped, mean_loss
from training.tokenizer import build_tokenizer
from training.trainer_parts import NothingToTrain
from training.watching import TrainingError, Unwatched

TINY = PROFILES["tiny"]
ANSWERS = Phase(share=0.5, text_weight=0.0, answer_weight=1.0, phrases=(2, 3))
BOTH = Phase(share=0.5, text_weight=1.0, answer_weight=2.0, phrases=(1, 2))
PROMPT = get_prompt()


def some_texts(count: int = 120, seed: int = 3) -> list[str]:
    draw = random.Random(seed)
    words = [
        "加微信",
        "代开发票",
        "日结兼职",
        "今天天气不错",
        "晚上吃什么",
        "出售二手书桌",
        "包邮",
        "联系我",
        "cheap meds",
        "vx123*",
    ]
    return ["，".join(draw.sample(words, 4)) + str(number) for number in range(count)]


def build(folder, texts=None, *, profile=TINY, seed=0, watch=None, **more):
    folder.mkdir(parents=True, exist_ok=True)
    return build_base(
        texts or some_texts(),
        profile=profile,
        prompt=PROMPT,
        analysis=get_analysis(),
        seed=seed,
        out=folder,
        watch=watch or Unwatched(),
        **more,
    )


class StopAfter(Unwatched):
    """Asks for the end after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def should_stop(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture(scope="module", autouse=True)
def _stack():
    need_learning_stack()


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(some_texts(), PROMPT)


@pytest.fixture(scope="module")
def rows(tokenizer):
    return Rows(some_texts(), tokenizer, PROMPT, analysis=get_analysis(), window=160)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("base"))


# --- rows -----------------------------------------------------------------------------------------------------------


def test_row_is_what_the_trainers_and_the_server_make_of_text_and_phrases(rows, tokenizer):
    batch = rows.batch([5], BOTH, np.random.default_rng(0))
    phrases = rows._phrases.draw(5, BOTH, np.random.default_rng(0))
    ids, labels = training_ids(tokenizer, some_texts()[5], phrases, PROMPT, 1_000)
    assert batch.ids[0].tolist() == ids
    assert (batch.weights[0] == BOTH.answer_weight).tolist() == [label >= 0 for label in labels]


def test_phase_without_text_weight_learns_the_answer_alone(rows):
    batch = rows.batch([5], ANSWERS, np.random.default_rng(0))
    learned = batch.ids[batch.weights > 0]
    assert len(learned) < batch.ids.size / 2
    assert batch.characters == len(learned)


def test_part_of_the_text_is_drawn_anew_each_time(rows):
    phase = replace(BOTH, text_part=0.5)
    first, second = (rows.batch([5], phase, np.random.default_rng(seed)).weights == 1.0 for seed in (1, 2))
    assert 0 < first.sum() < len(some_texts()[5])
    assert first.shape != second.shape or (first != second).any()


def test_phrases_are_verbatim_and_can_be_queries(rows):
    draw = np.random.default_rng(0)
    found = [(text, rows._phrases.draw(number, ANSWERS, draw)) for number, text in enumerate(some_texts())]
    assert all(phrase in text for text, phrases in found for phrase in phrases)
    assert not any(mark in phrase for _text, phrases in found for phrase in phrases for mark in "，*\n")
    assert sum(len(phrases) for _text, phrases in found) > len(found)


def test_shared_phrases_stand_in_three_texts_at_least(rows):
    phase, draw = replace(ANSWERS, is_shared=True), np.random.default_rng(0)
    key = [" ".join(get_analysis().tokens(text, "phrase")) for text in some_texts()]
    for number in range(40):
        for phrase in rows._phrases.draw(number, phase, draw):
            wanted = " ".join(get_analysis().tokens(phrase, "phrase"))
            assert sum(f" {wanted} " in f" {text} " for text in key) >= 3


def test_long_texts_make_several_rows(tokenizer):
    rows = Rows(["加微信" * 100], tokenizer, PROMPT, analysis=get_analysis(), window=160)
    assert sum(len(batch) for batch in rows.once(600)) == 2


def test_every_row_comes_once_before_any_comes_again(rows):
    seen: list[int] = []
    for batch in rows.plan(600, seed=1):
        seen += batch
        if len(seen) >= len(some_texts()):
            break
    assert sorted(seen) == list(range(len(some_texts())))


def test_text_without_a_phrase_makes_a_row_without_an_answer(tokenizer):
    rows = Rows(["！！", "a"], tokenizer, PROMPT, analysis=get_analysis(), window=160)
    batch = rows.batch([0, 1], ANSWERS, np.random.default_rng(0))
    assert not batch.weights.any()


def test_phases_follow_each_other_and_the_rate_rises_and_falls():
    schedule = Schedule(100, 1, 1.0, 1, (replace(ANSWERS, share=0.3), replace(BOTH, share=0.7)))
    assert [schedule.phase(step).text_weight for step in (0, 29, 30, 99)] == [0.0, 0.0, 1.0, 1.0]
    assert schedule.rate(0) < schedule.rate(5) == pytest.approx(1.0, abs=0.01)
    assert schedule.rate(99) == pytest.approx(0.05, abs=0.01)


# --- training -------------------------------------------------------------------------------------------------------


def test_loss_is_that_of_transformers(rows, tokenizer):
    import torch

    model = new_model(tokenizer, TINY, seed=0)
    numbers = next(iter(rows.plan(600, seed=0)))
    batch = rows.batch(numbers, replace(ANSWERS, text_weight=1.0), np.random.default_rng(0))
    labels = torch.from_numpy(np.where(batch.weights > 0, batch.ids, -100))
    theirs = model(input_ids=torch.from_numpy(batch.ids), labels=labels).loss
    assert mean_loss(model, batch).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_answers_weigh_as_the_phase_says(rows, tokenizer):
    model = new_model(tokenizer, TINY, seed=0)
    numbers = [3, 4]
    each = [
        rows.batch(numbers, replace(BOTH, text_weight=text, answer_weight=answer), np.random.default_rng(0))
        for text, answer in ((1.0, 0.0), (0.0, 1.0), (1.0, 2.0))
    ]
    text, answer, both = (mean_loss(model, batch).item() for batch in each)
    texts, answers = (float(batch.weights.sum()) for batch in each[:2])
    assert both == pytest.approx((text * texts + 2 * answer * answers) / (texts + 2 * answers), rel=1e-5)


def test_it_learns(built, tokenizer):
    untrained = np.log(len(tokenizer))
    assert built.card["held_out"]["nll_per_character"]["text"] < 0.8 * untrained


def test_folder_opens_as_any_model_of_transformers(built):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(built.folder)
    assert model.config.model_type == "qwen2"
    assert model.config.vocab_size == len(open_tokenizer(built.folder))
    assert sum(weights.numel() for weights in model.parameters()) == built.parameters


def test_same_seed_gives_the_same_weights_in_another_process(built, tmp_path):
    script = (
        "import django; django.setup()\n"
        "from pathlib import Path\n"
        "from tests.training.test_base_model import build\n"
        f"build(Path({str(tmp_path / 'again')!r}))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert weights_hash(tmp_path / "again") == weights_hash(built.folder)
    assert tokenizer_hash(tmp_path / "again") == tokenizer_hash(built.folder)


def test_another_seed_gives_other_weights(built, tmp_path):
    assert weights_hash(build(tmp_path, seed=1).folder) != weights_hash(built.folder)


def test_stopped_training_goes_on_from_its_checkpoint_to_the_same_end(built, tmp_path):
    kept = replace(TINY, schedule=replace(TINY.schedule, save_steps=7))
    with pytest.raises(Stopped, match="after step 11 of 30"):
        build(tmp_path / "stopped", profile=kept, watch=StopAfter(10), checkpoint=tmp_path / "c.pt")
    watch = Steps()
    again = build(tmp_path / "again", profile=kept, watch=watch, checkpoint=tmp_path / "c.pt")
    assert watch.asked == 18
    assert weights_hash(again.folder) == weights_hash(built.folder)


def test_checkpoint_of_other_texts_is_not_gone_on_from(tmp_path):
    kept = replace(TINY, schedule=replace(TINY.schedule, save_steps=7))
    with pytest.raises(Stopped):
        build(tmp_path / "stopped", profile=kept, watch=StopAfter(10), checkpoint=tmp_path / "c.pt")
    watch = Steps()
    build(tmp_path / "again", some_texts(seed=4), profile=kept, watch=watch, checkpoint=tmp_path / "c.pt")
    assert watch.asked == TINY.schedule.steps - 1


def test_progress_reaches_the_last_step(tmp_path):
    watch = Steps()
    build(tmp_path, watch=watch)
    assert watch.last.step == watch.last.max_steps == TINY.schedule.steps
    assert watch.last.tokens_per_s > 0


def test_nothing_to_learn_from_is_said(tmp_path):
    with pytest.raises(NothingToTrain, match="no item texts"):
        build_base([], profile=TINY, prompt=PROMPT, analysis=get_analysis(), seed=0, out=tmp_path, watch=Unwatched())


def test_card_can_be_written_as_json_and_names_what_was_learned(built):
    card = json.loads(json.dumps(built.card))
    assert card["texts"] + card["held_out"]["texts"] == len(some_texts())
    assert card["seed"] == 0
    assert card["versions"]["torch"]
    digests = b"".join(hashlib.sha256(text.encode()).digest() for text in some_texts())
    assert built.data_digest == hashlib.sha256(digests).hexdigest()


class Steps(Unwatched):
    """Counts the steps, and keeps the last report."""

    def __init__(self) -> None:
        self.asked = 0
        self.last = None

    def report(self, progress) -> None:
        self.last = progress

    def should_stop(self) -> bool:
        self.asked += 1
        return False


# --- the operator's texts ---------------------------------------------------------------------------------------------


@pytest.fixture
def items(db):
    return [make_item(text) for text in some_texts()]


def evaluation_set(report) -> EvaluationSet:
    return EvaluationSet.objects.create(
        name="frozen", cutoff=timezone.now(), reports=[[report.pk, report.item_text_id]], digest="0" * 64
    )


def test_base_is_stored_and_recorded_under_a_number(items, settings, tmp_path):
    settings.VAR_DIR = tmp_path
    now = timezone.now()
    first, second = (build_base_model("tiny", until=now, excluded=None, watch=Unwatched()) for _time in range(2))
    assert (first.name, second.name) == ("tiny-1", "tiny-2")
    assert first.weights_hash == second.weights_hash == weights_hash(fetch_folder(first.digest))
    assert (first.profile, first.data_until, first.prompt_version) == ("tiny", now, PROMPT.version)


def test_stopped_build_records_nothing(items, settings, tmp_path):
    settings.VAR_DIR = tmp_path
    with pytest.raises(Stopped):
        build_base_model("tiny", until=timezone.now(), excluded=None, watch=StopAfter(3))
    assert not BaseModel.objects.exists()
    assert not list((tmp_path / "bases").iterdir())


def test_what_a_killed_build_left_is_cleared(items, settings, tmp_path):
    settings.VAR_DIR = tmp_path
    left = tmp_path / "bases" / "tiny"
    left.mkdir(parents=True)
    (left / "half.safetensors").touch()
    base = build_base_model("tiny", until=timezone.now(), excluded=None, watch=Unwatched())
    assert not (fetch_folder(base.digest) / "half.safetensors").exists()


def test_texts_after_the_cut_off_are_not_read(items):
    late = make_item("后来才有的一条", text_at=timezone.now() + timedelta(hours=1))
    texts = own_texts(until=timezone.now(), excluded=None, most=1_000)
    assert len(texts) == len(items)
    assert late.text.text not in texts


def test_reports_of_the_evaluation_set_and_their_near_copies_are_not_read(items):
    tested = make_report(item=make_item("代办各种证件请加微信联系我们当天可取"))
    make_item("代办各种证件请加微信联系我们当天可取！！")
    texts = own_texts(until=timezone.now(), excluded=evaluation_set(tested), most=1_000)
    assert texts == some_texts()


def test_of_many_texts_every_third_is_read(items):
    assert own_texts(until=timezone.now(), excluded=None, most=40) == some_texts()[::3]


def test_command_says_what_it_made(items, settings, tmp_path, capsys, monkeypatch):
    settings.VAR_DIR = tmp_path
    monkeypatch.setattr("os.nice", lambda _by: 0)
    call_command("build_base_model", profile="tiny")
    assert "tiny-1: " in capsys.readouterr().out


def test_command_fails_with_a_sentence(db, settings, tmp_path, monkeypatch):
    settings.VAR_DIR = tmp_path
    monkeypatch.setattr("os.nice", lambda _by: 0)
    with pytest.raises(CommandError, match="no item texts"):
        call_command("build_base_model", profile="tiny")
    with pytest.raises(CommandError, match="--until"):
        call_command("build_base_model", profile="tiny", until="soon")


def test_large_profile_says_that_it_needs_a_card(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA card")
    with pytest.raises(TrainingError, match="needs a CUDA card"):
        build(tmp_path, profile=PROFILES["medium"])


def test_profiles_have_the_sizes_that_the_handbook_states(tokenizer):
    sizes = {name: new_model(tokenizer, profile, seed=0).num_parameters() for name, profile in PROFILES.items()}
    assert asdict(PROFILES["small"])["schedule"]["steps"] > 0
    assert 100_000 < sizes["small"] < 500_000
    assert 30_000_000 < sizes["medium"] < 100_000_000

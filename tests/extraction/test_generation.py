"""The language model in this process: batches, adapters, confidence, and the files that it takes and refuses."""

import json
import random
import shutil
from pathlib import Path

import pytest

from extraction.constraint import Limits
from extraction.generation import (
    AdapterNotLoaded,
    AdapterRefused,
    LocalModel,
    ModelRefused,
    check_adapter,
    model_folder,
    open_tokenizer,
    stamp,
    template_hash,
    tokenizer_hash,
    verbatim,
    weights_hash,
)
from extraction.models import Adapter, BaseModel
from extraction.prompts import PROMPTS, answer_ids, prompt_ids
from extraction.text import MatchMode, get_analysis
from tests.extraction.test_constraint import HOSTILE
from tests.tiny import base_folder, tiny_adapter, tiny_base

__all__ = ["base_folder"]

QX = get_analysis("qx-1")
ZH = PROMPTS["zh-1"]
TEXTS = ["加微信代开发票，低价出售", "刷单兼职日结，联系电话加vx12345", "办证", "今天天气不错吃饭" * 20]


@pytest.fixture(scope="module")
def adapters(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("adapters")
    return {name: tiny_adapter(place / name, base_folder, seed=seed) for seed, name in enumerate("ab", start=1)}


def open_model(base_folder: Path, **kwargs) -> LocalModel:
    return LocalModel.open(base_folder, prompt=ZH, device="cpu", **kwargs)


@pytest.fixture(scope="module")
def model(base_folder: Path, adapters: dict[str, Path]) -> LocalModel:
    """One model with both adapters for all tests that change nothing."""
    model = open_model(base_folder)
    for name, folder in adapters.items():
        model.load_adapter(name, folder)
    return model


def said(lists):
    return [[proposed.text for proposed in one] for one in lists]


def nearly(lists):
    return [
        [(found.text, found.start, found.end, pytest.approx(found.confidence, abs=1e-4)) for found in one]
        for one in lists
    ]


def plain(lists):
    return [[(found.text, found.start, found.end, found.confidence) for found in one] for one in lists]


# --- what is proposed


def test_queries_are_verbatim_distinct_and_at_most_so_many(model):
    for text, proposed in zip(TEXTS, model.propose(TEXTS, [None] * 4, limit=3), strict=True):
        assert 1 <= len(proposed) <= 3
        assert all(text[one.start : one.end] == one.text for one in proposed)
        assert len({QX.key(one.text, MatchMode.PHRASE) for one in proposed}) == len(proposed)
        assert all(one.confidence < 0 for one in proposed)


def test_no_texts_give_no_lists(model):
    assert model.propose([], []) == []


@pytest.mark.parametrize("text", ["", "加", "，，，", "***", "加*微*信"])
def test_text_that_allows_no_query_is_skipped(model, text):
    assert model.propose([text, "加微信"], [None, None])[0] == []
    assert model.propose(["加微信", text], [None, None])[1] == []


def test_batch_says_what_each_text_alone_gets(model):
    together = model.propose(TEXTS, [None] * 4)
    alone = [model.propose([text], [None])[0] for text in TEXTS]
    assert plain(together) == nearly(alone)


def test_order_of_the_texts_does_not_matter(model):
    assert said(model.propose(TEXTS[::-1], [None] * 4)) == said(model.propose(TEXTS, [None] * 4))[::-1]


def test_model_that_asks_for_sampling_answers_greedily_all_the_same(model):
    assert plain(model.propose(TEXTS, [None] * 4)) == plain(model.propose(TEXTS, [None] * 4))


def test_long_text_is_read_from_both_ends(model):
    text = "加微信" + "今天天气不错" * 1000 + "办证"
    [proposed] = model.propose([text], [None])
    assert all(text[one.start : one.end] == one.text for one in proposed)


def test_lone_surrogates_move_no_span(model):
    text = "\ud800加微\udfff信办证"
    [proposed] = model.propose([text], [None])
    assert proposed
    assert all(text[one.start : one.end] == one.text for one in proposed)


@pytest.mark.slow
def test_hostile_texts_yield_only_what_they_say(model):
    draw = random.Random(5)
    texts = [*HOSTILE, *("".join(draw.sample(text, len(text))) for text in HOSTILE if len(text) < 100)]
    names = draw.choices([None, "a", "b"], k=len(texts))
    for text, proposed in zip(texts, model.propose(texts, names, limit=4), strict=True):
        assert all(text[one.start : one.end] == one.text for one in proposed)
        assert all(len(one.text) >= 2 and "*" not in one.text and "，" not in one.text for one in proposed)


# --- confidence


def test_confidence_is_the_mean_raw_log_probability_of_the_querys_tokens(model):
    import torch

    text = TEXTS[0]
    [proposed] = model.propose([text], [None], limit=1)
    tokenizer = model._tokenizer
    before = prompt_ids(tokenizer, text, ZH)
    spelled = answer_ids(tokenizer, [proposed[0].text], ZH)[:-1]
    # The model may spell a query in bytes, which the tokenizer would not: then this test would not say anything.
    with torch.inference_mode(), model._speaking([None]):
        logits = model._model(input_ids=torch.tensor([before + spelled])).logits[0].log_softmax(-1)
    expected = [float(logits[len(before) - 1 + at, id_]) for at, id_ in enumerate(spelled)]
    assert proposed[0].confidence == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_log_prob_of_a_phrase_is_that_of_the_whole_answer(model):
    import torch

    phrases = ["加微信", "代开发票", "发"]
    [found] = model.log_probs([TEXTS[0]], "a", [phrases])
    tokenizer = model._tokenizer
    before = prompt_ids(tokenizer, TEXTS[0], ZH)
    for phrase, log_prob in zip(phrases, found, strict=True):
        answer = answer_ids(tokenizer, [phrase], ZH)
        with torch.inference_mode(), model._speaking(["a"]):
            logits = model._model(input_ids=torch.tensor([before + answer])).logits[0].log_softmax(-1)
        assert log_prob == pytest.approx(
            sum(float(logits[len(before) - 1 + at, id_]) for at, id_ in enumerate(answer)), abs=1e-3
        )


def test_log_probs_of_no_phrases_are_none(model):
    assert model.log_probs(["加微信", ""], None, [[], []]) == [[], []]


def test_log_probs_do_not_depend_on_the_batch(model):
    phrases = ["加微信", "代开发票，低价出售", "票"]
    [together] = model.log_probs([TEXTS[0]], None, [phrases])
    alone = [model.log_probs([TEXTS[0]], None, [[phrase]])[0][0] for phrase in phrases]
    assert together == pytest.approx(alone, abs=1e-3)


# --- sampling


def test_same_seed_draws_the_same(model):
    first = model.sample(TEXTS[:2], "a", count=3, seed=4)
    assert first == model.sample(TEXTS[:2], "a", count=3, seed=4)
    assert first != model.sample(TEXTS[:2], "a", count=3, seed=5)


def test_samples_are_verbatim_and_so_many(model):
    for text, lists in zip(TEXTS, model.sample(TEXTS, None, count=3, limit=2), strict=True):
        assert len(lists) == 3
        assert all(text[one.start : one.end] == one.text for proposed in lists for one in proposed)


def test_text_that_allows_no_query_has_no_samples(model):
    assert model.sample(["，"], None, count=3) == [[]]


def test_sampling_leaves_the_random_numbers_of_others_alone(model):
    import torch

    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    model.sample(["加微信"], None, count=1, seed=9)
    assert torch.equal(torch.rand(1), expected)


def test_confidence_of_a_sample_does_not_depend_on_the_temperature(model):
    import torch

    [[proposed]] = model.sample(["加微信"], None, count=1, temperature=3.0, limit=1)
    [one] = proposed
    tokenizer, before = model._tokenizer, prompt_ids(model._tokenizer, "加微信", ZH)
    spelled = answer_ids(tokenizer, [one.text], ZH)[:-1]
    with torch.inference_mode(), model._speaking([None]):
        logits = model._model(input_ids=torch.tensor([before + spelled])).logits[0].log_softmax(-1)
    expected = [float(logits[len(before) - 1 + at, id_]) for at, id_ in enumerate(spelled)]
    assert one.confidence == pytest.approx(sum(expected) / len(expected), abs=1e-4)


# --- adapters


def test_mixed_batch_says_what_each_adapter_says_alone(model):
    names = [None, "a", "b", "a"]
    mixed = model.propose(TEXTS, names)
    alone = [model.propose([text], [name])[0] for text, name in zip(TEXTS, names, strict=True)]
    assert plain(mixed) == nearly(alone)


def test_adapters_differ(model):
    confidences = {model.propose([TEXTS[0]], [name])[0][0].confidence for name in (None, "a", "b")}
    assert len(confidences) == 3


def test_swap_while_serving(base_folder, adapters):
    model = open_model(base_folder)
    before = model.propose(TEXTS, [None] * 4)
    model.load_adapter("a", adapters["a"])
    with_a = model.propose(TEXTS, ["a"] * 4)
    model.load_adapter("b", adapters["b"])
    model.drop_adapter("a")
    assert model.adapters == ["b"]
    with_b = model.propose(TEXTS, ["b"] * 4)
    model.drop_adapter("b")
    assert model.adapters == []
    assert plain(model.propose(TEXTS, [None] * 4)) == nearly(before)
    model.load_adapter("a", adapters["a"])
    assert plain(model.propose(TEXTS, ["a"] * 4)) == nearly(with_a)
    assert plain(with_b) != nearly(with_a)


@pytest.mark.parametrize("name", ["lora", "a", "default", "sft-2026_1"])
def test_adapter_may_have_any_slug_for_a_name(base_folder, adapters, model, name):
    other = open_model(base_folder)
    other.load_adapter(name, adapters["a"])
    assert plain(other.propose(TEXTS, [name] * 4)) == nearly(model.propose(TEXTS, ["a"] * 4))


def test_adapter_that_is_not_loaded_is_named(model):
    with pytest.raises(AdapterNotLoaded, match="nobody"):
        model.propose(["加微信"], ["nobody"])
    with pytest.raises(AdapterNotLoaded):
        model.drop_adapter("nobody")


def test_name_that_is_taken_is_refused(model, adapters):
    with pytest.raises(AdapterRefused, match="loaded already"):
        model.load_adapter("a", adapters["b"])


# --- memory


def test_batch_that_does_not_fit_is_halved(base_folder, model, monkeypatch):
    import torch

    small = open_model(base_folder)
    generate, sizes = small._model.generate, []

    def card_of_two(**kwargs):
        sizes.append(len(kwargs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(**kwargs)

    monkeypatch.setattr(small._model, "generate", card_of_two)
    assert plain(small.propose(TEXTS * 2, [None] * 8)) == nearly(model.propose(TEXTS * 2, [None] * 8))
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[3:]) <= 4


def test_one_report_that_does_not_fit_is_an_error(base_folder, monkeypatch):
    import torch

    small = open_model(base_folder)

    def full_card(**kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(small._model, "generate", full_card)
    with pytest.raises(torch.OutOfMemoryError):
        small.propose(TEXTS, [None] * 4)


def test_batches_hold_no_more_tokens_than_they_may(base_folder, monkeypatch):
    small = open_model(base_folder, limits=Limits(longest=3))
    small._tokens_per_batch = 1000
    generate, tokens = small._model.generate, []

    def count(**kwargs):
        tokens.append(kwargs["input_ids"].numel())
        return generate(**kwargs)

    monkeypatch.setattr(small._model, "generate", count)
    small.propose(TEXTS, [None] * 4)
    assert len(tokens) > 1
    assert max(tokens) <= 1000


# --- verbatim


def confident(*phrases):
    return [(phrase, -1.0) for phrase in phrases]


def verbatim_texts(source, *phrases):
    return [proposed.text for proposed in verbatim(confident(*phrases), source, QX, shortest=2)]


def test_one_query_in_two_spellings_is_one():
    assert verbatim_texts("加微信，加.微.信，ＶＸ vx", "加微信", "加.微.信", "vx") == ["加微信", "vx"]


def test_punctuation_at_the_ends_goes():
    assert verbatim([("！加微信。", -1.0)], "快！加微信。", QX, shortest=2)[0].start == 2


@pytest.mark.parametrize("phrase", ["办证", "！。", "", "加*信", "信"])
def test_what_is_no_query_of_the_text_is_left_out(phrase):
    assert verbatim_texts("加*信！。", phrase) == []


# --- opening


def test_card_gets_bfloat16_and_the_cpu_float32(base_folder):
    import torch

    assert open_model(base_folder)._model.dtype == torch.float32
    assert LocalModel.open(base_folder, prompt=ZH, device="meta")._model.dtype == torch.bfloat16


def test_named_model_needs_a_commit():
    with pytest.raises(ModelRefused, match="commit"):
        model_folder("someone/model", "main")


def test_model_without_safetensors_is_refused(base_folder, tmp_path):
    shutil.copytree(base_folder, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        open_model(tmp_path / "base")
    with pytest.raises(ModelRefused, match="safetensors"):
        weights_hash(tmp_path / "base")


def test_model_without_a_chat_template_is_refused(base_folder, tmp_path):
    shutil.copytree(base_folder, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    with pytest.raises(ModelRefused, match="chat template"):
        open_model(tmp_path / "base")


def test_model_that_reads_too_little_is_refused(base_folder, tmp_path):
    shutil.copytree(base_folder, tmp_path / "base")
    config = tmp_path / "base" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 128}))
    with pytest.raises(ModelRefused, match="128 tokens"):
        open_model(tmp_path / "base").propose(["加微信"], [None])


def test_tokenizer_is_read_as_it_was_written(base_folder):
    tokenizer = open_tokenizer(base_folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer("加微信 龘")["input_ids"]) == [
        "加", "微", "信", " ", "<0xE9>", "<0xBE>", "<0x98>",
    ]  # fmt: skip
    assert tokenizer.padding_side == "left"


# --- files


def test_hashes_tell_models_apart(base_folder, tmp_path):
    other = tiny_base(tmp_path / "other", seed=1)
    same = tiny_base(tmp_path / "same", seed=0)
    assert weights_hash(base_folder) == weights_hash(same) != weights_hash(other)
    assert tokenizer_hash(base_folder) == tokenizer_hash(other)
    assert template_hash(base_folder) == template_hash(other)


def test_template_has_its_own_hash(base_folder, tmp_path):
    shutil.copytree(base_folder, tmp_path / "base")
    template = tmp_path / "base" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert template_hash(tmp_path / "base") != template_hash(base_folder)
    assert tokenizer_hash(tmp_path / "base") == tokenizer_hash(base_folder)


@pytest.fixture
def rows(base_folder):
    """Unsaved rows: a check needs no database."""
    known = stamp(base_folder, "zh-1")
    base = BaseModel(pk=1, name="tiny", **known)
    asked = {key: known[key] for key in ("tokenizer_hash", "template_hash", "prompt_version")}
    return Adapter(name="a", base=base, **asked), base


def copied(adapters, place: Path) -> Path:
    return Path(shutil.copytree(adapters["a"], place / "adapter"))


def restamp(folder: Path, **changes) -> None:
    path = folder / "training.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_adapter_of_this_base_is_taken(adapters, rows):
    adapter, base = rows
    check_adapter(adapters["a"], adapter=adapter, base=base)


def test_adapter_of_another_row_is_refused(adapters, rows):
    adapter, _base = rows
    with pytest.raises(AdapterRefused, match="belongs to the base"):
        check_adapter(adapters["a"], adapter=adapter, base=BaseModel(pk=2, name="other"))


@pytest.mark.parametrize("key", ["weights_hash", "tokenizer_hash", "template_hash", "prompt_version"])
def test_adapter_of_another_base_is_refused(adapters, rows, base_folder, tmp_path, key):
    adapter, base = rows
    folder = copied(adapters, tmp_path)
    restamp(folder, **{key: "0" * 64})
    with pytest.raises(AdapterRefused, match=key):
        check_adapter(folder, adapter=adapter, base=base)
    with pytest.raises(AdapterRefused, match=key):
        open_model(base_folder).load_adapter("a", folder)


def test_adapter_whose_row_says_otherwise_is_refused(adapters, rows):
    adapter, base = rows
    adapter.tokenizer_hash = "0" * 64
    with pytest.raises(AdapterRefused, match="tokenizer_hash"):
        check_adapter(adapters["a"], adapter=adapter, base=base)


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt", "training_args.bin", "code.py", "deep/x.pkl"])
def test_adapter_with_a_file_that_could_run_code_is_refused(adapters, rows, base_folder, tmp_path, name):
    adapter, base = rows
    folder = copied(adapters, tmp_path)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(AdapterRefused, match="could run code"):
        check_adapter(folder, adapter=adapter, base=base)
    with pytest.raises(AdapterRefused, match="could run code"):
        open_model(base_folder).load_adapter("a", folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "training.json"])
def test_adapter_without_its_files_is_refused(adapters, rows, tmp_path, name):
    adapter, base = rows
    folder = copied(adapters, tmp_path)
    (folder / name).unlink()
    with pytest.raises(AdapterRefused, match=name):
        check_adapter(folder, adapter=adapter, base=base)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_adapter_whose_stamp_cannot_be_read_is_refused(adapters, rows, tmp_path, content):
    adapter, base = rows
    folder = copied(adapters, tmp_path)
    (folder / "training.json").write_text(content)
    with pytest.raises(AdapterRefused, match="no JSON"):
        check_adapter(folder, adapter=adapter, base=base)

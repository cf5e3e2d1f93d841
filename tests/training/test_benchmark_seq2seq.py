"""The encoder-decoder: what it learns from, what it may say, and the untrained language model beside it."""

from dataclasses import replace

import pytest

from tests.tiny import base_folder, need_learning_stack
from training.benchmark.choice import MethodUnavailable
from training.benchmark.evaluator import Bench
from training.benchmark.options import Options
from training.benchmark.seq2seq import Sizes, continuations, encoder_decoder, small, train
from training.benchmark.suites import IndexKind, load_suite
from training.benchmark.trained import repeatable
from training.benchmark.zero_shot import zero_shot

from .tiny_suite import make_suite

__all__ = ["base_folder"]
SMALL = Sizes(epochs=60, learning_rate=3e-3, batch=8, width=32, layers=1, heads=2)


@pytest.fixture(scope="module", autouse=True)
def _stack():
    need_learning_stack()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = make_suite(tmp_path_factory.mktemp("suites") / "tiny")
    work = tmp_path_factory.mktemp("work")
    return Bench(load_suite(folder), tmp_path_factory.mktemp("indexes"), options=Options(work=work, epochs=1))


@pytest.fixture(scope="module")
def task(bench):
    return bench.task("test", IndexKind.STD)


def asked(task, **options):
    return replace(task, options=replace(task.options, **options))


def test_only_what_stands_in_the_source_may_follow():
    source = [5, 6, 7, 6, 8]
    assert continuations(source, [], end=2) == [5, 6, 7, 8]
    assert continuations(source, [6], end=2) == [2, 7, 8]
    assert continuations(source, [7, 6, 8], end=2) == [2]


def test_an_answer_has_the_least_number_of_tokens():
    assert continuations([5, 6], [5], end=2, least=2) == [6]
    assert continuations([5, 6], [5, 6], end=2, least=2) == [2]


def test_model_learns_to_copy_what_was_searched(task):
    import torch

    with repeatable(0):
        model, tokenizer = small(task, SMALL)
        pairs = [("请问代办毕业证吗", "毕业证"), ("今天真的毕业证吗", "毕业证"), ("天气微信好的", "微信")]
        train(model, tokenizer, pairs, SMALL)
        read = tokenizer(["请问代办毕业证吗"], return_tensors="pt")
        with torch.no_grad():
            said = model.generate(**{name: read[name] for name in ("input_ids", "attention_mask")}, max_new_tokens=8)
    assert tokenizer.decode(said[0], skip_special_tokens=True) == "毕业证"


def test_queries_of_the_encoder_decoder_stand_in_their_reports(task):
    choice = encoder_decoder(task)
    texts = {report.id: task.analysis.key(report.text, "phrase") for report in task.reports}
    assert choice.queries
    assert all(query.text in texts[query.report] for query in choice.queries)


def test_encoder_decoder_is_kept_and_used_again(bench, task):
    first = encoder_decoder(task)
    (folder,) = task.work.glob("seq2seq-*")
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert encoder_decoder(bench.task("test", IndexKind.STD)) == first
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_encoder_decoder_opens_a_folder(task, tmp_path):
    with repeatable(0):
        model, tokenizer = small(task, SMALL)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    choice = encoder_decoder(asked(task, seq2seq=str(tmp_path)))
    assert choice.queries
    assert len(list(task.work.glob("seq2seq-*"))) == 2


def test_encoder_decoder_by_name_needs_its_commit(task):
    with pytest.raises(MethodUnavailable, match="commit"):
        encoder_decoder(asked(task, seq2seq="somebody/bart"))


def test_zero_shot_needs_a_model(task):
    with pytest.raises(MethodUnavailable, match="--llm"):
        zero_shot(task)


def test_zero_shot_asks_an_untrained_model(task, base_folder):
    choice = zero_shot(asked(task, llm=str(base_folder)))
    texts = {report.id: task.analysis.key(report.text, "phrase") for report in task.reports}
    assert all(query.text in texts[query.report] for query in choice.queries)
    assert len({query.report for query in choice.queries}) == len(choice.queries)

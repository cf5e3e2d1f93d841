"""Bi-LSTM-CRF: the CRF against brute force, tags and spans, and what a trained tagger finds."""

from itertools import product

import pytest

from tests.tiny import need_learning_stack
from training.benchmark.evaluator import Bench
from training.benchmark.options import Options
from training.benchmark.suites import IndexKind, load_suite
from training.benchmark.tagger import Sizes, bi_lstm_crf, log_partition, path_score, spans_of, tags_of, train, viterbi
from training.benchmark.trained import Example, examples

from .tiny_suite import make_suite

SMALL = Sizes(epochs=30, embedding=16, hidden=16, batch=8, learning_rate=1e-2)


@pytest.fixture(scope="module", autouse=True)
def _stack():
    need_learning_stack()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = make_suite(tmp_path_factory.mktemp("suites") / "tiny")
    work = tmp_path_factory.mktemp("work")
    return Bench(load_suite(folder), tmp_path_factory.mktemp("indexes"), options=Options(work=work, epochs=3))


@pytest.fixture
def crf():
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(3)
        return {"crf": {"start": torch.randn(3), "end": torch.randn(3), "step": torch.randn(3, 3)}}


def score(crf, emissions, tags):
    """s(y), written down straight from its definition."""
    parts = crf["crf"]
    total = parts["start"][tags[0]] + parts["end"][tags[-1]]
    total += sum(emissions[place, tag] for place, tag in enumerate(tags))
    return total + sum(parts["step"][before, after] for before, after in zip(tags, tags[1:], strict=False))


@pytest.mark.parametrize("length", [1, 2, 4])
def test_partition_sums_all_paths(crf, length):
    import torch

    emissions = torch.randn(length, 3, generator=torch.Generator().manual_seed(length))
    every = torch.stack([score(crf, emissions, tags) for tags in product(range(3), repeat=length)])
    mask = torch.ones(1, length, dtype=torch.bool)
    assert torch.allclose(log_partition(crf, emissions[None], mask), every.logsumexp(0)[None], atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_viterbi_finds_the_best_path(crf, length):
    import torch

    emissions = torch.randn(length, 3, generator=torch.Generator().manual_seed(length))
    best = max(product(range(3), repeat=length), key=lambda tags: float(score(crf, emissions, tags)))
    assert viterbi(crf, emissions) == list(best)


def test_padding_changes_no_score(crf):
    import torch

    emissions = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1))
    tags = torch.tensor([[1, 2, 0, 0, 0]])
    mask = torch.tensor([[True, True, True, False, False]])
    whole = torch.ones(1, 3, dtype=torch.bool)
    assert torch.allclose(path_score(crf, emissions, mask, tags), score(crf, emissions[0], [1, 2, 0])[None])
    assert torch.allclose(log_partition(crf, emissions, mask), log_partition(crf, emissions[:, :3], whole))


def test_long_phrases_are_tagged_first_and_everywhere():
    example = Example(tokens=tuple("加微信请加微信"), phrases=(("加", "微"), ("加", "微", "信")))
    assert tags_of(example) == [1, 2, 2, 0, 1, 2, 2]


def test_spans_come_back_from_tags():
    assert spans_of([1, 2, 2, 0, 1, 1, 2]) == [(0, 3), (4, 5), (5, 7)]
    assert spans_of([0, 0]) == []


def test_tagger_learns_what_is_always_marked():
    learned = [Example(tuple(f"请{letter}加微信"), (tuple("加微信"),)) for letter in "甲乙丙丁己庚辛壬"]
    tagger = train(learned, SMALL, seed=0)
    (found,) = tagger.phrases([tuple("请戊加微信")])
    assert [phrase for _sureness, phrase in found] == ["加 微 信"]
    assert -0.5 < found[0][0] <= 0


def test_text_without_a_token_has_no_phrase():
    tagger = train([Example(tuple("请加微信"), (tuple("加微信"),))] * 4, SMALL, seed=0)
    assert tagger.phrases([()]) == [[]]


def test_one_seed_gives_one_tagger(bench):
    import torch

    learned = examples(bench.training)
    first, second, other = (train(learned, SMALL, seed=seed).network.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(weights, second[name]) for name, weights in first.items())
    assert not all(torch.equal(weights, other[name]) for name, weights in first.items())


def test_examples_are_train_reports_and_their_logged_queries(bench):
    texts = {tuple(bench.suite.analysis.tokens(report.text, "phrase")) for report in bench.training.reports}
    learned = examples(bench.training)
    assert learned
    assert {example.tokens for example in learned} <= texts
    assert all(" ".join(phrase) in " ".join(example.tokens) for example in learned for phrase in example.phrases)


def test_method_keeps_its_model_and_uses_it_again(bench):
    task = bench.task("test", IndexKind.STD)
    first = bi_lstm_crf(task)
    (folder,) = task.work.glob("bi-lstm-crf-*")
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert bi_lstm_crf(bench.task("test", IndexKind.STD)) == first
    assert (folder / "model.safetensors").stat().st_mtime_ns == written

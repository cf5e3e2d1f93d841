"""Statistics, floors and ceilings: each on texts whose answer is plain, and on the suite in miniature."""

import math
from dataclasses import replace
from importlib.util import find_spec

import pytest

from extraction.text import get_analysis
from tests.need import missing
from training.benchmark.choice import MethodUnavailable
from training.benchmark.evaluator import Bench, run_method
from training.benchmark.floors import broadest, lexicon
from training.benchmark.lexicon import build_lexicon, holds_any
from training.benchmark.methods import choose
from training.benchmark.options import LearnFrom, Options
from training.benchmark.phrases import Frequency
from training.benchmark.readings import control_of, risk_of, rows_of
from training.benchmark.statistics import log_likelihood, tf_idf, tf_idf_one, words_of, yake
from training.benchmark.suites import IndexKind, LabelledItem, load_suite

from .tiny_suite import make_suite

ZH, EN = get_analysis("bench-zh-1"), get_analysis("bench-en-1")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = make_suite(tmp_path_factory.mktemp("suites") / "tiny")
    return Bench(load_suite(folder), tmp_path_factory.mktemp("indexes"))


@pytest.fixture(scope="module")
def task(bench):
    return bench.task("test", IndexKind.STD)


@pytest.fixture(scope="module")
def answers(bench):
    return bench.suite.answers("test", IndexKind.STD)


@pytest.fixture
def _segmentation():
    for package in ("rjieba", "yake"):
        if find_spec(package) is None:
            missing(f"the learning stack is not installed: {package}")


def item(id, text, toxic, source="s"):
    return LabelledItem(id, f"i{id}", text, toxic, "", source, "train", "", False, False)


# --- keyness


def test_log_likelihood_is_that_of_the_definition():
    # 30 of 100 toxic and 10 of 900 normal items hold it: 4 and 36 expected.
    expected = 2 * (30 * math.log(30 / 4) + 10 * math.log(10 / 36))
    assert log_likelihood(Frequency(items=40, toxic=30), items=1000, toxic=100) == pytest.approx(expected)


def test_phrase_of_equal_shares_has_no_keyness():
    assert log_likelihood(Frequency(items=10, toxic=1), items=100, toxic=10) == pytest.approx(0.0)


def test_phrase_of_normal_items_has_negative_keyness():
    assert log_likelihood(Frequency(items=50, toxic=0), items=100, toxic=50) < 0


# --- words


@pytest.mark.usefixtures("_segmentation")
def test_words_of_chinese_are_those_of_jieba_with_two_characters():
    assert words_of("我们代办毕业证，电话*", ZH) == ["我 们", "代 办", "毕 业 证", "电 话"]


def test_words_of_english_are_its_tokens():
    assert words_of("Don’t call *, it's FREE", EN) == ["don't", "call", "it's", "free"]


@pytest.mark.usefixtures("_segmentation")
def test_tf_idf_issues_each_word_once_and_as_many_as_there_are_reports(task):
    words = [query.text for query in tf_idf(task).queries]
    assert len(set(words)) == len(words) <= len(task.reports)


@pytest.mark.usefixtures("_segmentation")
def test_tf_idf_of_each_report_is_one_query(task):
    reports = [query.report for query in tf_idf_one(task).queries]
    assert sorted(reports) == sorted({report.id for report in task.reports})


@pytest.mark.usefixtures("_segmentation")
def test_yake_sees_chinese_words_of_two_characters(task):
    assert {query.report for query in yake(task).queries} == {report.id for report in task.reports}


# --- floors and ceilings


def test_broadest_takes_the_phrase_with_most_matches(task):
    choice = broadest(task)
    for query in choice.queries:
        (text,) = [report.text for report in task.reports if report.id == query.report]
        found = task.searcher.matching(text, range(2, 11))
        assert task.searcher.find(query.text).matches == max(each.matches for each in found.values())
    assert not choice.is_ordered


def test_lexicon_covers_with_few_phrases():
    toxic = ["办证速来", "办证找我", "办证电话", "刷单日结", "刷单兼职"]
    items = [item(id, text, True) for id, text in enumerate(toxic)]
    items += [item(id, "今天天气不错", False) for id in range(5, 20)]
    assert build_lexicon(items, ZH) == ["办 证", "刷 单"]
    assert build_lexicon(items, ZH, most=1) == ["办 证"]


def test_lexicon_leaves_out_what_normal_items_hold_too():
    items = [
        item(0, "微信办证", True),
        item(1, "微信刷单", True),
        *(item(id, "微信运动", False) for id in range(2, 30)),
    ]
    assert build_lexicon(items, ZH) == []


def test_holding_a_phrase_is_a_matter_of_tokens():
    assert holds_any("快来办证吧", frozenset({"办 证"}), ZH)
    assert not holds_any("办理证件", frozenset({"办 证"}), ZH)
    assert not holds_any("class", frozenset({"ass"}), EN)


def test_lexicon_row_looks_at_no_report(task, bench):
    dev = bench.task("dev", IndexKind.STD)
    phrases, others = ([query.text for query in lexicon(each).queries] for each in (task, dev))
    assert phrases[: len(others)] == others[: len(phrases)]


def test_ceilings_are_in_order(bench, task, answers):
    found = {
        name: run_method(bench, "test", IndexKind.STD, name, task, answers).u_at_5
        for name in ("oracle", "oracle-one", "oracle-three", "search-one")
    }
    assert found["oracle"] >= found["oracle-one"] >= found["search-one"]
    assert found["oracle"] >= found["oracle-three"]


def test_oracle_of_three_takes_only_phrases_with_three_hits(task, answers):
    for query in choose("oracle-three", task, answers).queries:
        assert sum(answers.verdicts[id] for id in task.searcher.find(query.text).ids) >= 3


# --- what may be learned from


def test_readings_hold_what_they_say(bench):
    training = bench.training
    logged, every, in_domain = (set(rows_of(training, reading)) for reading in LearnFrom)
    assert logged < every == {item.id for item in training.items}
    toxic_sources = {item.source for item in training.items if item.toxic}
    assert in_domain == {item.id for item in training.items if item.source in toxic_sources} < every


def test_control_knows_the_sources(task):
    style = control_of(task)
    normal = [item for item in task.training.items if not item.toxic]
    assert {item.source for item in normal} == {"forum", "chat"}
    assert style.analysis == task.analysis.name


def test_no_control_where_every_source_holds_toxic_items(bench, tmp_path):
    items = tuple(replace(each, source="s") for each in bench.suite.items)
    task = Bench(replace(bench.suite, items=items), tmp_path).task("test", IndexKind.STD)
    with pytest.raises(MethodUnavailable, match="no control"):
        control_of(task)


def test_nothing_but_toxic_items_teaches_no_risk(bench, tmp_path):
    items = tuple(each for each in bench.suite.items if each.toxic or each.split != "train")
    task = Bench(replace(bench.suite, items=items), tmp_path).task("test", IndexKind.STD)
    with pytest.raises(MethodUnavailable, match="one kind"):
        risk_of(replace(task, options=Options(learn_from=LearnFrom.ALL)))

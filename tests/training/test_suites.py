"""Suites: what is in an index, in which order, and that no label of the split under test reaches a method."""

import gzip
import hashlib
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from types import MethodType
from typing import Any

import pytest

from extraction.search import Document
from tests.tiny import need_learning_stack
from training.benchmark.evaluator import Bench
from training.benchmark.methods import METHODS, REFERENCES, TRAINED, choose
from training.benchmark.options import Options
from training.benchmark.suites import (
    Answers,
    IndexKind,
    SuiteError,
    Task,
    TaskReport,
    documents,
    find_suites,
    load_suite,
)

from .tiny_suite import SECRET, make_suite, read_lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_suite(tmp_path_factory.mktemp("suites") / "tiny")


@pytest.fixture(scope="module")
def suite(folder):
    return load_suite(folder)


@pytest.fixture(scope="module")
def bench(suite, tmp_path_factory):
    return Bench(suite, tmp_path_factory.mktemp("indexes"))


def test_index_leaves_out_the_reported_items(suite):
    reported = {report.item for report in suite.reports_of("test")}
    index = {item.id for item in suite.index_of("test", IndexKind.STD)}
    assert reported
    assert not reported & index
    assert index | reported == {item.id for item in suite.items_of("test")}


def test_low_keeps_all_normal_items_and_only_the_marked_toxic_ones(suite):
    std, low = (suite.index_of("test", kind) for kind in (IndexKind.STD, IndexKind.LOW))
    assert [item for item in low if not item.toxic] == [item for item in std if not item.toxic]
    assert {item.low for item in low if item.toxic} == {True}


def test_fresh_leaves_out_what_the_lexicon_finds(suite):
    fresh = suite.index_of("test", IndexKind.FRESH)
    assert fresh
    assert not any(item.known for item in fresh)


def test_items_come_in_the_order_of_the_suites_hash(suite):
    def place(item):
        return hashlib.blake2b(f"20250218rank{item.key}".encode(), digest_size=8).digest()

    places = [place(item) for item in suite.index_of("test", IndexKind.STD)]
    assert places == sorted(places)


def test_documents_carry_no_label(suite):
    for document in documents(suite.items_of("test")):
        assert (document.risk, document.verdict, document.platform, document.author) == (None, "", "", "")


def test_documents_are_newest_first(suite):
    times = [document.created for document in documents(suite.items_of("test"))]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == len(times)


def test_chinese_suite_gets_the_chinese_token_rule(suite):
    assert suite.analysis.name == "bench-zh-1"


def test_english_suite_gets_the_english_token_rule(tmp_path):
    with gzip.open(tmp_path / "items.jsonl.gz", "wt") as out:
        out.write('{"id": "e1", "text": "you won a prize", "toxic": 1, "split": "test"}\n')
    (tmp_path / "reports.jsonl").write_text('{"id": "r1", "item_id": "e1", "text": "you won a prize", "split": "test"}')
    assert load_suite(tmp_path).analysis.name == "bench-en-1"


def test_split_without_a_report_is_refused(suite):
    with pytest.raises(SuiteError, match="no report"):
        suite.reports_of("nowhere")


def test_folder_of_suites_gives_them_by_name(folder):
    assert find_suites(folder.parent) == [folder]
    assert find_suites(folder) == [folder]


def test_folder_without_a_suite_is_refused(tmp_path):
    with pytest.raises(SuiteError, match="holds no suite"):
        find_suites(tmp_path)


def test_broken_line_is_named(tmp_path):
    with gzip.open(tmp_path / "items.jsonl.gz", "wt") as out:
        out.write('{"id": "a", "text": "b", "toxic": 0, "split": "test"}\n{broken\n')
    with pytest.raises(SuiteError, match="line 2"):
        load_suite(tmp_path)


# --- the guard


def reachable(root: object) -> Iterator[object]:
    """Everything that can be reached from an object by attributes, containers, bound methods and partial functions."""
    seen: set[int] = set()
    queue: deque[Any] = deque([root])
    while queue:
        value = queue.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, dict):
            queue.extend([*value.keys(), *value.values()])
        elif isinstance(value, (list, tuple, set, frozenset)):
            queue.extend(value)
        elif isinstance(value, partial):
            queue.extend([value.func, value.args, value.keywords])
        elif isinstance(value, MethodType):
            queue.append(value.__self__)
        elif type(value).__module__.split(".")[0] in ("training", "extraction"):
            queue.extend(vars(value).values() if hasattr(value, "__dict__") else [])


@pytest.mark.parametrize("kind", list(IndexKind))
def test_no_label_of_the_split_can_be_reached_from_a_task(bench, kind):
    values = list(reachable(bench.task("test", kind)))
    assert not any(isinstance(value, Answers) for value in values)
    assert not [value for value in values if isinstance(value, str) and SECRET in value]


@pytest.mark.parametrize(
    "hold", [lambda suite: suite, lambda suite: suite.items_of, lambda suite: partial(print, suite)]
)
def test_the_walk_would_find_a_label(bench, hold):
    values = list(reachable(hold(bench.suite)))
    assert [value for value in values if isinstance(value, str) and SECRET in value]


def test_labelled_items_in_a_task_are_train_items_only(bench):
    assert {item.split for item in bench.task("test", IndexKind.STD).training.items} == {"train"}
    assert {report.split for report in bench.task("test", IndexKind.STD).training.reports} == {"train"}


FORBIDDEN = {"toxic", "category", "source", "cluster", "low", "known", "human_phrases", "split", "key"}


def test_what_a_method_sees_has_no_field_for_a_label():
    assert not FORBIDDEN & {field.name for field in fields(TaskReport)}
    assert not FORBIDDEN & {field.name for field in fields(Task)}
    assert {field.name for field in fields(Document)} & FORBIDDEN == set()


@pytest.mark.parametrize("name", [*METHODS, "bi-lstm-crf", "bart"])
def test_method_chooses_without_any_answers(bench, name):
    """Nobody but a reference is handed the answers: there are none here to hand over."""
    if name in TRAINED:
        need_learning_stack()
    task = replace(bench.task("test", IndexKind.STD), options=Options(epochs=1))
    assert choose(name, task, None).queries or name in TRAINED


@pytest.mark.parametrize("name", REFERENCES)
def test_reference_cannot_do_without_the_answers(bench, name):
    with pytest.raises(AttributeError):
        choose(name, bench.task("test", IndexKind.STD), None)


def test_the_index_file_holds_no_label(bench):
    bench.task("test", IndexKind.STD)
    written = b"".join(path.read_bytes() for path in bench.folder.rglob("*test-std*") if path.is_file())
    assert written
    assert SECRET.encode() not in written


def test_methods_choose_the_same_whatever_the_labels_are(tmp_path_factory):
    """The same texts with every test label turned round: no method may notice."""
    folder = make_suite(tmp_path_factory.mktemp("turned") / "tiny")
    straight = load_suite(folder)
    items, _reports = read_lines(folder)
    turned = [item | {"toxic": 1 - item["toxic"]} if item["split"] == "test" else item for item in items]
    with gzip.open(folder / "items.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(item) + "\n" for item in turned)
    choices = []
    for suite in (straight, load_suite(folder)):
        bench = Bench(suite, tmp_path_factory.mktemp("turned-index"))
        task, answers = bench.task("test", IndexKind.STD), suite.answers("test", IndexKind.STD)
        choices.append([choose(method, task, answers) for method in METHODS])
    assert choices[0] == choices[1]

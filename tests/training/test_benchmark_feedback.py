"""`search` with feedback: what it shows and when, and that it is told nothing before."""

from dataclasses import replace

import pytest

from training.benchmark import feedback
from training.benchmark.choice import Query, play
from training.benchmark.evaluator import Bench, run_method
from training.benchmark.feedback import search_by_risk, search_feedback, search_risk_order
from training.benchmark.methods import INTERACTIVE
from training.benchmark.readings import risk_of
from training.benchmark.suggester import search
from training.benchmark.suites import IndexKind, load_suite

from .tiny_suite import make_suite

METHODS = list(INTERACTIVE.values())


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = make_suite(tmp_path_factory.mktemp("suites") / "tiny", size=1440)
    return Bench(load_suite(folder), tmp_path_factory.mktemp("indexes"))


@pytest.fixture(scope="module")
def task(bench):
    return bench.task("test", IndexKind.STD)


@pytest.fixture(scope="module")
def answers(bench):
    return bench.suite.answers("test", IndexKind.STD)


def test_verdicts_come_only_after_their_query(task):
    told = []

    def method(task):
        told.append((yield Query("r1", "a", ids=(1, 2))))
        told.append((yield Query("r1", "b", ids=(3,))))

    queries = play(method(task), task, {1: True, 2: False, 3: True, 4: True})
    assert [query.text for query in queries] == ["a", "b"]
    assert told == [{1: True, 2: False}, {3: True}]


def test_play_ends_with_the_budget(task):
    def method(task):
        for number in range(100):
            yield Query("r1", str(number), ids=(2 * number, 2 * number + 1))

    queries = play(method(task), replace(task, budget=5), dict.fromkeys(range(200), False))
    assert len(queries) == 3


@pytest.mark.parametrize("method", METHODS)
def test_verdicts_on_what_was_not_shown_change_nothing(task, answers, method):
    queries = play(method(task), task, answers.verdicts)
    shown = {id for query in queries for id in (query.ids or task.searcher.find(query.text).ids)}
    turned = {id: is_toxic if id in shown else not is_toxic for id, is_toxic in answers.verdicts.items()}
    assert turned != answers.verdicts
    assert play(method(task), task, turned) == queries


@pytest.mark.parametrize("method", METHODS)
def test_at_most_three_queries_of_a_report_are_begun(task, answers, method):
    begun = {(query.report, query.text) for query in play(method(task), task, answers.verdicts)}
    reports = [report for report, _text in begun]
    assert max(map(reports.count, reports)) <= 3


def test_without_a_refit_feedback_plays_as_search_does(task, answers, monkeypatch):
    monkeypatch.setattr(feedback, "REFIT_EVERY", 10_000)
    played = play(search_feedback(task), task, answers.verdicts)
    assert [query.report for query in played][:3] == [query.report for query in search(task).queries][:3]


def test_refit_learns_what_was_seen(task, answers, monkeypatch):
    monkeypatch.setattr(feedback, "REFIT_EVERY", 20)
    _board, review = feedback._begin(task)
    before = review.risks.copy()
    ids = list(answers.verdicts)[:20]
    assert not review.add(dict.fromkeys(ids[:10], True))
    assert review.add(dict.fromkeys(ids[10:], True))
    assert review.risks.mean() > before.mean()


def test_pages_have_ten_items_riskiest_first(task, answers, monkeypatch):
    monkeypatch.setattr(feedback, "REFIT_EVERY", 10_000)
    model = risk_of(task)
    queries = play(search_risk_order(task), task, answers.verdicts)
    assert all(1 <= len(query.ids or ()) <= 10 for query in queries)
    for query in queries:
        risks = model.score(task.searcher.text_of(id) for id in query.ids or ())
        assert list(risks) == sorted(risks, reverse=True)


def test_no_item_is_shown_twice_in_pages(task, answers):
    shown = [id for query in play(search_risk_order(task), task, answers.verdicts) for id in query.ids or ()]
    assert len(set(shown)) == len(shown)


def test_shown_by_risk_is_a_part_of_all_matches(task):
    for query in search_by_risk(task).queries:
        assert set(query.ids or ()) <= set(task.searcher.all_of(query.text))


def test_pages_of_one_query_count_as_one(bench, task, answers):
    row = run_method(bench, "test", IndexKind.STD, "search-risk-order", task, answers)
    pages = play(search_risk_order(task), task, answers.verdicts)
    assert row.queries == len({(page.report, page.text) for page in pages}) < len(pages)
    assert row.u_at_5 <= row.unique

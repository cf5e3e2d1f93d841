"""The methods, the log they learn from, the table and the command, on the suite in miniature."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from extraction.suggest import propose
from extraction.text import MatchMode
from training.benchmark.calibration import calibrate
from training.benchmark.check import check_suite
from training.benchmark.evaluator import Bench, run_method
from training.benchmark.logged import judged_items, logged_queries
from training.benchmark.methods import DEFAULT, choose
from training.benchmark.phrases import frequencies, phrases_of
from training.benchmark.readings import risk_of
from training.benchmark.suggester import scored_trials
from training.benchmark.suites import IndexKind, find_suites, load_suite
from training.benchmark.table import Table, read_json, write_json

from .tiny_suite import make_suite

REAL_SUITES = Path(__file__).parents[2].parent / "shared" / "bench"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_suite(tmp_path_factory.mktemp("suites") / "tiny")


@pytest.fixture(scope="module")
def bench(folder, tmp_path_factory):
    return Bench(load_suite(folder), tmp_path_factory.mktemp("indexes"))


@pytest.fixture(scope="module")
def task(bench):
    return bench.task("test", IndexKind.STD)


@pytest.fixture(scope="module")
def answers(bench):
    return bench.suite.answers("test", IndexKind.STD)


def run(bench, task, answers, method):
    return run_method(bench, "test", IndexKind.STD, method, task, answers)


def benchmark(folder, **options):
    out = StringIO()
    call_command("benchmark", str(folder), stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


# --- phrases and search


def test_phrases_have_no_mask_and_the_lengths_asked_for(bench):
    assert phrases_of("办证*速来", bench.suite.analysis, range(2, 4)) == ["办 证", "速 来"]


def test_frequencies_equal_a_count_of_the_texts(bench):
    training = bench.training
    phrases = [
        phrase for report in training.reports for phrase in phrases_of(report.text, bench.suite.analysis, range(2, 11))
    ]
    table = frequencies(phrases, training.items, bench.suite.analysis)
    for phrase in phrases[:40]:
        holding = [item for item in training.items if bench.suite.analysis.matches(item.text, phrase, MatchMode.PHRASE)]
        assert (table[phrase].items, table[phrase].toxic) == (len(holding), sum(item.toxic for item in holding))


def test_pruned_search_finds_every_phrase_that_matches(task):
    for report in task.reports[:5]:
        pruned = task.searcher.matching(report.text, range(2, 11))
        every = {
            phrase
            for phrase in phrases_of(report.text, task.analysis, range(2, 11))
            if task.searcher.find(phrase).matches
        }
        assert set(pruned) == every


def test_query_of_nothing_finds_nothing(task):
    assert task.searcher.find("。。。").ids == ()


# --- the log


def test_log_holds_the_reports_and_what_their_queries_showed(bench):
    judged = set(judged_items(bench.training))
    assert {report.item for report in bench.training.reports} <= judged
    query = next(query for queries in logged_queries(bench.training).values() for query in queries)
    assert set(bench.training.searcher.find(query).ids) <= judged


def test_log_is_smaller_than_the_train_split(bench):
    assert len(judged_items(bench.training)) < len(bench.training.items)


def test_logged_risk_tells_the_kinds_apart(task):
    toxic, normal = risk_of(task).score(["代办毕业证加微信", "今天天气不错晚上吃什么好"])
    assert toxic > normal


# --- methods


@pytest.mark.parametrize("method", [name for name in DEFAULT if name != "lexicon"])
def test_queries_are_phrases_of_their_reports(task, answers, method):
    texts = {report.id: task.analysis.key(report.text, MatchMode.PHRASE) for report in task.reports}
    choice = choose(method, task, answers)
    assert choice.queries
    assert all(task.analysis.key(query.text, MatchMode.PHRASE) in texts[query.report] for query in choice.queries)


@pytest.mark.parametrize("method", DEFAULT)
def test_equal_seeds_give_equal_rows(bench, task, answers, method):
    first, second = (run(bench, task, answers, method).as_json() | {"seconds": 0} for _ in range(2))
    assert first == second


def test_search_plays_at_most_three_queries_a_report(task, answers):
    reports = [query.report for query in choose("search", task, answers).queries]
    assert max(map(reports.count, reports)) <= 3


def test_search_one_plays_at_most_one_query_a_report(task, answers):
    reports = [query.report for query in choose("search-one", task, answers).queries]
    assert len(set(reports)) == len(reports)


def test_oracle_finds_no_less_than_search(bench, task, answers):
    assert run(bench, task, answers, "oracle").u_at_5 >= run(bench, task, answers, "search").u_at_5


def test_search_finds_more_than_chance(bench, task, answers):
    assert run(bench, task, answers, "search").u_at_5 > run(bench, task, answers, "random").u_at_5


def test_unknown_method_is_a_key_error(task, answers):
    with pytest.raises(KeyError):
        choose("magic", task, answers)


# --- forecast against outcome


def test_bands_count_every_proposal_once(task, answers):
    calibration = calibrate(task, answers)
    bands = calibration.bands
    proposals = [propose(trials, seen=set(), floor=0.0) for trials in scored_trials(task, risk_of(task))]
    assert sum(band.proposals for band in bands) == sum(map(len, proposals))
    assert all(band.effective <= band.proposals and band.toxic <= band.new for band in bands)
    assert calibration.without == sum(not propose(trials, seen=set()) for trials in scored_trials(task, risk_of(task)))


def test_command_shows_the_bands_of_each_index(folder):
    printed = benchmark(folder, calibrate=True, index="std,fresh")
    assert [line for line in printed.splitlines() if line.startswith("tiny")] == [
        "tiny, test, std",
        "tiny, test, fresh",
    ]


# --- rows, table, command


def test_row_agrees_with_itself(bench, task, answers):
    row = run(bench, task, answers, "search")
    assert row.reports == len(task.reports)
    assert row.effective <= row.queries
    assert row.unique <= row.hit_at_100
    assert row.excess <= row.u_at_5 <= row.unique <= row.reviewed
    for name, value in (("query_hit_rate", row.query_hit_rate), ("hit_at_100", row.hit_at_100), ("u_at_5", row.u_at_5)):
        low, high = row.intervals[name]
        assert low <= value <= high


def test_rows_survive_their_file(bench, task, answers, tmp_path):
    rows = [run(bench, task, answers, "random")]
    write_json(Table(rows).as_json(), tmp_path / "rows.json")
    assert read_json(tmp_path / "rows.json") == rows
    assert read_json(tmp_path / "none.json") == []


def test_table_has_a_head_and_a_line_a_row(bench, task, answers):
    head, line = Table([run(bench, task, answers, "longest")]).as_text().splitlines()
    assert head.split()[:5] == ["suite", "split", "index", "method", "U@5"]
    assert line.split()[:4] == ["tiny", "test", "std", "longest"]


def test_command_writes_a_row_for_each_method_and_index(folder, tmp_path):
    out = tmp_path / "rows.json"
    printed = benchmark(folder.parent, methods="search,random", index="std,fresh", json=out)
    rows = json.loads(out.read_text())
    assert [(row["suite"], row["index"], row["method"]) for row in rows] == [
        ("tiny", "std", "search"),
        ("tiny", "std", "random"),
        ("tiny", "fresh", "search"),
        ("tiny", "fresh", "random"),
    ]
    assert len(printed.strip().splitlines()) == 5


def test_command_goes_on_where_it_stopped(folder, tmp_path, bench, task, answers):
    out = tmp_path / "rows.json"
    done = run(bench, task, answers, "random")
    write_json([done.as_json()], tmp_path / "rows.json.unfinished")
    benchmark(folder, methods="random,longest", index="std", json=out)
    rows = read_json(out)
    assert rows[0] == done
    assert rows[1].method == "longest"
    assert not (tmp_path / "rows.json.unfinished").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"methods": "magic"}, "--methods: 'magic'"),
        ({"index": "old"}, "--index: 'old'"),
        ({"epochs": 0}, "--epochs: at least 1"),
    ],
)
def test_command_names_a_wrong_word(folder, options, named):
    with pytest.raises(CommandError, match=named):
        benchmark(folder, **options)


def test_command_refuses_a_folder_without_a_suite(tmp_path):
    with pytest.raises(CommandError, match="holds no suite"):
        benchmark(tmp_path)


def test_check_finds_the_figures_of_the_readme(folder):
    printed = benchmark(folder, check=True)
    assert printed.count("right") == 4  # three queries and the human phrases
    assert "WRONG" not in printed


def test_check_fails_on_a_wrong_figure(folder, tmp_path):
    other = make_suite(tmp_path / "tiny")
    readme = other / "README.md"
    readme.write_text(readme.read_text().replace("| 微信 | ", "| 微信 | 9"))
    with pytest.raises(CommandError, match="1 figures differ"):
        benchmark(other, check=True)


@pytest.mark.slow
@pytest.mark.skipif(not REAL_SUITES.is_dir(), reason=f"no labelled suites at {REAL_SUITES}")
def test_real_suites_give_the_figures_of_their_readmes(tmp_path):
    for folder in find_suites(REAL_SUITES):
        bench = Bench(load_suite(folder), tmp_path)
        figures = list(check_suite(bench, folder / "README.md"))
        assert figures
        assert [figure for figure in figures if not figure.is_right] == []

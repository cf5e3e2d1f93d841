"""The table: paired tests, the files it is written to, the plot, and both engines."""

import csv
import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django.core.management import CommandError, call_command

from training.benchmark.choice import MethodUnavailable
from training.benchmark.engines import EngineKind, open_engines
from training.benchmark.evaluator import Bench, compare_rows, run_method
from training.benchmark.llm import LLM
from training.benchmark.methods import DEFAULT, KNOWN, choose, settings_of
from training.benchmark.options import Options
from training.benchmark.plot import write_plot
from training.benchmark.suites import IndexKind, SuiteError, load_suite
from training.benchmark.table import Table, read_json, write_json
from training.management.commands.benchmark import Command

from .tiny_suite import make_suite

ROOT = Path(__file__).parents[2]
OPTIONS = {
    *(
        "methods",
        "index",
        "split",
        "seed",
        "engine",
        "against",
        "check",
        "calibrate",
        "json",
        "csv",
        "plot",
        "markdown",
    ),
    *("learn_from", "work", "epochs", "seq2seq", "llm"),
}
ASKED = {
    *("suite", "split", "index", "method", "queries", "effective", "query_hit_rate", "hit_at_100", "precision_at_100"),
    *("good", "unique", "reviewed", "u_at_5", "novel_unique", "intervals", "seconds"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_suite(tmp_path_factory.mktemp("suites") / "tiny")


@pytest.fixture(scope="module")
def rows(folder, tmp_path_factory):
    bench = Bench(load_suite(folder), tmp_path_factory.mktemp("indexes"))
    task, answers = bench.task("test", IndexKind.STD), bench.suite.answers("test", IndexKind.STD)
    names = ("search", "random", "oracle")
    return [run_method(bench, "test", IndexKind.STD, name, task, answers) for name in names]


def benchmark(folder, **options):
    out = StringIO()
    call_command("benchmark", str(folder), stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def test_json_rows_have_the_keys_that_others_rely_on(rows):
    for row in Table(rows).as_json():
        assert set(row) >= ASKED


def test_finds_of_the_reports_add_up(rows):
    for row in rows:
        assert len(row.found) == row.reports
        assert sum(row.found) == pytest.approx(row.u_at_5, abs=0.1)


def test_comparison_is_paired_by_report(rows):
    search, random, _oracle = rows
    ours = replace(search, found=[1.0, 0.0, 2.0, *[0.0] * (search.reports - 3)])
    theirs = replace(random, found=[0.0, 1.0, 2.0, *[0.0] * (search.reports - 3)])
    found = compare_rows(ours, theirs)
    assert (found.difference, found.wins, found.ties, found.losses) == (0.0, 1, search.reports - 2, 1)


def test_a_row_against_itself_is_a_tie(rows):
    found = compare_rows(rows[0], rows[0])
    assert (found.difference, found.interval.low, found.interval.high, found.ties) == (0, 0, 0, rows[0].reports)


def test_against_stands_in_table_and_json(rows):
    table = Table(rows, against="random")
    search, random, _oracle = table.as_json()
    assert random["against"] is None
    assert search["against"]["method"] == "random"
    assert search["against"]["difference"] == pytest.approx(rows[0].u_at_5 - rows[1].u_at_5, abs=0.1)
    head, *lines = table.as_text().splitlines()
    assert "- random" in head
    record = "{wins}/{ties}/{losses}".format(**search["against"])
    assert record in lines[0]


def test_comparisons_are_left_out_when_rows_are_read_again(rows, tmp_path):
    write_json(Table(rows, against="random").as_json(), tmp_path / "rows.json")
    assert read_json(tmp_path / "rows.json") == rows


def test_csv_has_an_interval_in_two_columns(rows, tmp_path):
    Table([replace(rows[0], settings={"epochs": 5}), *rows[1:]], against="random").write_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as lines:
        first, second, _third = list(csv.DictReader(lines))
    assert float(first["u_at_5_low"]) <= float(first["u_at_5"]) <= float(first["u_at_5_high"])
    assert first["against_method"] == "random"
    assert second["against_method"] == ""
    assert (first["settings"], second["settings"]) == ("epochs=5", "")
    assert "found" not in first


def test_markdown_has_a_rule_under_its_head(rows):
    head, rule, *lines = Table(rows).as_markdown().splitlines()
    assert head.startswith("| suite | split | index | method | U@5 |")
    assert set(rule) <= set("|-: ")
    assert len(lines) == len(rows)
    assert {line.count("|") for line in [head, rule, *lines]} == {head.count("|")}


def test_plot_has_a_line_and_a_dot_a_row(rows, tmp_path):
    write_plot(rows, tmp_path / "plot.svg")
    root = ElementTree.parse(tmp_path / "plot.svg").getroot()  # noqa: S314 - our own file
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert (tags.count("line"), tags.count("circle")) == (len(rows), len(rows))
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {row.method for row in rows} <= set(texts)


def test_command_writes_every_form(folder, tmp_path):
    printed = benchmark(
        folder,
        methods="search,random",
        index="std",
        against="random",
        json=tmp_path / "rows.json",
        csv=tmp_path / "rows.csv",
        plot=tmp_path / "plot.svg",
        markdown=True,
    )
    assert printed.startswith("| suite |")
    assert "- random" in printed
    assert json.loads((tmp_path / "rows.json").read_text())[0]["against"]["method"] == "random"
    assert (tmp_path / "rows.csv").read_text().count("\n") == 3
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")


def test_command_refuses_to_compare_with_what_it_does_not_run(folder):
    with pytest.raises(CommandError, match="--against: 'oracle'"):
        benchmark(folder, methods="search,random", against="oracle")


def test_command_leaves_out_what_cannot_run_and_says_so(folder, tmp_path):
    said = StringIO()
    call_command(
        "benchmark", str(folder), methods="random,zero-shot", index="std", stdout=StringIO(), stderr=said,
        json=tmp_path / "rows.json",
    )  # fmt: skip
    assert "zero-shot (2 of 2): left out, name a language model" in said.getvalue()
    assert [row.method for row in read_json(tmp_path / "rows.json")] == ["random"]


def test_readings_of_the_risk_model_stand_beside_each_other(folder, tmp_path):
    out = tmp_path / "rows.json"
    for reading in ("logged", "in-domain", "all"):
        benchmark(folder, methods="search", index="std", json=out, learn_from=reading)
        assert [row.learn_from for row in read_json(out)] == [reading]


def test_method_of_ones_own_is_named_by_its_module(folder):
    printed = benchmark(folder, methods="training.benchmark.floors.longest,longest", index="std")
    own, known = (line.split()[4:] for line in printed.splitlines()[1:])
    assert own[:-1] == known[:-1]


def test_function_that_is_not_there_is_named(folder):
    with pytest.raises(CommandError, match="--methods: .*nosuch"):
        benchmark(folder, methods="training.benchmark.floors.nosuch", index="std")


def test_rows_of_other_settings_are_other_rows(rows):
    settings = [settings_of("bart", Options(epochs=epochs)) for epochs in (None, 5, 20)]
    assert len({replace(rows[0], settings=each).cell for each in settings}) == 3
    assert settings_of("search", Options(epochs=5)) == {}


def test_human_row_is_left_out_where_nobody_marked_a_phrase(folder, tmp_path_factory):
    bench = Bench(load_suite(folder), tmp_path_factory.mktemp("indexes"))
    task, answers = bench.task("test", IndexKind.STD), bench.suite.answers("test", IndexKind.STD)
    nothing = replace(answers, human_phrases={report.id: () for report in task.reports})
    with pytest.raises(MethodUnavailable, match="nobody"):
        choose("human", task, nothing)


def test_example_of_the_documentation_runs(folder, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(example.splitlines()) <= 30
    (tmp_path / "mine.py").write_text(example, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    printed = benchmark(folder, methods="mine.rarest,search", index="std", against="search")
    own = printed.splitlines()[1].split()
    assert own[3] == "mine.rarest"
    assert int(own[7]) > 0  # its queries


def test_documentation_names_every_method_and_option():
    text = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    known = [name for name in KNOWN if name not in LLM]
    assert [name for name in known if f"`{name}`" not in text] == []
    parser = Command().create_parser("qexplorer", "benchmark")
    own = [action.option_strings[0] for action in parser._actions if action.dest in OPTIONS]
    assert [option for option in own if f"`{option}" not in text] == []


# --- engines


def test_elasticsearch_needs_its_address(settings):
    settings.ELASTICSEARCH_URL = ""
    with pytest.raises(SuiteError, match="QX_ELASTICSEARCH_URL"), open_engines(EngineKind.ELASTICSEARCH):
        pass


@pytest.mark.elasticsearch
def test_figures_are_equal_on_both_engines(folder, tmp_path, elasticsearch_8, settings):
    settings.ELASTICSEARCH_URL, settings.ELASTICSEARCH_API_KEY, settings.ELASTICSEARCH_CA_CERTS = (
        elasticsearch_8,
        "",
        "",
    )
    found = {}
    for engine in EngineKind:
        out = Path(tmp_path / f"{engine}.json")
        benchmark(folder, engine=engine.value, methods=",".join(DEFAULT), json=out)
        found[engine] = [replace(row, seconds=0.0) for row in read_json(out)]
    assert len(found[EngineKind.FTS5]) == 3 * len(DEFAULT)
    assert found[EngineKind.ELASTICSEARCH] == found[EngineKind.FTS5]


@pytest.mark.elasticsearch
def test_indexes_are_dropped_afterwards(folder, elasticsearch_8, settings):
    from extraction.search.elasticsearch import Connection

    settings.ELASTICSEARCH_URL, settings.ELASTICSEARCH_API_KEY, settings.ELASTICSEARCH_CA_CERTS = (
        elasticsearch_8,
        "",
        "",
    )
    benchmark(folder, engine="elasticsearch", methods="random", index="std")
    with Connection(elasticsearch_8).asking(10) as client:
        assert not client.indices.get(index="qx-benchmark-*").body

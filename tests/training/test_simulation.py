"""The parts of `simulate`: what is drawn, who has what, what is counted, and what stands in the tables."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from django.core.management import CommandError, call_command

from audit.models import Verdict
from qexplorer_site.queue_server import QueueServer
from tests.audit.loop import confirmed_report, explored, exposures_of, make_indexed, own
from tests.training.tiny_suite import make_suite
from training.benchmark.suites import load_suite
from training.simulation import running
from training.simulation.auditor import Auditor, Truth, Worked, Workers
from training.simulation.figures import of_round
from training.simulation.ground import stream_of
from training.simulation.plot import write_plot
from training.simulation.reconcile import reconcile
from training.simulation.rounds import days_of
from training.simulation.settings import START, Arm, Plan, SimulationError, chance, key_for
from training.simulation.table import as_markdown, curve, differences, learning
from training.simulation.tally import Tally, compared

PLAN = Plan(rounds=2, days=2, reports_a_day=3, warm_up=4)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return load_suite(make_suite(tmp_path_factory.mktemp("suites") / "zh-tiny", size=1080))


@pytest.fixture
def engine_file(settings, tmp_path):
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"


# --- what is drawn --------------------------------------------------------------------------------------------------


def test_what_is_drawn_depends_on_what_it_is_about_alone():
    assert chance(1, "verdict", "a") == chance(1, "verdict", "a")
    assert len({chance(seed, about, name) for seed in (1, 2) for about in ("x", "y") for name in ("a", "b")}) == 8
    assert 0.4 < sum(chance("mean", number) for number in range(1000)) / 1000 < 0.6
    assert key_for(1, "ab", "c") != key_for(1, "a", "bc")


def test_each_arm_adds_one_thing_to_the_one_before():
    has = [(arm.suggests, arm.refits, arm.trains) for arm in (Arm.HUMAN, Arm.FROZEN, Arm.RISK, Arm.FULL)]
    assert has == [(False, False, False), (True, False, False), (True, True, False), (True, True, True)]


def test_reports_come_in_an_order_that_only_the_seed_changes(suite):
    first, again, other = (stream_of(suite, seed, 16) for seed in (0, 0, 1))
    assert first == again != other
    assert stream_of(suite, 0, 8) == first[:8]
    assert {report.split for report in first} == {"train"}


def test_a_suite_with_too_few_reports_is_refused(suite):
    with pytest.raises(SimulationError, match="24 train reports, and 25"):
        stream_of(suite, 0, 25)


def test_every_report_of_the_stream_comes_on_one_day(suite):
    stream = stream_of(suite, 0, PLAN.stream)
    days = [day for number in range(PLAN.rounds + 1) for day in days_of(stream, PLAN, number)]
    assert [report for day in days for report in day.reports] == stream
    assert [(day.begins - START).days for day in days] == [0, 1, 2, 3, 4, 5]
    assert [len(day.reports) for day in days] == [3, 1, 3, 3, 3, 3]


def test_work_of_another_plan_or_another_suite_has_another_name(suite, tmp_path):
    folder, other = make_suite(tmp_path / "one"), make_suite(tmp_path / "two", seed=8)
    digests = {PLAN.digest(folder), PLAN.digest(other), replace(PLAN, error=0.0).digest(folder)}
    assert len(digests) == 3
    assert PLAN.digest(folder) == PLAN.digest(folder)


# --- the auditor ----------------------------------------------------------------------------------------------------


def an_auditor(user, *, toxic=None, own=None, error=0.0, tally=None):
    truth = Truth(toxic or {}, own or {})
    tally = tally or Tally()
    return Auditor(user, truth, seed=0, error=error, tally=tally, workers=Workers(), now=START)


def test_a_stated_share_of_the_items_is_judged_wrongly_and_always_the_same(db, auditor):
    toxic = {str(number): number % 2 == 0 for number in range(2_000)}
    one, another = (an_auditor(auditor, toxic=toxic, error=0.03) for _time in range(2))
    said = {name: one.verdict_on(name) for name in toxic}
    wrong = sum((verdict == Verdict.TOXIC) != toxic[name] for name, verdict in said.items())
    assert 40 <= wrong <= 80
    assert said == {name: another.verdict_on(name) for name in toxic}


def test_an_auditor_judges_no_more_than_the_allowance(db, engine_file, auditor):
    items = make_indexed(*(f"forged diploma number {number}" for number in range(9)))
    report = confirmed_report(auditor, "forged diploma for sale")
    own(report, auditor, "forged diploma")
    tally = Tally()
    worked = Worked(report.pk)
    truth = {item.external_id: True for item in items}
    an_auditor(auditor, toxic=truth, tally=tally)._explore(report, 4, worked)
    assert (worked.reviewed, len(worked.found), len(tally.judgments)) == (4, 4, 4)
    assert list(tally.pages.values()) == [[9]]


@pytest.mark.usefixtures("db", "engine_file")
def test_an_auditor_makes_a_phrase_that_comes_twice_one_query(auditor):
    make_indexed("forged diploma one")
    report = confirmed_report(auditor, "forged diploma for sale")
    an_auditor(auditor, own={report.item.external_id: ["forged", "forged", "diploma", "sale"]})._add_own(report)
    assert [decision.text for decision in report.decisions.order_by("pk")] == ["forged", "diploma"]


# --- the figures ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("db", "engine_file")
def test_the_figures_of_a_round_come_from_the_log(auditor):
    make_indexed("forged diploma one", "forged diploma two", "a diploma of honour")
    report = confirmed_report(auditor, "forged diploma for sale")
    exploration = explored(report, auditor, "forged diploma", "sale")
    exposures = exposures_of(exploration)
    truth = {exposure.item.external_id: True for exposure in exposures}
    person, worked = an_auditor(auditor, toxic=truth), Worked(report.pk, is_confirmed=True, exploration=exploration.pk)
    for exposure in exposures:
        person._judge(exposure, worked)
    figures = of_round([worked, Worked(0)])
    assert (figures["reviewed"], figures["toxic_found"], figures["found"]) == (2, 2, [2, 0])
    assert (figures["own_queries"], figures["queries_run"], figures["acceptance"]) == (2, 2, {})
    assert (figures["hits_of_own"], figures["hits_of_model_only"], figures["hit_queries_own"]) == (2, 0, 1)


# --- the account ----------------------------------------------------------------------------------------------------


def test_what_is_lost_or_done_twice_differs():
    assert compared("rows", "ab", "ba").agrees
    lost, doubled, unknown = compared("rows", "ab", "a"), compared("rows", "ab", "abb"), compared("rows", "a", "ab")
    assert [one.differing for one in (lost, doubled, unknown)] == [1, 1, 1]
    assert not (lost.agrees or doubled.agrees or unknown.agrees)


def test_an_account_goes_on_after_a_restart(tmp_path):
    tally = Tally(judgments={"a": "toxic"}, removed=["x"], pages={"e": [3, 0]})
    tally.save(tmp_path)
    assert Tally.load(tmp_path) == tally
    assert Tally.load(tmp_path / "elsewhere") == Tally()


@pytest.mark.usefixtures("db", "engine_file")
def test_the_log_is_compared_with_what_was_acknowledged(auditor):
    make_indexed("forged diploma one")
    report = confirmed_report(auditor, "forged diploma for sale")
    wrong = {one.what: one.differing for one in reconcile(Tally()) if not one.agrees}
    # The judgment and the removal stand in the log, and nobody was told of them.
    assert wrong == {"judgments": 1, "removals": 1}
    tally = Tally(judgments={str(report.judgments.get().public_id): "toxic"}, removed=[report.item.external_id])
    assert all(one.agrees for one in reconcile(tally))


# --- the tables -----------------------------------------------------------------------------------------------------


def a_row(arm, number, found, *, seed=0, site=None, **kwargs):
    return {
        "suite": "s",
        "seed": seed,
        "arm": arm,
        "round": number,
        "reviewed": 10,
        "toxic_found": sum(found),
        "toxic_per_1000": 100.0 * sum(found),
        "wrongly_removed": 0,
        "found": found,
        "acceptance": {},
        "hits_of_own": 4,
        "hits_of_model_only": 1,
        "hit_queries_own": 2,
        "hit_queries_model": 1,
        "risk": {},
        "adapter": {},
        "u_at_5": {"site": site} if site else {},
        "faults": [],
        "seconds": {"work": 1.0},
        "compared": [],
    } | kwargs


def test_the_curve_shows_the_mean_and_the_spread_over_seeds():
    rows = [a_row("frozen", 1, [2, 1]), a_row("frozen", 1, [4, 1], seed=1), a_row(None, 0, [1])]
    rows[0]["acceptance"], rows[1]["acceptance"] = {"search": [1, 4]}, {"search": [2, 4]}
    head, warm_up, line = curve(rows)
    cells = dict(zip(head, line, strict=True))
    assert (warm_up[1], line[1]) == ("warm-up", "frozen")
    assert (cells["toxic found"], cells["per 1,000"], cells["reviewed"]) == ("4 (3-5)", "400 (300-500)", "10")
    assert (cells["accepted: search"], cells["detection +"]) == ("38% of 8", "25% of 8")


def test_what_was_learned_stands_beside_what_became_of_it():
    gate = {"verdict": "refuses", "unique": [8, 5, -1.0, 7.0]}
    made = {
        "adapter": "dpo-2",
        "state": "refused",
        "rows": {"sft": 30, "pol": 9},
        "d_comp": 2,
        "pooled": 40,
        "gate": gate,
    }
    measured = {"site": {"std": 9, "fresh": 3}, "adapter": {"std": 4, "fresh": 1}}
    head, line = learning([a_row("human", 1, [1]), a_row("full", 1, [1], adapter=made, u_at_5=measured)])
    assert head[3:7] == ["site U@5 std", "fresh", "adapter U@5 std", "fresh"]
    assert line[3:] == ["9", "3", "4", "1", "refused (8 against 5: -1 to +7)", "30", "9", "2", "40", "1"]


def test_arms_are_compared_report_by_report_and_seed_by_seed():
    rows = [
        a_row(None, 0, [9], site={"std": 5, "fresh": 3}),
        a_row(None, 0, [9], seed=1, site={"std": 9, "fresh": 1}),
        a_row("frozen", 1, [0, 2]),
        a_row("risk", 1, [1, 2], site={"std": 9, "fresh": 3}),
        a_row("full", 1, [1, 1], site={"std": 8, "fresh": 5}),
        a_row("frozen", 1, [0, 0], seed=1),
        a_row("risk", 1, [3, 0], seed=1, site={"std": 9, "fresh": 3}),
        a_row("full", 1, [3, 0], seed=1, site={"std": 9, "fresh": 2}),
    ]
    _head, refit, trained = differences(rows)
    assert refit[1:3] == ["risk - frozen", "+4"]
    assert refit[4:] == ["2/2/0", "+1, +3", "+4, +0", "+0, +2"]
    assert trained[1:] == ["full - risk", "-1", "-3 to +0", "0/3/1", "-1, +0", "-1, +0", "+2, -1"]


def test_a_table_is_markdown():
    assert as_markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_plot_draws_each_arm_of_each_suite(tmp_path):
    rows = [a_row(arm, number, [number]) for arm in ("human", "full") for number in (1, 2)]
    write_plot([a_row(None, 0, [1]), *rows], tmp_path / "plot.svg")
    root = ElementTree.parse(tmp_path / "plot.svg").getroot()  # noqa: S314 - our own file
    assert len(root.findall(".//{*}polyline")) == 2
    assert len(root.findall(".//{*}circle")) == 4
    # What was found so far: 1, then 1 + 2.
    ys = [float(circle.get("cy")) for circle in root.findall(".//{*}circle")[:2]]
    assert ys[1] < ys[0] < 226
    assert {text.text for text in root.findall(".//{*}text")} >= {"s: toxic items found so far", "3", "round 2"}


# --- the command ----------------------------------------------------------------------------------------------------


def test_nothing_of_the_operators_settings_reaches_a_site(monkeypatch, tmp_path):
    for name in ("DATABASE_URL", "REDIS_URL", "ELASTICSEARCH_URL", "QX_MAX_SUGGESTIONS", "QX_LLM_URL"):
        monkeypatch.setenv(name, "the operator's")
    environment = running._environment(tmp_path)
    assert "the operator's" not in environment.values()
    assert environment["QX_VAR_DIR"] == str(tmp_path)
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("wrong", [["--arms", "best"], ["--rounds", "0"], ["--faults", "fire"], ["--seeds", "one"]])
def test_a_wrong_word_is_refused(wrong, tmp_path):
    with pytest.raises(CommandError):
        call_command("simulate", str(tmp_path), *wrong)


def test_a_folder_without_a_suite_is_refused(tmp_path):
    with pytest.raises(CommandError, match="holds no suite"):
        call_command("simulate", str(tmp_path))


def test_totals_that_differ_from_the_log_fail_the_command(monkeypatch, tmp_path):
    make_suite(tmp_path / "zh-tiny")
    differs = {"what": "judgments", "acknowledged": 3, "logged": 2, "differing": 1}
    rows = [a_row("human", 1, [1], compared=[differs])]
    monkeypatch.setattr(running.Simulation, "rows", lambda self: iter(rows))
    with pytest.raises(CommandError, match="judgments in round 1 of arm human, seed 0: 3 acknowledged, 2 in the log"):
        call_command("simulate", str(tmp_path), "--json", str(tmp_path / "rows.json"))
    assert json.loads((tmp_path / "rows.json").read_text()) == rows


def test_a_queue_server_ends_with_its_standard_input(tmp_path):
    command = [sys.executable, "-m", "qexplorer_site.queue_server", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert QueueServer(tmp_path).answers()
        process.stdin.close()
        assert process.wait(10) == 0
    assert not QueueServer(tmp_path).answers()

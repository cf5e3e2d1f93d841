"""The whole simulation on a suite in miniature, in processes of its own: arms, faults, interruption, the same again."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from tests.environment import VAR_DIR
from tests.tiny import need_learning_stack
from tests.training.tiny_suite import make_suite
from training.simulation.running import Simulation
from training.simulation.settings import Arm, Fault, Plan

pytestmark = pytest.mark.slow

PLAN = Plan(rounds=2, days=1, reports_a_day=5, reviews_a_day=50, warm_up=8, profile="tiny")
SEED = 3
ARMS = (Arm.HUMAN, Arm.FROZEN, Arm.FULL)
WORDS = "--rounds 2 --days 1 --reports-a-day 5 --reviews-a-day 50 --warm-up 8 --profile tiny --seeds 3 --arms human"


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    need_learning_stack()
    return make_suite(tmp_path_factory.mktemp("suites") / "zh-tiny", size=1080)


def simulated(suite, work, *, arms=ARMS, faults=()):
    said = []
    simulation = Simulation(suite, PLAN, [SEED], arms, work, said.append, faults)
    return list(simulation.rows()), next(work.iterdir()) / f"seed-{SEED}"


@pytest.fixture(scope="module")
def straight(suite, tmp_path_factory):
    """The rows, and the folder of the seed."""
    return simulated(suite, tmp_path_factory.mktemp("straight"))


def started_like(straight, work, *, with_warm_up=True):
    """A work folder with the same ground, which takes the longest."""
    place = straight[1].parent
    work.mkdir()
    shutil.copytree(place / "shared", work / place.name / "shared", symlinks=True)
    shutil.copytree(place / "ground", work / place.name / "ground", symlinks=True)
    if with_warm_up:
        shutil.copytree(straight[1] / "warm-up", work / place.name / straight[1].name / "warm-up", symlinks=True)
    return work


def of(rows, arm, number=None):
    return [row for row in rows if row["arm"] == arm and number in (None, row["round"])]


def figures(row):
    """Everything that is not about this one run."""
    return {name: value for name, value in row.items() if name not in ("seconds", "faults", "compared")}


def asked(folder, statement):
    with sqlite3.connect(f"file:{folder / 'db.sqlite3'}?mode=ro", uri=True) as connection:
        return connection.execute(statement).fetchall()


def test_there_is_a_row_for_each_round_of_each_arm(straight):
    rows, _folder = straight
    assert [(row["arm"], row["round"]) for row in rows] == [
        (None, 0),
        *((arm.value, number) for arm in ARMS for number in (1, 2)),
    ]
    assert all(row["reviewed"] > 0 for row in rows)


def test_the_log_agrees_with_what_was_acknowledged_to_the_row(straight):
    for row in straight[0]:
        assert all(one["acknowledged"] == one["logged"] and not one["differing"] for one in row["compared"]), row
    assert {one["what"]: one["logged"] for one in straight[0][-1]["compared"]}["judgments"] > 50


def test_people_alone_are_shown_no_suggestion(straight):
    rows, folder = straight
    assert [row["acceptance"] for row in of(rows, "human")] == [{}, {}]
    assert asked(folder / "human" / "2", "SELECT count(*) FROM audit_suggestionbatch") == [(0,)]
    assert any(row["acceptance"] for row in of(rows, "frozen"))


def test_all_arms_work_the_same_reports_in_the_same_order_with_the_same_own_queries(straight):
    rows, folder = straight
    statement = (
        "SELECT item.external_id, report.opened, query.key FROM audit_report report "
        "JOIN audit_item item ON item.id = report.item_id "
        "LEFT JOIN audit_decision decision ON decision.report_id = report.id AND decision.kind = 'own' "
        "LEFT JOIN audit_query query ON query.id = decision.query_id ORDER BY report.id, decision.id"
    )
    logs = [[(item, key) for item, _at, key in asked(folder / arm / "2", statement)] for arm in ARMS]
    assert logs[0] == logs[1] == logs[2]
    assert len({item for item, _key in logs[0]}) == 12 + PLAN.stream  # 12 are in the frozen set


def test_one_verdict_on_an_item_is_the_verdict_of_every_arm(straight):
    _rows, folder = straight
    statement = (
        "SELECT item.external_id, judgment.verdict FROM audit_judgment judgment "
        "JOIN audit_itemtext text ON text.id = judgment.item_text_id JOIN audit_item item ON item.id = text.item_id"
    )
    verdicts = [dict(asked(folder / arm / "2", statement)) for arm in ARMS]
    shared = verdicts[0].keys() & verdicts[1].keys() & verdicts[2].keys()
    assert len(shared) > 20
    assert all(len({own[item] for own in verdicts}) == 1 for item in shared)


def test_only_the_arm_that_learns_has_new_models(straight):
    rows, folder = straight
    models = "SELECT (SELECT count(*) FROM extraction_riskmodel), (SELECT count(*) FROM extraction_adapter)"
    assert [asked(folder / arm / "2", models) for arm in ARMS] == [[(1, 2)], [(1, 2)], [(3, 6)]]
    learned = of(rows, "full")
    assert [row["risk"]["version"] for row in learned] == [2, 3]
    assert [row["adapter"]["state"] in ("promoted", "refused") for row in learned] == [True, True]
    assert learned[-1]["adapter"]["rows"]["sft"] > rows[0]["adapter"]["rows"]["sft"]
    assert all(row["u_at_5"]["adapter"]["std"] >= 0 and row["u_at_5"]["site"]["std"] > 0 for row in learned)


def test_nothing_of_the_frozen_set_is_live(straight):
    _rows, folder = straight
    frozen = "SELECT DISTINCT state FROM audit_item WHERE id IN (SELECT item_id FROM audit_itemtext WHERE id IN ({}))"
    [(reports,)] = asked(folder / "full" / "2", "SELECT reports FROM training_evaluationset")
    texts = ",".join(str(text) for _report, text in json.loads(reports))
    assert asked(folder / "full" / "2", frozen.format(texts)) == [("gone",)]


def test_faults_change_no_figure_and_lose_no_row(straight, suite, tmp_path):
    work = started_like(straight, tmp_path / "work")
    [place] = work.iterdir()
    place.rename(place.with_name(f"{place.name}-engine-worker"))
    rows, _folder = simulated(suite, work, arms=[Arm.FULL], faults=[Fault.WORKER, Fault.ENGINE])
    assert [figures(row) for row in rows[1:]] == [figures(row) for row in of(straight[0], "full")]
    happened = "; ".join(rows[1]["faults"])
    assert "was killed (-9) when 1 of" in happened
    assert "(sft) was killed at step" in happened
    assert "the index was away when" in happened
    assert "the index was away while results were judged" in happened
    assert all(one["acknowledged"] == one["logged"] and not one["differing"] for one in rows[1]["compared"])


def test_a_killed_simulation_goes_on_to_the_same_figures(straight, suite, tmp_path):
    out = tmp_path / "rows.json"
    started_like(straight, tmp_path / "rows.json.unfinished", with_warm_up=False)
    command = [sys.executable, "manage.py", "simulate", str(suite), *WORDS.split(), "--json", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "human/1" in line:
                process.send_signal(signal.SIGKILL)
                break
    assert len(json.loads(out.read_text())) == 1
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "warm-up: " not in done.stderr
    assert [figures(row) for row in json.loads(out.read_text())] == [
        figures(row) for row in straight[0] if row["arm"] in (None, "human")
    ]
    assert "| zh-tiny | human | 2 |" in done.stdout
    assert not out.with_name("rows.json.unfinished").exists()


def test_the_sites_own_folder_and_database_are_left_alone(straight):
    """The simulation ran under this process's settings: it may have put nothing into its folder."""
    assert not list(VAR_DIR.glob("**/tally.json"))

"""The notebook goes from an export to the paper's tables, and its figures are those of the product."""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from audit.demo.load import DemoOptions, load
from audit.insights import figures
from audit.insights.counting import new_counts
from audit.insights.measures import Part
from audit.insights.reading import count_week
from audit.insights.weeks import Week, weeks_from
from audit.models import Arm, Decision, DecisionKind, Exposure, QueryRun, Verdict
from tests import factories as make
from training.metrics import Ranking, aggregate

ROOT = Path(settings.BASE_DIR)
NOTEBOOK = ROOT / "docs" / "research" / "paper_tables.ipynb"
MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def executed(folder):
    """The names that the notebook's code leaves, run cell by cell on the export in `folder`."""
    names = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QX_EXPORT", str(folder))
        patch.setenv("QX_BENCHMARK", str(ROOT / "docs" / "figures" / "benchmark.csv"))
        patch.setenv("QX_ZONE", settings.TIME_ZONE)
        for cell in cells():
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102 - our own notebook
    return names


def exported(folder):
    call_command("export_logs", format="parquet,trec", out=folder, verbosity=0)
    return executed(folder)


def test_notebook_is_kept_without_output():
    assert all(cell.get("outputs", []) == [] and cell.get("execution_count") is None for cell in cells())


# --- a small site ---------------------------------------------------------------------------------------------------


@pytest.fixture
def site(db):
    """Two weeks, both arms: accepted, edited, rejected, undone, own and equal queries; two explorations."""
    ana = make.make_user("ana")
    for number, arm in enumerate([Arm.VISIBLE, Arm.OWN_FIRST]):
        at = MONDAY + timedelta(days=7 * number)
        report = make.make_claimed_report(user=ana, text="假文凭 加微信 钢印", arm=arm, confirmed=at, revealed=at)
        words = {word: make.make_suggestion(word, report=report) for word in ["假文凭", "加微信", "钢印", "先看样"]}
        who = {"user": ana, "arm": arm, "at": at}
        own = make.make_decision(report=report, text="毕业证", **who)
        taken_back = make.make_decision(report=report, text="证书", **who)
        make.make_decision(undoes=taken_back, at=at)
        make.make_decision(report=report, query=words["先看样"].query, **who)  # nobody decided on that suggestion
        accepted = make.make_decision(suggestion=words["假文凭"], **who)
        make.make_decision(suggestion=words["加微信"], kind=DecisionKind.REJECTED, **who)
        edited = make.make_decision(suggestion=words["钢印"], kind=DecisionKind.EDITED, text="钢印水印", **who)
        explored = make.make_exploration(decisions=[own, accepted, edited], at=at, created_by=ana)
        by_own, by_model, by_edit = [
            make.make_run(exploration_query=place, live=4, at=at) for place in explored.queries.order_by("position")
        ]
        both, alone, third, harmless = [make.make_item() for _number in range(4)]
        for run, item, verdict in [
            (by_own, both, Verdict.TOXIC),
            (by_own, harmless, Verdict.NORMAL),
            (by_model, both, None),
            (by_model, alone, Verdict.TOXIC),
            (by_model, harmless, None),
            (by_edit, third, Verdict.CANT_TELL),
        ]:
            exposure = make.make_exposure(run=run, item=item, at=at + timedelta(minutes=1))
            if verdict:
                make.make_judgment(exposure=exposure, verdict=verdict, at=at + timedelta(minutes=2))


@pytest.fixture
def found(site, tmp_path):
    return exported(tmp_path)


def test_online_methods_are_those_of_the_log(found):
    rows = {row["method"]: row for row in found["table5"]}
    human, model = rows.pop("human"), rows.popitem()[1]
    assert (human["# queries"], human["effective"], human["hit@100"], human["judged"]) == (4, 2, 2, 4)
    assert (model["# queries"], model["effective"], model["hit@100"], model["judged"]) == (2, 2, 4, 6)
    assert human["query hit rate"] == 0.5
    assert human["judged@100"] == pytest.approx(4 / 6)
    assert not rows


def test_run_without_a_result_counts_as_zero(site, tmp_path):
    make.make_run()
    rows = {row["method"]: row for row in exported(tmp_path)["table5"]}
    assert (rows["human"]["# queries"], rows["human"]["query hit rate"]) == (5, 2 / 5)


def test_online_metrics_of_the_small_site(found):
    for arm in ("visible", "own_first"):
        row = found["table7"][arm]
        assert (row["acceptance"], row["of"], row["edited"]) == (pytest.approx(2 / 3), 3, 1)
        assert (row["human acceptance"], row["of own"]) == (pytest.approx(1 / 3), 3)
        assert (row["equal"], row["detection increment"], row["hit-query increment"]) == (1, 1.0, 1.0)
    assert set(found["weekly7"]) == {("2026-W10", "visible"), ("2026-W11", "own_first")}


def test_ablation_is_that_of_the_evaluations(site, tmp_path):
    run = make.make_learning_run(dataset=make.make_dataset(kind="union"))
    figures_of = {"queries": 9, "effective": 5, "query_hit_rate": 5 / 9, "hits": 40, "unique": 12, "budget": 50}
    make.make_evaluation(adapter=run.adapter, figures=figures_of | {"intervals": {"unique": [8, 15]}})
    (row,) = exported(tmp_path)["table6"]
    assert (row["data"], row["trained"], row["hit@100"], row["unique"], row["low"]) == ("union", "sft", 40, 12, 8)


def test_file_that_was_changed_is_refused(site, tmp_path):
    exported(tmp_path)
    (tmp_path / "trec_qrels.v1.trec").write_text("")
    with pytest.raises(AssertionError, match="is not the file"):
        executed(tmp_path)


def test_files_of_two_secrets_are_refused(site, tmp_path):
    exported(tmp_path)
    with override_settings(PSEUDONYM_SECRET="a new secret"):
        call_command("export_logs", format="parquet", stream="flat", out=tmp_path, verbosity=0)
    with pytest.raises(AssertionError, match="different secrets"):
        executed(tmp_path)


# --- against the product --------------------------------------------------------------------------------------------


def assert_agrees_with_the_product(found):
    """Tables 5 and 7 of the notebook against training.metrics and the page of weekly figures."""
    for row in found["table5"]:
        ours = aggregate(rankings(found, row["method"]), verdicts(found))
        assert (row["# queries"], row["effective"], row["hit@100"]) == (ours.queries, ours.effective, ours.hits)
        assert row["query hit rate"] == pytest.approx(ours.query_hit_rate)
    compared = 0
    for (week, arm), totals in weekly_totals().items():
        row = found["online"](found["counts"].get((week, arm), defaultdict(int)))
        for name, share in [
            ("acceptance", figures.acceptance_of_models(totals)),
            ("human acceptance", figures.acceptance_of_people(totals)),
            ("equal to human", figures.equal_to_human(totals)),
            ("detection increment", figures.detection_increment(totals)),
            ("hit-query increment", figures.hit_query_increment(totals)),
        ]:
            whole = share.whole if isinstance(share, figures.Rate) else share.human
            assert row[name] == (pytest.approx(share.value) if whole else None), (week, arm, name)
            compared += whole > 0
    assert compared


def rankings(found, method):
    return [
        Ranking(
            "r",
            topic,
            tuple(Exposure.objects.filter(run=topic[4:]).order_by("rank").values_list("item_text", flat=True)),
        )
        for topic, maker in found["makers"].items()
        if maker == method
    ]


def verdicts(found):
    return {int(one.doc_id.removeprefix("text-")): bool(one.relevance) for one in found["qrels"]}


def weekly_totals():
    """(week, arm) → the product's own counts."""
    first = min(Decision.objects.order_by("at").first().at, QueryRun.objects.order_by("at").first().at)
    totals = defaultdict(lambda: defaultdict(float))
    for week in weeks_from(Week.of(first), Week.of(timezone.now())):
        for part in (Part.DECISIONS, Part.EXPLORATIONS):
            counts = new_counts()
            count_week(part, week, week.end, counts)
            for (cell, count), value in counts.items():
                totals[week.name, cell.arm][count] += value
    return totals


def test_tables_of_the_small_site_are_the_products(found):
    assert_agrees_with_the_product(found)


@pytest.mark.slow
@pytest.mark.django_db
def test_tables_of_the_demo_are_the_products(tmp_path):
    with override_settings(SEARCH_FILE=tmp_path / "search.sqlite3"), transaction.atomic():
        load(DemoOptions(seed=5, size=1500, past=24, waiting=10))
        found = exported(tmp_path / "export")
        assert found["table5"]
        assert_agrees_with_the_product(found)

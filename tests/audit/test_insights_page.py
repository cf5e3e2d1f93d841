"""The page Insights: what it says of stored counts, its filters, its download, and how it looks without any."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit.insights.page import Filters, InsightsPage
from audit.insights.rollup import roll_up
from audit.models import CountedWeek, WeeklyCount
from tests.audit.insights_log import MONDAY, NOW, WEEK, accepted, confirmed, english_in, explored, items, judge, own
from tests.factories import make_policy, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _wednesday(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


@pytest.fixture(scope="module", autouse=True)
def _worked(django_db_setup, django_db_blocker):
    """A log that no test changes for the others; taken back at the end."""
    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock(), transaction.atomic():
        patch.setattr("django.utils.timezone.now", lambda: NOW)
        _work()
        yield
        transaction.set_rollback(True)


def _work():
    """Two weeks with 12 suggestions each, 9 accepted; 12 own queries, 11 run; of 24 toxic items 12 by models alone."""
    people = [make_user(), make_user()]
    for at, policy, arm in (
        (MONDAY, make_policy("forged", name="Forged documents"), "visible"),
        (MONDAY + WEEK, make_policy("jobs", name="Fake jobs"), "own_first"),
    ):
        report = confirmed(people[0], at, policy=policy, arm=arm, revealed=at)
        made = [own(report, people[0], f"own {n}", arm=arm) for n in range(11)]
        made += [accepted(report, people[0], f"model {n}", arm=arm) for n in range(9)]
        own(report, people[0], "never run", arm=arm)
        for n in range(3):
            accepted(report, people[0], f"bad {n}", kind="rejected", arm=arm)
        found = items(24)
        explored(made, {"own 0": found[:12], "model 0": found[6:]})
        for item in found:
            judge(item, policy, people[0], "toxic", at + timedelta(minutes=5))
        judge(found[0], policy, people[1], "toxic", at + timedelta(minutes=9))
    roll_up()


@pytest.fixture
def client(researcher, login):
    return login(researcher)


def read(client, **query):
    response = client.get(reverse("audit:insights"), query)
    assert response.status_code == 200
    return response.content.decode()


def rows_of(client, kind="csv", **query):
    response = client.get(reverse(f"audit:insights-{kind}"), query)
    assert response.status_code == 200
    return b"".join(response).decode()


# --- what it says ---------------------------------------------------------------------------------------------------


def test_each_headline_figure_stands_with_its_counts_and_interval(client):
    markup = read(client)
    for words in (
        "75.0%",
        "18 of 24 suggestions",
        "95% interval 55.1 to 88.0",
        "91.7%",
        "22 of 24 own queries run",
        "0 of 24, counted as human",
        "+100.0%",
        "24 toxic items over 24",
        "2 hit queries over 2",
    ):
        assert words in markup, words


def test_too_few_are_counts_and_no_share(client):
    assert "2 of 2 pairs on one text" in read(client)
    page = InsightsPage(Filters())
    assert not page.total.hits.is_enough
    assert "too few" in read(client)


def test_the_pooling_bias_is_stated(client):
    assert "Unjudged is unknown, not normal." in read(client)


def test_the_running_week_is_marked(client):
    markup = read(client)
    assert "W22 is not over" in markup
    assert markup.count("data-running") == 2


def test_figures_of_two_days_ago_are_said_to_be_late(client, monkeypatch):
    assert "has not counted since" not in read(client)
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW + timedelta(days=2))
    assert "has not counted since" in read(client)


def test_weeks_of_an_earlier_definition_are_named(client):
    CountedWeek.objects.filter(monday__lte=MONDAY.date()).update(definition=0)
    assert "1 week follows earlier definitions" in read(client)


def test_charts_speak_to_who_does_not_see_them(client):
    markup = read(client)
    assert 'aria-label="Acceptance by week. Model between 75.0% and 75.0%. Human between 91.7% and 91.7%.' in markup
    assert markup.count('role="img"') == 2


def test_no_script_and_no_inline_style_is_needed(client):
    response = client.get(reverse("audit:insights"))
    body = response.content.decode().split("<main", 1)[1].split("</main>")[0]
    assert "<script" not in body
    assert "style=" not in body
    assert "unsafe" not in response["Content-Security-Policy"]


def test_in_chinese_only_names_stay_english(client):
    response = client.get(reverse("audit:insights"), headers={"Accept-Language": "zh-hans"})
    assert english_in(response) == {"JSONL", "Forged", "documents", "Fake", "jobs"}
    assert "2026年5月4日" in response.content.decode()


# --- filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [{"policy": "jobs"}, {"arm": "own_first"}, {"weeks": "12", "policy": "jobs"}])
def test_a_filter_of_the_address_halves_the_counts(client, query):
    assert "9 of 12 suggestions" in read(client, **query)


def test_filters_stay_chosen_and_go_into_the_download(client):
    markup = read(client, policy="jobs", weeks="20")
    assert '<option value="jobs" selected>' in markup
    assert "rows.csv?policy=jobs&amp;weeks=20" in markup


def test_the_last_weeks_are_those_that_were_counted_last():
    assert [row.week.label for row in InsightsPage(Filters(weeks=2)).weeks] == ["W21", "W22"]
    assert len(InsightsPage(Filters(weeks=None)).weeks) == 4


def test_what_is_not_split_by_arm_stands_under_each():
    page = InsightsPage(Filters(arm="own_first"))
    assert page.total.agreement.rate.whole == 2
    assert page.total.model.whole == 12


def test_filters_that_nothing_passes_say_so(client):
    assert "Nothing happened in these weeks under these filters." in read(client, language="zh-Hant")


def test_a_filter_that_does_not_exist_is_named_and_left_out(client):
    response = client.get(reverse("audit:insights"), {"policy": "nothing", "weeks": "20"})
    assert response.status_code == 422
    assert "was left out" in response.content.decode()
    assert "18 of 24 suggestions" in response.content.decode()
    assert client.get(reverse("audit:insights-csv"), {"weeks": "many"}).status_code == 422


# --- tables ---------------------------------------------------------------------------------------------------------


def test_suggesters_people_first_then_versions_newest_first():
    week = CountedWeek.objects.first()
    for version in range(2, 12):
        for measure in ("queries_run", "shown_toxic"):
            WeeklyCount.objects.create(
                week=week, measure=measure, suggester="both", version=f"{version}+dpo-1", value=1
            )
    lines = InsightsPage(Filters()).suggesters
    assert lines[0].label == "Human queries"
    assert lines[1].label == "search and language model dpo-1, risk model 11"
    assert [line.label for line in lines[9:]] == [
        "search and language model, earlier versions",
        "search, earlier versions",
    ]
    assert lines[9].of.precision.part == 2


def test_arms_and_categories_have_lines_of_their_own():
    page = InsightsPage(Filters())
    assert [(line.label, line.of.model.whole) for line in page.arms] == [
        ("suggestions visible", 12),
        ("own queries first", 12),
    ]
    assert [(line.label, line.of.precision.part, line.beside.precision.part) for line in page.categories] == [
        ("Fake jobs", 18, 12),
        ("Forged documents", 18, 12),
    ]


def test_the_number_of_queries_does_not_grow_with_the_weeks(client):
    asked = []
    for weeks in ("12", "all"):
        if weeks == "all":
            CountedWeek.objects.bulk_create(
                CountedWeek(monday=(MONDAY - n * WEEK).date(), until=MONDAY) for n in range(1, 40)
            )
            policies = [make_policy() for _n in range(5)]
            WeeklyCount.objects.bulk_create(
                WeeklyCount(
                    week=week, measure="queries_run", policy=policy.key, suggester="search", version="1", value=1
                )
                for week in CountedWeek.objects.filter(monday__lt=MONDAY.date())
                for policy in policies
            )
        with CaptureQueriesContext(
            connection,
        ) as queries:
            read(client, weeks=weeks)
        asked.append(len(queries))
    assert asked[0] == asked[1]
    assert asked[0] <= 15


# --- the download ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [{}, {"policy": "jobs"}, {"arm": "visible"}, {"weeks": "all", "language": "en"}])
def test_the_rows_add_up_to_what_the_page_shows(client, query):
    rows = list(csv.DictReader(io.StringIO(rows_of(client, **query))))
    page = InsightsPage(
        Filters(
            weeks=None if query.get("weeks") else 12,
            policy=query.get("policy", ""),
            language=query.get("language", ""),
            arm=query.get("arm", ""),
        )
    )
    sums = {}
    for row in rows:
        sums[row["measure"]] = sums.get(row["measure"], 0) + float(row["value"])
    assert sums["suggestions_accepted"] == page.total.model.part
    assert sums["found_added"] == page.total.detection.added
    shown = {measure: value for measure, value in page.total.totals.items() if measure != "open_oldest_h"}
    assert {measure: sums[measure] for measure in shown} == pytest.approx(shown)


def test_csv_and_json_lines_hold_the_same_rows(client):
    as_csv = list(csv.DictReader(io.StringIO(rows_of(client))))
    as_json = [json.loads(line) for line in rows_of(client, "jsonl").splitlines()]
    assert len(as_csv) == len(as_json) == WeeklyCount.objects.count()
    assert [row["value"] for row in as_csv] == [str(row["value"]) for row in as_json]
    assert as_json[0]["week"] == "2026-W19"
    assert as_json[0]["is_finished"] is True
    assert {row["definition"] for row in as_json} == {1}


def test_a_cell_that_a_spreadsheet_could_run_is_neutralised(client):
    WeeklyCount.objects.create(week=CountedWeek.objects.first(), measure="credit", version="=1+1", value=1)
    assert "'=1+1" in rows_of(client)

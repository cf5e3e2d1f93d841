"""The loop on a site that is attached to somebody else's Elasticsearch index."""

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from elasticsearch import Elasticsearch

from audit.intake import ComplaintRow, store_complaints
from audit.jobs import run_exploration, suggest_for_report
from audit.models import Exposure, Item, ItemState, QueryRun, Report, SuggestionsState, Verdict
from audit.risk_training import refit
from audit.services import explore, forecast, judge, open_page
from extraction.text import MatchMode
from tests.audit.loop import confirm, explored, exposures_of, key, own
from tests.factories import make_policy

pytestmark = [pytest.mark.django_db, pytest.mark.elasticsearch]

START = datetime(2026, 3, 1, tzinfo=UTC)
CAMPAIGN = [f"forged diploma with stamp, offer {number}" for number in range(12)]
TRADE = [f"used bicycle with bell, offer {number}" for number in range(300)]


@pytest.fixture
def foreign(elasticsearch_8, settings):
    """A foreign index with its own mapping, and this site attached to it."""
    client, index = Elasticsearch(elasticsearch_8), f"qx-foreign-{secrets.token_hex(6)}"
    fields = {"post_id": {"type": "keyword"}, "body": {"type": "text"}, "posted": {"type": "date"}}
    client.indices.create(index=index, mappings={"properties": fields}, settings={"number_of_replicas": 0})
    operations = []
    for number, body in enumerate([*CAMPAIGN, *TRADE]):
        posted = (START + timedelta(minutes=number)).isoformat()
        operations += [{"index": {}}, {"post_id": f"p{number}", "body": body, "posted": posted}]
    client.bulk(index=index, operations=operations, refresh=True)
    settings.ELASTICSEARCH_URL = elasticsearch_8
    settings.SEARCH_ATTACH = {
        "index": index,
        "text": "body",
        "time": "posted",
        "id": "post_id",
        "platform": "forum",
    }
    yield client
    client.indices.delete(index=index)


@pytest.fixture
def report(foreign):
    """A complaint about an item that only the foreign index knows."""
    policy = make_policy("forged-documents")
    row = ComplaintRow(
        platform="forum",
        external_id="c1",
        item_external_id="p0",
        reason="",
        policy=policy.key,
        at=START,
        reporter_key="",
    )
    counts = store_complaints([row])
    assert not counts.problems
    return Report.objects.get()


def test_a_complaint_makes_the_row_of_its_item(report):
    assert (report.item.external_id, report.item_text.text) == ("p0", CAMPAIGN[0])
    assert Item.objects.count() == 1


def test_a_complaint_about_an_item_that_nobody_knows_is_refused(foreign):
    policy = make_policy()
    row = ComplaintRow(
        platform="forum",
        external_id="c1",
        item_external_id="gone",
        reason="",
        policy=policy.key,
        at=START,
        reporter_key="",
    )
    assert store_complaints([row]).problems


def test_totals_are_marked_about(foreign):
    found = forecast(text="forged diploma", mode=MatchMode.PHRASE)
    assert (found.matches, found.is_about) == (12, True)


def test_item_rows_are_made_when_their_page_is_opened(report, auditor, settings):
    settings.PAGE_SIZE = 5
    confirm(report, auditor)
    own(report, auditor, "forged diploma")
    exploration = explore(reports=[report], user=auditor, key=key())
    run_exploration(exploration.pk)
    assert Item.objects.count() == 1
    run = QueryRun.objects.get()
    assert len(run.ranking) == 11
    assert open_page(exploration=exploration, user=auditor, number=1, key=key()) == 5
    assert Item.objects.count() == 6
    assert {exposure.item_text.text for exposure in Exposure.objects.all()} <= set(CAMPAIGN)


def test_pages_of_an_attached_site_cover_each_result_once(report, auditor, settings):
    settings.PAGE_SIZE = 5
    confirm(report, auditor)
    exploration = explored(report, auditor, "forged diploma")
    sizes = [open_page(exploration=exploration, user=auditor, number=number, key=key()) for number in (2, 3)]
    assert sizes == [5, 1]
    assert len({exposure.item_id for exposure in exposures_of(exploration)}) == 11


def test_a_removal_is_an_overlay_and_nothing_is_written(report, auditor, foreign, settings):
    confirm(report, auditor)
    exposure = exposures_of(explored(report, auditor, "forged diploma"))[0]
    judge(exposure=exposure, user=auditor, verdict=Verdict.TOXIC, key=key())
    assert Item.objects.get(pk=exposure.item_id).state == ItemState.REMOVED
    found = forecast(text="forged diploma", mode=MatchMode.PHRASE)
    assert (found.matches, found.past_toxic) == (10, 2)
    assert foreign.count(index=settings.SEARCH_ATTACH["index"])["count"] == len(CAMPAIGN) + len(TRADE)


def test_suggestions_learn_from_the_foreign_texts(report):
    row = refit()
    assert row is not None
    assert row.unlabelled > 30
    suggest_for_report(report.pk)
    report.refresh_from_db()
    assert report.suggestions_state == SuggestionsState.READY
    assert any(suggestion.matches == 11 for suggestion in report.suggestions.all())

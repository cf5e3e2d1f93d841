from datetime import UTC, date, datetime, timedelta

import pytest

from audit.models import Proposer, Report
from audit.readiness import Readiness, ready_by_week, ready_share
from tests.factories import make_batch, make_report, make_report_event, make_suggestion

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)  # a Wednesday
HOUR = timedelta(hours=1)
AROUND = (NOON - HOUR, NOON + HOUR)


def opened(at: datetime = NOON) -> Report:
    """A report that an auditor opened at that time."""
    report = make_report()
    make_report_event(report=report, kind="claimed", at=at)
    return report


def suggested(report: Report, at: datetime, proposer: Proposer = Proposer.SEARCH) -> None:
    make_suggestion(batch=make_batch(report=report, at=at), proposer=proposer)


def test_a_report_with_suggestions_when_it_was_opened_was_ready():
    suggested(opened(), NOON - HOUR)
    assert ready_share(*AROUND) == Readiness(opened=1, ready=1, by_model=0)


def test_suggestions_that_came_later_do_not_count():
    suggested(opened(), NOON + HOUR)
    assert ready_share(*AROUND) == Readiness(opened=1, ready=0, by_model=0)


def test_a_batch_without_suggestions_does_not_count():
    make_batch(report=opened(), at=NOON - HOUR)
    assert ready_share(*AROUND).ready == 0


@pytest.mark.parametrize("proposer", [Proposer.MODEL, Proposer.BOTH])
def test_suggestions_of_a_model_are_counted_beside(proposer):
    suggested(opened(), NOON - HOUR, proposer)
    assert ready_share(*AROUND) == Readiness(opened=1, ready=1, by_model=1)


def test_a_models_suggestion_that_came_later_counts_for_search_alone():
    report = opened()
    suggested(report, NOON - HOUR)
    suggested(report, NOON + HOUR, Proposer.MODEL)
    assert ready_share(*AROUND) == Readiness(opened=1, ready=1, by_model=0)


def test_a_second_claim_does_not_count_the_report_again():
    report = opened(NOON - 2 * HOUR)
    make_report_event(report=report, kind="claimed", at=NOON)
    assert ready_share(*AROUND).opened == 0


def test_without_reports_there_is_no_share():
    assert ready_share(*AROUND).percent is None


def test_shares_come_by_iso_week_of_the_sites_zone(settings):
    settings.TIME_ZONE = "Asia/Shanghai"
    suggested(opened(datetime(2026, 3, 15, 17, tzinfo=UTC)), NOON - timedelta(weeks=1))  # already Monday there
    opened(datetime(2026, 3, 15, 15, tzinfo=UTC))
    this_week, last_week, before = ready_by_week(NOON, weeks=3)
    assert this_week == (date(2026, 3, 16), Readiness(1, 1, 0))
    assert last_week == (date(2026, 3, 9), Readiness(1, 0, 0))
    assert before == (date(2026, 3, 2), Readiness(0, 0, 0))
    assert (this_week[1].percent, last_week[1].percent) == (100, 0)

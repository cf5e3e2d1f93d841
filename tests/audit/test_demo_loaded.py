"""What a small demo leaves behind, loaded once through the real services and the real index."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.test import override_settings
from django.utils import timezone
from pytest_django.plugin import DjangoDbBlocker

from audit.demo.cast import DEMO_GROUP, LOGINS, PASSWORD
from audit.demo.load import DemoOptions, load
from audit.insights.page import Filters, InsightsPage
from audit.models import (
    Decision,
    Exposure,
    Item,
    ItemState,
    Judgment,
    QueryRun,
    Report,
    ReportStatus,
    SuggestionsState,
)
from extraction.registry import serving_row

pytestmark = [pytest.mark.django_db, pytest.mark.slow, pytest.mark.usefixtures("loaded")]


@pytest.fixture(scope="module")
def loaded(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A demo that nobody changes; taken back at the end."""
    index = tmp_path_factory.mktemp("demo") / "search.sqlite3"
    with django_db_blocker.unblock(), override_settings(SEARCH_FILE=index), transaction.atomic():
        load(DemoOptions(seed=5, size=1500, past=24, waiting=10))
        yield
        transaction.set_rollback(True)


def test_a_load_leaves_a_month_of_work():
    assert Item.objects.filter(platform="demo").count() == 1500
    assert Report.objects.filter(status=ReportStatus.CLOSED).count() >= 10
    assert Judgment.objects.exclude(exposure=None).exists()
    assert Item.objects.filter(state=ItemState.REMOVED).exists()
    assert serving_row() is not None


def test_every_waiting_report_has_its_suggestions_computed():
    waiting = Report.objects.filter(status=ReportStatus.WAITING)
    assert waiting.count() >= 8
    assert not waiting.filter(suggestions_state__in=[SuggestionsState.PENDING, SuggestionsState.FAILED]).exists()
    assert not waiting.filter(batch=None).exists()


def test_history_runs_forward_and_not_into_the_future():
    now = timezone.now()
    assert not Decision.objects.filter(at__lt=F("report__opened")).exists()
    assert not Decision.objects.filter(at__lt=F("suggestion__batch__at")).exists()
    assert not QueryRun.objects.filter(at__lt=F("exploration_query__decisions__at")).exists()
    assert not Exposure.objects.filter(at__lt=F("run__at")).exists()
    assert not Exposure.objects.filter(at__lt=F("item__created")).exists()
    assert not Judgment.objects.filter(at__lt=F("exposure__at")).exists()
    assert not Judgment.objects.filter(at__gt=now).exists()


def test_the_index_is_up_to_date_and_scored():
    serving = serving_row()
    assert serving is not None
    assert not Item.objects.to_index().exists()
    assert not Item.objects.exclude(risk_version=serving.version).exists()


def test_the_weekly_figures_are_counted():
    page = InsightsPage(Filters())
    assert len(page.weeks) >= 4
    assert page.total.model.whole
    assert page.total.human.whole
    assert page.total.precision.is_enough


def test_the_logins_are_of_the_demo_group_and_written_for_the_starter():
    people = User.objects.filter(groups__name=DEMO_GROUP)
    assert set(people.values_list("username", flat=True)) == set(LOGINS)
    assert all(person.check_password(PASSWORD) for person in people)
    assert PASSWORD in (Path(settings.VAR_DIR) / "demo_logins.txt").read_text()

"""The tick picks up every row whose job is missing: the queue may have been emptied, or a worker may have died."""

from datetime import UTC, datetime, timedelta

import django_rq
import pytest
from django.core.files.base import ContentFile
from django.db.models import F
from django.utils import timezone
from rq.job import Job, JobStatus

from audit import jobs
from audit.models import (
    Exploration,
    Export,
    ExportFormat,
    ImportFile,
    ImportKind,
    Item,
    JobState,
    QueryRun,
    Report,
    ReportStatus,
    RunState,
    SiteSettings,
    SuggestionsState,
    Verdict,
)
from audit.queueing import enqueue
from audit.services import explore
from extraction.errors import IndexMissing
from extraction.models import RiskModel
from extraction.search import SearchRequest, get_engine
from extraction.text import MatchMode
from tests.audit.loop import confirmed_report, key, make_indexed, own
from tests.factories import make_item, make_judgment, make_report
from tests.queues import empty_queues, waiting, work_off

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]

LONG_AGO = timedelta(minutes=5)


@pytest.fixture(autouse=True)
def _empty_queues():
    empty_queues()
    yield
    empty_queues()


@pytest.fixture
def clock(monkeypatch):
    """`clock(moment)`: it is that moment for the jobs."""

    def set_to(moment):
        monkeypatch.setattr("django.utils.timezone.now", lambda: moment)

    return set_to


@pytest.fixture
def stuck(auditor) -> Exploration:
    """An exploration that was asked for minutes ago, whose job never came to the queue."""
    make_indexed("forged diploma cheap", "forged diploma with stamp")
    report = confirmed_report(auditor)
    own(report, auditor, "forged diploma")
    own(report, auditor, "with stamp")
    exploration = explore(reports=[report], user=auditor, key=key())
    Exploration.objects.update(at=timezone.now() - LONG_AGO)
    exploration.refresh_from_db()
    return exploration


def claim_as_dead_worker(exploration: Exploration) -> None:
    """The queue knows the job as started, by a worker that was killed: its last heartbeat is long past."""
    enqueue("explore", "audit.jobs.run_exploration", exploration.pk, job_id=exploration.job_id)
    queue = django_rq.get_queue("explore")
    queue.remove(exploration.job_id)
    job = Job.fetch(exploration.job_id, connection=queue.connection)
    job.set_status(JobStatus.STARTED)
    queue.connection.zadd(queue.started_job_registry.key, {f"{job.id}:execution": 1})
    Exploration.objects.filter(pk=exploration.pk).update(state=RunState.RUNNING)


# --- suggestions ----------------------------------------------------------------------------------------------------


def asked() -> list[str]:
    """The reports whose suggestions are asked for, beside the nightly run over all of them."""
    return [job for job in waiting("suggest") if job != "suggest-overnight"]


def test_the_tick_asks_for_suggestions_that_are_pending_or_failed():
    pending = make_report()
    failed = make_report(suggestions_state=SuggestionsState.FAILED)
    make_report(suggestions_state=SuggestionsState.READY)
    make_report(status=ReportStatus.CLOSED)
    jobs.tick()
    assert set(asked()) == {f"suggest-{pending.pk}", f"suggest-{failed.pk}"}


def test_two_ticks_ask_once():
    make_report()
    jobs.tick()
    jobs.tick()
    assert len(asked()) == 1


def test_what_is_due_first_is_asked_first():
    late = make_report(due=timezone.now() + timedelta(hours=9))
    soon = make_report(due=timezone.now() + timedelta(hours=1))
    jobs.tick()
    assert asked() == [f"suggest-{soon.pk}", f"suggest-{late.pk}"]


def test_suggestions_that_the_engine_could_not_give_come_with_a_later_tick(settings, tmp_path):
    there, settings.SEARCH_FILE = settings.SEARCH_FILE, tmp_path / "nowhere" / "search.sqlite3"
    report = make_report(text="forged diploma with stamp")
    jobs.tick()
    work_off("suggest")
    settings.SEARCH_FILE = there
    make_indexed("forged diploma cheap", "bread")
    jobs.tick()
    work_off("suggest")
    assert Report.objects.get(pk=report.pk).batch is not None


def test_a_suggestion_job_that_failed_by_surprise_is_tried_again(monkeypatch):
    make_indexed("forged diploma cheap", "bread")
    report = make_report(text="forged diploma with stamp")
    with monkeypatch.context() as surprise:
        surprise.setattr(jobs, "suggest", lambda report: 1 / 0)
        jobs.tick()
        work_off("suggest")
    jobs.tick()
    work_off("suggest")
    assert Report.objects.get(pk=report.pk).batch is not None


# --- explorations ---------------------------------------------------------------------------------------------------


def test_an_exploration_that_never_reached_the_queue_is_put_there(stuck):
    jobs.tick()
    assert waiting("explore") == [stuck.job_id]


def test_an_exploration_that_waits_its_turn_is_left_alone(stuck):
    enqueue("explore", "audit.jobs.run_exploration", stuck.pk, job_id=stuck.job_id)
    jobs.tick()
    assert waiting("explore") == [stuck.job_id]


def test_a_fresh_exploration_is_left_to_its_own_job(stuck):
    Exploration.objects.update(at=timezone.now())
    jobs.tick()
    assert not waiting("explore")


def test_an_exploration_whose_worker_died_ends_with_each_run_once(stuck):
    claim_as_dead_worker(stuck)
    jobs._run_query(stuck.queries.select_related("query").get(position=1), None)
    jobs.tick()
    work_off("explore")
    stuck.refresh_from_db()
    assert stuck.state == RunState.DONE
    assert sorted(QueryRun.objects.values_list("exploration_query__position", flat=True)) == [1, 2]


def test_an_exploration_whose_job_and_record_are_gone_ends_too(stuck):
    Exploration.objects.update(state=RunState.RUNNING)
    jobs.tick()
    work_off("explore")
    stuck.refresh_from_db()
    assert stuck.state == RunState.DONE


def test_an_exploration_that_ended_while_the_tick_looked_stays_ended(stuck, monkeypatch):
    Exploration.objects.update(state=RunState.RUNNING)

    def ends_now(queue, job_id):
        Exploration.objects.update(state=RunState.DONE)
        return False

    monkeypatch.setattr(jobs, "is_under_way", ends_now)
    jobs.tick()
    stuck.refresh_from_db()
    assert stuck.state == RunState.DONE


# --- index, outbox, risk --------------------------------------------------------------------------------------------


def test_the_sweeper_is_called_where_the_index_is_behind():
    make_item()
    jobs.tick()
    assert "sweep-index" in waiting("default")


def test_the_sweeper_rests_where_the_index_is_up_to_date():
    item = make_item()
    Item.objects.filter(pk=item.pk).update(indexed_version=item.version)
    jobs.tick()
    assert "sweep-index" not in waiting("default")


def test_an_index_that_was_lost_is_filled_again(settings, tmp_path):
    make_indexed("forged diploma cheap", "forged diploma fast")
    Item.objects.update(indexed_version=F("version"))
    jobs.tick()
    work_off("data")
    settings.SEARCH_FILE = tmp_path / "gone.sqlite3"
    jobs.index_item(make_item("forged diploma by post").pk)
    with pytest.raises(IndexMissing):  # and no new one with a single item in it
        get_engine().search(SearchRequest(text="forged diploma", mode=MatchMode.PHRASE))
    jobs.tick()
    work_off("data")
    work_off("data")
    assert get_engine().search(SearchRequest(text="forged diploma", mode=MatchMode.PHRASE)).counts.live == 3
    jobs.tick()
    assert "verify-index" not in waiting("data")


def test_expired_exports_lose_their_files(auditor):
    past = timezone.now() - timedelta(days=1)
    export = Export.objects.create(
        stream="flat", format="csv", user=auditor, state=JobState.DONE, expires=past, file=ContentFile(b"a", "a.csv")
    )
    jobs.tick()
    export.refresh_from_db()
    assert not export.file


def test_an_index_begun_anew_is_verified_once(settings, tmp_path):
    make_indexed("forged diploma cheap")
    Item.objects.update(indexed_version=F("version"))
    settings.SEARCH_FILE = tmp_path / "another.sqlite3"
    get_engine().put([])
    get_engine().rebuild([])
    jobs.tick()
    work_off("data")
    assert get_engine().search(SearchRequest(text="forged diploma", mode=MatchMode.PHRASE)).counts.live == 1
    jobs.tick()
    assert "verify-index" not in waiting("data")


def test_every_tick_publishes_what_was_recorded():
    jobs.tick()
    assert "publish-outbox" in waiting("default")


def test_enough_new_verdicts_call_for_a_refit(settings):
    settings.REFIT_EVERY = 3
    RiskModel.objects.create(
        version=1, digest="0" * 64, analysis="qx-1", positives=60, negatives=60, unlabelled=0, fitted=timezone.now()
    )
    texts = [make_item().text for _number in range(3)]
    for text in texts[:2]:
        make_judgment(item_text=text, verdict=Verdict.NORMAL)
    jobs.tick()
    assert "refit-risk" not in waiting("data")
    make_judgment(item_text=texts[2], verdict=Verdict.NORMAL)
    jobs.tick()
    assert "refit-risk" in waiting("data")


def test_the_night_comes_at_its_hour_once(clock, settings):
    settings.NIGHTLY_HOUR = 3
    SiteSettings.load()
    clock(datetime(2026, 5, 4, 2, 59, tzinfo=UTC))
    jobs.tick()
    assert "rescore-index" not in waiting("data")
    clock(datetime(2026, 5, 4, 3, 0, tzinfo=UTC))
    jobs.tick()
    assert {"rescore-index", "verify-index", "compute-insights"} <= set(waiting("data"))
    assert "suggest-overnight" in waiting("suggest")
    empty_queues()
    clock(datetime(2026, 5, 4, 3, 1, tzinfo=UTC))
    jobs.tick()
    assert "rescore-index" not in waiting("data")


def test_a_night_that_was_slept_through_is_made_up(clock, settings):
    settings.NIGHTLY_HOUR = 3
    SiteSettings.load()
    clock(datetime(2026, 5, 4, 9, 30, tzinfo=UTC))
    jobs.tick()
    assert "rescore-index" in waiting("data")


def test_the_night_goes_by_the_zone_of_the_site(clock, settings):
    settings.NIGHTLY_HOUR, settings.TIME_ZONE = 3, "Asia/Shanghai"
    SiteSettings.load()
    clock(datetime(2026, 5, 4, 19, 0, tzinfo=UTC))  # three in the morning of the fifth
    jobs.tick()
    assert "rescore-index" in waiting("data")


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_an_export_whose_job_is_gone_is_put_back(auditor, state):
    export = Export.objects.create(
        user=auditor, stream="judgments", format=ExportFormat.JSONL, state=state, at=timezone.now() - LONG_AGO
    )
    jobs.tick()
    work_off("data")
    export.refresh_from_db()
    assert export.state == JobState.DONE


@pytest.mark.parametrize("state", [JobState.DONE, JobState.FAILED, JobState.CANCELLED])
def test_an_export_that_ended_is_left_alone(auditor, state):
    Export.objects.create(
        user=auditor, stream="judgments", format=ExportFormat.JSONL, state=state, at=timezone.now() - LONG_AGO
    )
    jobs.tick()
    assert not [job_id for job_id in waiting("data") if job_id.startswith("export-")]


def test_an_import_whose_job_is_gone_is_put_back():
    row = ImportFile.objects.create(
        kind=ImportKind.ITEMS,
        name="items.jsonl",
        digest="0" * 64,
        file="imports/items.jsonl",
        state=JobState.RUNNING,
        at=timezone.now() - LONG_AGO,
    )
    jobs.tick()
    assert f"import-{row.pk}" in waiting("data")


def test_an_import_that_a_command_reads_from_disk_is_left_to_it():
    ImportFile.objects.create(
        kind=ImportKind.ITEMS,
        name="items.jsonl",
        digest="0" * 64,
        state=JobState.RUNNING,
        at=timezone.now() - LONG_AGO,
    )
    jobs.tick()
    assert not [job_id for job_id in waiting("data") if job_id.startswith("import-")]


def test_the_tick_itself_is_on_the_clock():
    from rq.cron import _job_data_registry

    from qexplorer_site import cron

    assert cron.tick is jobs.tick
    assert [data for data in _job_data_registry if data["name"] == "tick"]

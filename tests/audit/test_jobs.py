"""Every job does its work, does no harm when it runs twice, and leaves a row to pick up where it could not."""

from pathlib import Path

import django_rq
import pytest
from django.utils import timezone

from audit import jobs, results
from audit.intake import ComplaintRow, store_complaints
from audit.models import (
    Exploration,
    ExplorationQuery,
    Export,
    ExportFormat,
    ImportFile,
    ImportKind,
    Item,
    ItemState,
    Judgment,
    QueryRun,
    Report,
    ReportStatus,
    RunState,
    SuggestionBatch,
    SuggestionsState,
    Verdict,
)
from audit.queueing import enqueue, is_under_way
from audit.services import explore, judge
from extraction.errors import SearchUnavailable
from extraction.models import RiskModel
from extraction.search import SearchRequest, get_engine
from extraction.text import MatchMode
from tests.audit.loop import confirmed_report, explored, exposures_of, key, make_indexed, own
from tests.factories import make_item, make_judgment, make_policy, make_report
from tests.queues import empty_queues, waiting, work_off

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]

TOXIC = [f"forged diploma with stamp, offer {number}" for number in range(6)]
NORMAL = [f"used bicycle with lamp, offer {number}" for number in range(6)]


@pytest.fixture(autouse=True)
def _empty_queues():
    empty_queues()
    yield
    empty_queues()


@pytest.fixture
def queue_server_down(settings, tmp_path):
    """The address of a queue server that is not there."""
    gone = f"unix://{tmp_path}/gone.sock?db=0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django_rq.settings.QUEUES", {name: {"URL": gone} for name in settings.RQ_QUEUES})
        yield


@pytest.fixture
def judged_corpus():
    """Enough verdicts of both kinds for a risk model, everything indexed."""
    make_indexed(*TOXIC, *NORMAL)
    for text in ("forged diploma by post", "forged diploma, real stamp"):
        make_judgment(item_text=make_item(text).text, verdict=Verdict.TOXIC)
    for text in ("bicycle lamp", "used books"):
        make_judgment(item_text=make_item(text).text, verdict=Verdict.NORMAL)


def queued_exploration(auditor, *texts):
    report = confirmed_report(auditor)
    for text in texts or ("forged diploma",):
        own(report, auditor, text)
    return explore(reports=[report], user=auditor, key=key())


# --- the queue ------------------------------------------------------------------------------------------------------


def test_a_job_that_waits_is_not_added_twice():
    assert enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    assert enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    assert waiting("default") == ["sweep-index"]


def test_a_job_that_ended_makes_room():
    enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    work_off("default")
    assert not is_under_way("default", "sweep-index")
    enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    assert waiting("default") == ["sweep-index"]


def test_a_job_that_failed_makes_room(monkeypatch):
    monkeypatch.setattr(jobs.indexing, "sweep", lambda: 1 / 0)
    enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    work_off("default")
    assert not is_under_way("default", "sweep-index")
    enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    assert waiting("default") == ["sweep-index"]


def test_a_job_that_was_lost_on_its_way_to_a_worker_makes_room():
    """The worker was killed between taking it off the queue and noting that it started: no registry knows it."""
    enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    queue = django_rq.get_queue("default")
    queue.remove("sweep-index")
    assert is_under_way("default", "sweep-index")  # a worker may just be starting it
    queue.connection.hset("rq:job:sweep-index", "enqueued_at", "2026-01-01T00:00:00.000000Z")
    assert not is_under_way("default", "sweep-index")
    enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    assert waiting("default") == ["sweep-index"]


def test_a_job_that_waits_for_long_is_not_added_twice():
    enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    connection = django_rq.get_connection()
    connection.hset("rq:job:sweep-index", "enqueued_at", "2026-01-01T00:00:00.000000Z")
    enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    assert waiting("default") == ["sweep-index"]


def test_without_a_queue_server_enqueueing_says_no(queue_server_down):
    assert not enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")


def test_without_a_queue_server_nothing_is_doubled(queue_server_down):
    assert is_under_way("explore", "exploration-1")


def test_without_a_queue_server_an_exploration_waits_for_the_tick(
    auditor, queue_server_down, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        exploration = queued_exploration(auditor)
    assert Exploration.objects.get(pk=exploration.pk).state == RunState.QUEUED


def test_without_a_queue_server_a_complaint_is_stored(queue_server_down, django_capture_on_commit_callbacks):
    policy, item = make_policy(), make_item()
    row = ComplaintRow(
        platform=item.platform,
        external_id="c1",
        item_external_id=item.external_id,
        policy=policy.key,
        at=timezone.now(),
    )
    with django_capture_on_commit_callbacks(execute=True):
        assert store_complaints([row]).created == 1
    assert Report.objects.get().suggestions_state == SuggestionsState.PENDING


def test_without_a_queue_server_a_verdict_is_recorded(auditor, queue_server_down, django_capture_on_commit_callbacks):
    make_indexed("forged diploma cheap")
    exposure = exposures_of(explored(confirmed_report(auditor), auditor, "forged diploma"))[0]
    with django_capture_on_commit_callbacks(execute=True):
        judge(exposure=exposure, user=auditor, verdict=Verdict.TOXIC, key=key())
    assert Item.objects.get(pk=exposure.item_id).state == ItemState.REMOVED


# --- suggestions ----------------------------------------------------------------------------------------------------


def test_suggestions_are_stored_by_the_job(judged_corpus):
    report = make_report(text="forged diploma with stamp, call now")
    jobs.suggest_for_report(report.pk)
    report.refresh_from_db()
    assert report.suggestions_state == SuggestionsState.READY
    assert report.batch is not None


def test_suggesting_twice_keeps_both_batches_and_shows_the_newer(judged_corpus):
    report = make_report(text="forged diploma with stamp, call now")
    jobs.suggest_for_report(report.pk)
    jobs.suggest_for_report(report.pk)
    report.refresh_from_db()
    assert report.batch == SuggestionBatch.objects.filter(report=report).latest("pk")


def test_suggesting_before_the_first_risk_model_survives_a_missing_engine(settings, tmp_path):
    settings.SEARCH_FILE = tmp_path / "nowhere" / "search.sqlite3"
    report = make_report()
    jobs.suggest_for_report(report.pk)
    report.refresh_from_db()
    assert report.suggestions_state == SuggestionsState.FAILED


def test_a_report_taken_while_it_was_refreshed_keeps_what_its_screen_says(judged_corpus, auditor):
    report = make_report(text="forged diploma with stamp, call now")
    jobs.suggest_for_report(report.pk)
    stale = Report.objects.select_related("item", "item_text", "policy").get(pk=report.pk)
    Report.objects.filter(pk=report.pk).update(status=ReportStatus.CLAIMED, claimed_by=auditor)
    Item.objects.update(state=ItemState.REMOVED)  # nothing is worth searching any more
    jobs.suggest(stale)
    report.refresh_from_db()
    assert report.suggestions_state == SuggestionsState.READY


def test_the_engine_failing_amid_a_refresh_leaves_the_rest_for_later(judged_corpus, monkeypatch):
    reports = [make_report(text=f"forged diploma with stamp, call {number}") for number in range(2)]
    for report in reports:
        jobs.suggest_for_report(report.pk)
    RiskModel.objects.update(version=7)  # every batch is of an older model now

    def unavailable(report):
        raise SearchUnavailable

    monkeypatch.setattr(jobs, "suggest", unavailable)
    jobs.refresh_suggestions()
    assert {Report.objects.get(pk=report.pk).suggestions_state for report in reports} == {SuggestionsState.READY}


def test_a_refresh_takes_the_head_of_the_queue_and_the_nightly_run_all_of_it():
    reports = [make_report() for _number in range(3)]
    empty_queues()
    jobs.refresh_suggestions(limit=1)
    assert waiting("suggest") == [f"suggest-{reports[0].pk}", "generate-ahead-0"]
    jobs.suggest_overnight()
    assert set(waiting("suggest")) == {f"suggest-{report.pk}" for report in reports} | {"generate-ahead-0"}
    empty_queues()


# --- explorations ---------------------------------------------------------------------------------------------------


def test_an_exploration_runs_from_its_queue(auditor, django_capture_on_commit_callbacks):
    make_indexed(*TOXIC)
    with django_capture_on_commit_callbacks(execute=True):
        exploration = queued_exploration(auditor)
    work_off("explore")
    exploration.refresh_from_db()
    assert exploration.state == RunState.DONE
    assert QueryRun.objects.get().live == len(TOXIC)


def test_an_exploration_whose_worker_died_goes_on_with_the_queries_that_are_left(auditor):
    make_indexed(*TOXIC)
    exploration = queued_exploration(auditor, "forged diploma", "with stamp")
    jobs.run_exploration(exploration.pk)
    done = QueryRun.objects.order_by("pk").values_list("pk", "at")
    before = list(done)
    Exploration.objects.update(state=RunState.QUEUED)
    jobs.run_exploration(exploration.pk)
    assert list(done) == before


def test_a_running_exploration_is_not_taken_by_a_second_worker(auditor):
    exploration = queued_exploration(auditor)
    Exploration.objects.update(state=RunState.RUNNING)
    jobs.run_exploration(exploration.pk)
    assert not QueryRun.objects.exists()


def test_an_unexpected_error_is_raised_and_shown_as_a_failed_query(auditor, monkeypatch):
    exploration = queued_exploration(auditor)
    monkeypatch.setattr(results, "get_engine", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        jobs.run_exploration(exploration.pk)
    exploration.refresh_from_db()
    assert exploration.state == RunState.FAILED
    assert ExplorationQuery.objects.get().error


def test_a_query_that_another_worker_ran_is_not_called_failed(auditor, monkeypatch):
    make_indexed(*TOXIC)
    exploration = queued_exploration(auditor)

    class SlowerEngine:
        def search(self, request):
            monkeypatch.undo()
            Exploration.objects.update(state=RunState.QUEUED)
            jobs.run_exploration(exploration.pk)
            raise SearchUnavailable

    monkeypatch.setattr(results, "get_engine", SlowerEngine)
    jobs.run_exploration(exploration.pk)
    assert ExplorationQuery.objects.get().state == RunState.DONE
    exploration.refresh_from_db()
    assert exploration.state == RunState.DONE


# --- risk and index -------------------------------------------------------------------------------------------------


def test_a_refit_queues_the_refresh(judged_corpus):
    jobs.refit_risk()
    assert RiskModel.objects.count() == 1
    assert waiting("suggest") == ["refresh-suggestions"]


def test_a_refit_with_one_class_makes_no_model():
    make_indexed(*NORMAL)
    jobs.refit_risk()
    assert not RiskModel.objects.exists()


def test_rescoring_twice_scores_every_item_once(judged_corpus):
    jobs.refit_risk()
    jobs.rescore_index()
    before = list(Item.objects.order_by("pk").values_list("risk", "risk_version", "indexed_version"))
    assert all(version == 1 for _risk, version, _indexed in before)
    jobs.rescore_index()
    assert list(Item.objects.order_by("pk").values_list("risk", "risk_version", "indexed_version")) == before


def test_the_sweeper_indexes_what_is_behind_once():
    item = make_item("forged diploma cheap")
    jobs.sweep_index()
    jobs.sweep_index()
    found = get_engine().search(SearchRequest(text="forged diploma", mode=MatchMode.PHRASE))
    assert [hit.id for hit in found.hits] == [item.pk]


def test_a_judged_item_leaves_the_index_at_once(auditor, django_capture_on_commit_callbacks):
    make_indexed(*TOXIC)
    exposure = exposures_of(explored(confirmed_report(auditor), auditor, "forged diploma"))[0]
    with django_capture_on_commit_callbacks(execute=True):
        judge(exposure=exposure, user=auditor, verdict=Verdict.TOXIC, key=key())
    work_off("explore")
    found = get_engine().search(SearchRequest(text="forged diploma", mode=MatchMode.PHRASE))
    assert exposure.item_id not in [hit.id for hit in found.hits]
    assert found.counts.toxic == 1


def test_indexing_one_item_without_an_engine_leaves_it_to_the_sweeper(monkeypatch):
    def unavailable(*args):
        raise SearchUnavailable

    item = make_item()
    monkeypatch.setattr(jobs.indexing, "score_and_put", unavailable)
    jobs.index_item(item.pk)
    assert item in Item.objects.to_index()


# --- files ----------------------------------------------------------------------------------------------------------


def test_an_export_is_made_once(auditor):
    make_judgment(user=auditor)
    export = Export.objects.create(user=auditor, stream="judgments", format=ExportFormat.JSONL)
    jobs.run_export(export.pk)
    export.refresh_from_db()
    first = (export.state, export.digest, export.finished)
    jobs.run_export(export.pk)
    export.refresh_from_db()
    assert (export.state, export.digest, export.finished) == first
    assert Judgment.objects.count() == export.rows


def test_an_import_runs_once(tmp_path: Path):
    from django.core.files.base import ContentFile

    line = b'{"platform": "market", "external_id": "i1", "text": "forged diploma", "created": "2026-11-01T00:00:00Z"}\n'
    row = ImportFile.objects.create(
        kind=ImportKind.ITEMS,
        name="items.jsonl",
        digest="0" * 64,
        size=len(line),
        options={"format": "jsonl", "platform": "", "zone": "", "create_policies": False},
        file=ContentFile(line, name="items.jsonl"),
    )
    jobs.run_import(row.pk)
    jobs.run_import(row.pk)
    row.refresh_from_db()
    assert (row.state, row.created_count, row.same_count) == ("done", 1, 0)
    assert Item.objects.count() == 1

"""The background jobs. Each takes an id, reads the row that is the truth, and does no harm when it runs twice."""

import logging
from datetime import datetime, timedelta

import django_rq
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from redis.exceptions import RedisError
from rq.registry import StartedJobRegistry

from audit import exports, generating, indexing, intake, outbox, risk_training
from audit.insights import roll_up
from audit.models import (
    Exploration,
    ExplorationQuery,
    Export,
    ImportFile,
    Item,
    JobState,
    QueryRun,
    Report,
    ReportStatus,
    RunState,
    SiteSettings,
    SuggestionsState,
)
from audit.queueing import enqueue, is_under_way
from audit.results import run_query
from audit.services.explorations import claim_run
from audit.suggesting import is_stale, suggest, suggester_of
from extraction.errors import AnalysisUnknown, IndexMissing, SearchError
from extraction.registry import serving_row
from extraction.search import Order, SearchRequest, get_attached, get_engine
from extraction.text import CURRENT_ANALYSIS, MatchMode

logger = logging.getLogger(__name__)

STUCK_AFTER = timedelta(seconds=30)
REFRESH_LIMIT = 500


def suggest_for_report(report_id: int) -> None:
    """Compute and store the suggestions of one report; where a language model has still to read it, `search` answers
    first. Engine trouble leaves the report pending; the tick tries again.
    """
    report = Report.objects.select_related("item", "item_text", "policy").get(pk=report_id)
    try:
        if serving_row() is None:
            risk_training.refit()
        suggest(report)
    except SearchError as error:
        logger.warning("No suggestions for report %s yet: %s", report_id, error)
        Report.objects.filter(pk=report_id, batch=None).update(suggestions_state=SuggestionsState.FAILED)
    if suggester_of(report).awaits_model:
        generating.ask_for_generation()


def refresh_suggestions(limit: int | None = REFRESH_LIMIT) -> None:
    """Queue new batches for the waiting reports whose batch is stale, those due first; what is on a screen stays.

    One job a report: an exploration that somebody waits for never stands behind hundreds of them.
    """
    waiting = Report.objects.filter(status=ReportStatus.WAITING).in_queue_order()
    for report in waiting.select_related("policy", "batch__report__policy")[:limit]:
        if report.batch is None or is_stale(report.batch):
            enqueue("suggest", "audit.jobs.suggest_for_report", report.pk, job_id=f"suggest-{report.pk}")
    generating.ask_for_generation()


def suggest_overnight() -> None:
    """The nightly run over all waiting reports (section 3.3), so that in the morning no suggestion is stale."""
    refresh_suggestions(limit=None)


def run_exploration(exploration_id: int, *, at: datetime | None = None) -> None:
    """Run every query of an exploration that has not run; each run is stored as soon as it ends."""
    if not claim_run(exploration_id, at=at):
        return
    exploration = Exploration.objects.get(pk=exploration_id)
    left = exploration.queries.filter(run=None)
    try:
        for row in left.select_related("query"):
            _run_query(row, at)
    except Exception:
        left.update(state=RunState.FAILED, error=_("Stopped by an error that the administrator finds in the log."))
        raise
    finally:
        _finish(exploration, at)


def _finish(exploration: Exploration, at: datetime | None) -> None:
    failed = exploration.queries.filter(state=RunState.FAILED).exists()
    Exploration.objects.filter(pk=exploration.pk, state=RunState.RUNNING).update(
        state=RunState.FAILED if failed else RunState.DONE, finished=at or timezone.now()
    )


def refit_risk() -> None:
    """Refit the risk model; where the new version serves, the open suggestions are computed anew."""
    row = risk_training.refit()
    if row is not None and not row.refusal:
        enqueue("suggest", "audit.jobs.refresh_suggestions", job_id="refresh-suggestions")


def rescore_index() -> None:
    """Score every item with the serving risk model and bring the index up to date."""
    indexing.rescore()


def index_item(item_id: int) -> None:
    """Index one item that a person has just changed. Engine trouble leaves it to the sweeper."""
    try:
        indexing.index_items([item_id])
    except SearchError as error:
        logger.warning("Item %s waits for the sweeper: %s", item_id, error)


def sweep_index() -> None:
    """Index the items whose entry is behind."""
    indexing.sweep()


def verify_index() -> None:
    """Compare the index with the database and mend what differs."""
    generation = get_engine().generation
    # An attached index is its owner's: nothing is written to it, so nothing of it can differ from the database.
    found = None if get_attached() else indexing.verify()
    _note_verified(generation)
    if found:
        logger.warning("The index differed from the database and was mended: %s", found)


def compute_insights() -> None:
    """Bring the weekly counts up to date with the log."""
    roll_up(say=logger.info)


def rebuild_index() -> None:
    """Build the index anew beside the old one, then swap; the suggestions go by the new one."""
    try:
        analysis = get_engine().analysis.partition("+")[0]  # the rules, with the table of folds as it is now
    except (IndexMissing, AnalysisUnknown):  # lost, or of rules that are gone: both are why somebody rebuilds
        analysis = CURRENT_ANALYSIS
    _note_verified(indexing.rebuild(analysis))
    enqueue("suggest", "audit.jobs.refresh_suggestions", job_id="refresh-suggestions")


def publish_outbox() -> None:
    """Give committed events their cursor numbers, then push them."""
    outbox.publish()
    enqueue("default", "audit.jobs.deliver_webhooks", job_id="deliver-webhooks")


def deliver_webhooks() -> None:
    outbox.deliver()


def run_export(export_id: int) -> None:
    exports.run_export(export_id)


def run_import(import_file_id: int) -> None:
    intake.run_import(import_file_id)


def tick() -> None:
    """Once a minute: pick up every row whose job is missing. The rows are the truth; Redis may have been emptied."""
    _clean_registries()
    exports.expire()
    for report_id in (
        Report.objects.open()
        .filter(suggestions_state__in=[SuggestionsState.PENDING, SuggestionsState.FAILED])
        .in_queue_order()
        .values_list("pk", flat=True)[:REFRESH_LIMIT]
    ):
        enqueue("suggest", "audit.jobs.suggest_for_report", report_id, job_id=f"suggest-{report_id}")
    if generating.is_behind():
        generating.ask_for_generation()
    _requeue_explorations()
    if Item.objects.to_index().exists():
        enqueue("default", "audit.jobs.sweep_index", job_id="sweep-index")
    enqueue("default", "audit.jobs.publish_outbox", job_id="publish-outbox")
    if risk_training.is_refit_due():
        enqueue("data", "audit.jobs.refit_risk", job_id="refit-risk")
    _look_after_index()
    if _night_is_due():
        enqueue("data", "audit.jobs.rescore_index", job_id="rescore-index")
        enqueue("data", "audit.jobs.verify_index", job_id="verify-index")
        enqueue("data", "audit.jobs.compute_insights", job_id="compute-insights")
        enqueue("suggest", "audit.jobs.suggest_overnight", job_id="suggest-overnight")
    for export_id in _waiting(Export.objects.all()):
        enqueue("data", "audit.jobs.run_export", export_id, job_id=f"export-{export_id}")
    for import_id in _waiting(ImportFile.objects.exclude(file="")):  # a command reads its file itself
        enqueue("data", "audit.jobs.run_import", import_id, job_id=f"import-{import_id}")


def _note_verified(generation: str) -> None:
    SiteSettings.objects.filter(pk=SiteSettings.load().pk).update(verified_index=generation)


def _look_after_index() -> None:
    """Rebuild an index that was lost; verify one that is not the one last verified (restored, or begun anew)."""
    try:
        if indexing.is_lost():
            enqueue("data", "audit.jobs.rebuild_index", job_id="rebuild-index")
        elif get_engine().generation != SiteSettings.load().verified_index:
            enqueue("data", "audit.jobs.verify_index", job_id="verify-index")
    except SearchError as error:
        logger.warning("The index cannot be looked at: %s", error)


def _night_is_due() -> bool:
    """Once a day from the nightly hour on: what a missed tick or a machine that was off left out is made up."""
    now = timezone.localtime()
    if now.hour < settings.NIGHTLY_HOUR:
        return False
    site = SiteSettings.objects.filter(pk=SiteSettings.load().pk)
    return site.exclude(nightly_on=now.date()).update(nightly_on=now.date()) == 1


def _run_query(row: ExplorationQuery, at: datetime | None) -> None:
    request = SearchRequest(
        text=row.query.text, mode=MatchMode(row.query.mode), size=settings.RUN_KEEP, order=Order.RISK
    )
    try:
        outcome = run_query(request)
    except SearchError as error:
        logger.warning("Query run of exploration %s failed: %s", row.exploration_id, error)
        failing = ExplorationQuery.objects.filter(pk=row.pk, run=None)  # no other worker stored its run meanwhile
        failing.update(state=RunState.FAILED, error=str(error.sentence))
        return
    try:
        with transaction.atomic():
            serving = serving_row()
            QueryRun.objects.create(
                exploration_query=row,
                query=row.query,
                risk_version=None if serving is None else serving.version,
                at=at or timezone.now(),
                **outcome,
            )
            ExplorationQuery.objects.filter(pk=row.pk).update(state=RunState.DONE, error="")
    except IntegrityError:
        # Another worker stored this run first (the job was delivered twice): its run stands.
        logger.info("Query %s of exploration %s had already run.", row.query_id, row.exploration_id)


def _requeue_explorations() -> None:
    """Explorations that wait or ran when their worker died go back to the queue."""
    left = Exploration.objects.filter(state__in=[RunState.QUEUED, RunState.RUNNING])
    for exploration in left.filter(at__lt=timezone.now() - STUCK_AFTER):
        if not is_under_way("explore", exploration.job_id):
            # Only where it is still unfinished: its job may have ended since this tick read the row.
            left.filter(pk=exploration.pk).update(state=RunState.QUEUED)
            enqueue("explore", "audit.jobs.run_exploration", exploration.pk, job_id=exploration.job_id)


def _waiting(rows: "QuerySet[Export] | QuerySet[ImportFile]") -> list[int]:
    """Queued rows; running ones too, whose worker may have died: a job that is alive is not added twice."""
    return list(
        rows.filter(state__in=[JobState.QUEUED, JobState.RUNNING], at__lt=timezone.now() - STUCK_AFTER).values_list(
            "pk", flat=True
        )
    )


def _clean_registries() -> None:
    """Fail or re-queue the jobs of workers that died (a running worker does so only every ten minutes)."""
    for name in settings.RQ_QUEUES:
        try:
            StartedJobRegistry(queue=django_rq.get_queue(name)).cleanup()
        except RedisError as error:
            logger.warning("Queue %s cannot be cleaned: %s", name, error)
            return

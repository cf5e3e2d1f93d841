"""Is it alive, is it ready. `live` asks nobody; `ready` asks every dependency and names it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Worker, cron_scheduler_registry

from extraction.artifacts import artifact_name
from extraction.errors import SearchError
from extraction.registry import adapters_at_work
from extraction.search import get_engine

START = "Start it: ./qexplorer up"


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One part of the system: how it is and, where something is wrong, what to do."""

    name: str
    state: State
    says: str
    remedy: str = ""


def database() -> Finding:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return Finding("database", State.FAILED, "cannot be reached", "Check DATABASE_URL and the server.")
    return Finding("database", State.OK, connection.vendor)


def migrations() -> Finding:
    try:
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        return Finding("migrations", State.FAILED, "unknown without the database", "Check the database first.")
    if waiting:
        return Finding("migrations", State.FAILED, f"{len(waiting)} not applied", "Apply them: ./qexplorer migrate")
    return Finding("migrations", State.OK, "all applied")


def search() -> Finding:
    try:
        health = get_engine().health()
    except SearchError as error:
        return Finding("search", State.FAILED, str(error), "Check ELASTICSEARCH_URL and the server.")
    if not health.is_ready:
        return Finding("search", State.FAILED, health.detail, "Build the index: ./qexplorer rebuild_index")
    about = f"{health.engine} {health.version}, index {health.generation} ({health.analysis}), {health.documents} items"
    return Finding("search", State.OK, about)


def queue() -> Finding:
    try:
        with _queue_client() as client:
            client.ping()
    except RedisError:
        return Finding("queue", State.FAILED, "the queue server cannot be reached", START)
    return Finding("queue", State.OK, "answers")


def workers() -> Finding:
    """Somebody listens on every queue, and the clock ticks."""
    try:
        with _queue_client() as client:
            listening = {name for worker in Worker.all(connection=client) for name in worker.queue_names()}
            has_clock = bool(cron_scheduler_registry.get_keys(client))
    except RedisError:
        return Finding("workers", State.FAILED, "unknown without the queue server", START)
    deserted = sorted(set(settings.RQ_QUEUES) - listening)
    if deserted:
        return Finding("workers", State.FAILED, f"nobody listens on: {', '.join(deserted)}", START)
    if not has_clock:
        return Finding("workers", State.FAILED, "the clock (rqcron) does not run", START)
    return Finding("workers", State.OK, "every queue has one, the clock runs")


def suggester() -> Finding:
    """The adapters at work are in the storage. Where one is not, `search` suggests alone: nothing stands still."""
    try:
        at_work = adapters_at_work()
    except DatabaseError:
        return Finding("suggester", State.FAILED, "unknown without the database", "Check the database first.")
    if not at_work:
        return Finding("suggester", State.OK, "search alone; no adapter is at work")
    lost = [adapter.name for adapter in at_work.values() if not default_storage.exists(artifact_name(adapter.digest))]
    if lost:
        says = f"search alone; not in the storage: {', '.join(lost)}"
        return Finding("suggester", State.WARNING, says, "Restore the storage, or go back: ./qexplorer rollback")
    names = ", ".join(f"{adapter.name} ({role.value})" for role, adapter in at_work.items())
    return Finding("suggester", State.OK, f"search and {names}")


PROBES: tuple[Callable[[], Finding], ...] = (database, migrations, search, queue, workers, suggester)


@require_safe
@never_cache
def live(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": State.OK})


@require_safe
@never_cache
def ready(request: HttpRequest) -> JsonResponse:
    findings = [probe() for probe in PROBES]
    is_ready = all(finding.state is not State.FAILED for finding in findings)
    parts = {finding.name: {"status": finding.state, "detail": finding.says} for finding in findings}
    body = {"status": State.OK if is_ready else State.FAILED, "dependencies": parts}
    return JsonResponse(body, status=200 if is_ready else 503)


def _queue_client() -> "Redis":
    no_second_try = Retry(NoBackoff(), 0)  # the default waits seconds for a server that is not there
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, retry=no_second_try)

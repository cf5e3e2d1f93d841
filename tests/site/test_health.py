import pytest
from django.db import connection
from rq import Worker

from qexplorer_site import health
from qexplorer_site.health import State
from tests.extraction.adapters import stored_adapter
from tests.factories import make_adapter, make_promotion

pytestmark = pytest.mark.django_db


@pytest.fixture
def queue_is_down(settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path / 'nobody.sock'}"


def test_live_asks_nobody(client, django_assert_num_queries, queue_is_down):
    with django_assert_num_queries(0):
        response = client.get("/healthz/live")
    assert response.json() == {"status": "ok"}


def test_ready_names_each_dependency(client):
    response = client.get("/healthz/ready")
    assert set(response.json()["dependencies"]) == {
        "database", "migrations", "search", "queue", "workers", "suggester",
    }  # fmt: skip


def test_ready_is_503_while_something_is_missing(client, queue_is_down):
    response = client.get("/healthz/ready")
    assert response.status_code == 503
    parts = response.json()["dependencies"]
    assert parts["queue"]["status"] == "failed"
    assert parts["database"] == {"status": "ok", "detail": connection.vendor}


def test_ready_is_200_when_all_is_well(client, monkeypatch):
    well = health.Finding("part", State.OK, "well")
    monkeypatch.setattr(health, "PROBES", (lambda: well,))
    assert client.get("/healthz/ready").status_code == 200


def test_health_is_never_cached(client):
    assert "no-store" in client.get("/healthz/live")["Cache-Control"]


def test_queue_that_nobody_serves_is_named(queue_server, settings):
    with health._queue_client() as client:
        worker = Worker(["explore", "data", "default", "suggest"], connection=client)
        worker.register_birth()
        finding = health.workers()
        worker.register_death()
    assert finding.state is State.FAILED
    assert finding.says == "nobody listens on: train"
    assert finding.remedy


def test_unapplied_migration_is_a_failure(monkeypatch):
    monkeypatch.setattr("django.db.migrations.executor.MigrationExecutor.migration_plan", lambda self, nodes: [1, 2])
    finding = health.migrations()
    assert (finding.state, finding.says) == (State.FAILED, "2 not applied")


def test_search_alone_is_well():
    assert health.suggester() == health.Finding("suggester", State.OK, "search alone; no adapter is at work")


def test_who_is_at_work_is_named(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    make_promotion(adapter=stored_adapter(tmp_path, name="dpo-14"))
    finding = health.suggester()
    assert (finding.state, finding.says) == (State.OK, "search and dpo-14 (serving)")


def test_an_adapter_that_is_lost_is_a_warning_since_search_goes_on(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    make_promotion(adapter=make_adapter("dpo-14"))
    finding = health.suggester()
    assert (finding.state, finding.says) == (State.WARNING, "search alone; not in the storage: dpo-14")
    assert finding.remedy

from importlib import import_module

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction

from audit.append_only import maintenance_pass
from audit.models import MaintenancePass, ReportEvent
from tests.factories import make_report_event

pytestmark = pytest.mark.django_db

APPEND_ONLY = [
    label
    for migration in (
        "audit.migrations.0002_append_only",
        "audit.migrations.0008_append_only_again",
        "training.migrations.0002_append_only",
    )
    for label in import_module(migration).APPEND_ONLY
]


@pytest.mark.parametrize("label", APPEND_ONLY)
def test_every_append_only_table_has_both_triggers(label):
    table = apps.get_model(label)._meta.db_table
    catalogue = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s"
        if connection.vendor == "sqlite"
        else "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal"
    )
    with connection.cursor() as cursor:
        cursor.execute(catalogue, [table])
        found = {name for (name,) in cursor.fetchall()}
    assert {f"{table}_no_update", f"{table}_no_delete"} <= found


def test_the_database_refuses_an_update():
    event = make_report_event()
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        ReportEvent.objects.filter(pk=event.pk).update(reason="rewritten")


def test_the_database_refuses_a_deletion():
    event = make_report_event()
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        event.delete()


def test_a_maintenance_pass_lets_through_and_is_logged():
    event = make_report_event()
    with maintenance_pass("erasure asked by the author"):
        ReportEvent.objects.filter(pk=event.pk).update(reason="")
    logged = MaintenancePass.objects.get()
    assert logged.reason == "erasure asked by the author"
    assert logged.closed is not None


def test_after_a_maintenance_pass_the_guard_stands_again():
    event = make_report_event()
    with maintenance_pass("test"):
        pass
    with pytest.raises(IntegrityError), transaction.atomic():
        event.delete()

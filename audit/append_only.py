"""Append-only tables, kept so by the database itself, and the one logged way past the guard."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import migrations, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState
from django.utils import timezone

_GUARD = "NOT EXISTS (SELECT 1 FROM audit_maintenancepass WHERE closed IS NULL)"


@contextmanager
def maintenance_pass(reason: str, *, user_id: int | None = None) -> Iterator[None]:
    """Let changes to append-only rows through for one transaction, and log that it was done.

    Restore, erasure and test set-up use it. No other connection sees the open pass, since it is opened and closed in
    the same transaction.
    """
    from audit.models import MaintenancePass  # noqa: PLC0415  (migrations import this module before apps are ready)

    with transaction.atomic():
        opened = MaintenancePass.objects.create(reason=reason, user_id=user_id)
        yield
        MaintenancePass.objects.filter(pk=opened.pk).update(closed=timezone.now())


class AppendOnly(migrations.operations.base.Operation):
    """Migration operation: refuse UPDATE and DELETE on a table by triggers.

    `model` is "app_label.Model". SQLite drops triggers when a later migration rebuilds the table, so such a migration
    ends with this operation again (a test updates a row of every append-only table).
    """

    reversible = True

    def __init__(self, model: str) -> None:
        self.model = model

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """The models do not change."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        table = to_state.apps.get_model(self.model)._meta.db_table
        vendor = schema_editor.connection.vendor
        for verb in ("update", "delete"):
            schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}{_of(vendor, table)}", params=None)
        for statement in _create(vendor, table):
            schema_editor.execute(statement, params=None)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        table = from_state.apps.get_model(self.model)._meta.db_table
        for verb in ("update", "delete"):
            vendor = schema_editor.connection.vendor
            schema_editor.execute(f"DROP TRIGGER {table}_no_{verb}{_of(vendor, table)}", params=None)

    def describe(self) -> str:
        return f"Make {self.model} append-only"

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return (self.__class__.__qualname__, [self.model], {})


def _of(vendor: str, table: str) -> str:
    return f" ON {table}" if vendor == "postgresql" else ""


def _create(vendor: str, table: str) -> Iterator[str]:
    message = f"{table} is append-only"
    if vendor == "postgresql":
        yield (
            "CREATE OR REPLACE FUNCTION qexplorer_append_only() RETURNS trigger AS $$ BEGIN "
            f"IF {_GUARD} THEN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME "
            "USING ERRCODE = 'integrity_constraint_violation'; END IF; "
            "IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$ LANGUAGE plpgsql"
        )
        for verb in ("update", "delete"):
            yield (
                f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION qexplorer_append_only()"
            )
        return
    for verb in ("update", "delete"):
        yield (
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} WHEN {_GUARD} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )

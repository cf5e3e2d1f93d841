"""The fixed cast, the queue server of this run, and clean-up that respects the append-only guard."""

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client, TransactionTestCase
from django.utils import translation

from audit.append_only import maintenance_pass
from audit.models import MaintenancePass
from audit.roles import ADMIN, AUDITOR, RESEARCHER
from qexplorer_site.queue_server import QueueServer
from tests.elasticsearch_server import (
    elasticsearch_8,
    elasticsearch_8_server,
    elasticsearch_9,
    elasticsearch_9_server,
)
from tests.environment import VAR_DIR
from tests.need import find_chromium, missing

# Fixtures for all tests: one server of each version a run.
__all__ = ["elasticsearch_8", "elasticsearch_8_server", "elasticsearch_9", "elasticsearch_9_server"]

PASSWORD = "Correct-horse-9"


@pytest.fixture(autouse=True)
def _no_language_left_behind() -> Iterator[None]:
    """A request leaves its language active in the thread; without this the next test would speak it too."""
    yield
    translation.deactivate()


@pytest.fixture(scope="session", autouse=True)
def queue_server() -> Iterator[QueueServer]:
    """A real queue server on this run's own socket."""
    server = QueueServer(VAR_DIR)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session", autouse=True)
def flush_through_the_guard() -> Iterator[None]:
    """Emptying tables after a transactional test goes through the logged maintenance pass.

    PostgreSQL needs none: it truncates, which the row triggers do not see.
    """
    if connection.vendor != "sqlite":
        yield
        return
    flush = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]

    def flush_with_pass(case: TransactionTestCase) -> None:
        with maintenance_pass("test set-up"):
            flush(case)

    patch = pytest.MonkeyPatch()
    patch.setattr(TransactionTestCase, "_fixture_teardown", flush_with_pass)
    patch.setattr(type(connection.ops), "sql_flush", _pass_last(type(connection.ops).sql_flush))
    yield
    patch.undo()


def _pass_last(sql_flush: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """SQLite empties one table after the other: the pass that allows it has to go last."""

    def ordered(self: object, style: object, tables: list[str], **options: bool) -> list[str]:
        last = MaintenancePass._meta.db_table
        return sql_flush(self, style, sorted(tables, key=lambda table: table == last), **options)

    return ordered


@pytest.fixture(scope="session")
def password() -> str:
    """The password of everyone in the cast."""
    return PASSWORD


@pytest.fixture(scope="session")
def _password_hash(password: str) -> str:
    return make_password(password)


@pytest.fixture
def make_user(db: None, _password_hash: str) -> Callable[..., User]:
    """`make_user("ana", AUDITOR)`: a person with roles, who can log in with `password`."""

    def make(username: str, *roles: str, **fields: object) -> User:
        user = User.objects.create(username=username, password=_password_hash, **fields)
        user.groups.set(Group.objects.filter(name__in=roles))
        return user

    return make


@pytest.fixture
def auditor(make_user: Callable[..., User]) -> User:
    return make_user("auditor", AUDITOR)


@pytest.fixture
def second_auditor(make_user: Callable[..., User]) -> User:
    return make_user("second_auditor", AUDITOR)


@pytest.fixture
def admin(make_user: Callable[..., User]) -> User:
    return make_user("admin", ADMIN, is_staff=True)


@pytest.fixture
def researcher(make_user: Callable[..., User]) -> User:
    return make_user("researcher", RESEARCHER)


@pytest.fixture
def stranger(make_user: Callable[..., User]) -> User:
    """Somebody with a login and no role."""
    return make_user("stranger")


@pytest.fixture
def login() -> Callable[[User], Client]:
    """`login(auditor)`: a client of that person's own."""

    def logged_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return logged_in


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium to drive."""
    path = find_chromium()
    if path is None:
        missing("no Chromium found: install chromium, or set QX_TEST_CHROMIUM to its path")
    assert path is not None
    return path

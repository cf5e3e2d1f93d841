import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from qexplorer_site.processes import child_setup, descendants, is_alive, stop_all

SLEEPING = "import time; time.sleep(60)"
SLEEP = [sys.executable, "-c", SLEEPING]
DEAF = [sys.executable, "-c", f"import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); {SLEEPING}"]
PARENT = [
    sys.executable,
    "-c",
    f"import subprocess; subprocess.Popen({SLEEP!r}); print(1, flush=True); {SLEEPING}",
]


@pytest.fixture
def spawn():
    started = []

    def start(command: list[str], *, says: bool = False, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE if says else None, text=True, **options)
        started.append(process)
        if says:
            assert process.stdout is not None
            process.stdout.readline()
        return process

    yield start
    for process in started:
        for pid in {process.pid, *descendants([process.pid])}:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def eventually(claim: Callable[[], bool], within_s: float = 5) -> bool:
    deadline = time.monotonic() + within_s
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.02)
    return claim()


def test_stop_all_ends_a_whole_tree(spawn):
    parent = spawn(PARENT, says=True)
    (child,) = descendants([parent.pid])
    stop_all([parent.pid], grace_s=0.5)
    assert eventually(lambda: not is_alive(parent.pid) and not is_alive(child))


def test_stop_all_says_whether_it_had_to_kill(spawn):
    polite, deaf = spawn(SLEEP), spawn(DEAF, says=True)
    assert stop_all([polite.pid], grace_s=5)
    assert not stop_all([deaf.pid], grace_s=0.3)
    assert eventually(lambda: not is_alive(deaf.pid))


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no parent-death signal: the guardian does it there")
def test_child_ends_with_its_killed_parent(spawn):
    code = (
        "import subprocess, sys, time\n"
        "from qexplorer_site.processes import child_setup\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], preexec_fn=child_setup())\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = spawn([sys.executable, "-c", code], says=True)
    (child,) = descendants([parent.pid])
    parent.kill()
    assert eventually(lambda: not is_alive(child))


def test_child_setup_leaves_a_living_child_alone(spawn):
    assert eventually(lambda: is_alive(spawn(SLEEP, preexec_fn=child_setup()).pid))


def test_guardian_ends_what_a_killed_supervisor_left(spawn):
    left = spawn(SLEEP)
    guardian = subprocess.Popen(
        [sys.executable, "-m", "qexplorer_site.guardian", "5"], stdin=subprocess.PIPE, text=True
    )
    guardian.communicate(f"{left.pid}\n")
    assert eventually(lambda: left.poll() is not None)
    assert guardian.returncode == 0


def test_guardian_leaves_alone_what_it_was_told_to_forget(spawn):
    other = spawn(SLEEP)
    guardian = subprocess.Popen(
        [sys.executable, "-m", "qexplorer_site.guardian", "1"], stdin=subprocess.PIPE, text=True
    )
    guardian.communicate(f"{other.pid}\n-{other.pid}\n")
    assert is_alive(other.pid)

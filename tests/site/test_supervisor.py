"""Start, stop, kill: real processes of a real installation in its own folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qexplorer_site.processes import descendants, is_alive
from qexplorer_site.supervisor import Lock, Service, Supervisor, SupervisorError, listen
from tests.site.installation import Installation


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with database, index and static files, copied for each test: making it takes most of a start."""
    made = Installation(tmp_path_factory.mktemp("prepared") / "var")
    made.var.mkdir()
    subprocess.run([sys.executable, "-m", "qexplorer_site.prepare", "site"], env=made.environment, check=True)
    return made.var


@pytest.fixture
def installation(prepared: Path, tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path / "var")
    shutil.copytree(prepared, made.var)
    yield made
    if made._process is not None:
        for pid in made.tree():
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def all_gone(pids: set[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(is_alive(pid) for pid in pids)


@pytest.mark.slow
def test_everything_runs_and_stops_cleanly(installation):
    installation.start()
    assert installation.ready()["status"] == "ok"
    tree = installation.tree()
    assert len(tree) >= 8  # supervisor, guardian, queue, web with two workers, three workers, scheduler, clock
    assert "already running" in installation.word("up", "--light").stderr
    assert installation.word("stop").stdout == "Stopped.\n"
    assert all_gone(tree, within_s=5)
    assert installation.word("stop").stdout == "It is not running.\n"


@pytest.mark.slow
def test_killed_supervisor_leaves_nothing_behind(installation):
    installation.start()
    installation.ready()
    tree = installation.tree()
    installation.process.kill()
    installation.process.wait()
    assert all_gone(tree, within_s=12)


@pytest.mark.slow
def test_killed_parts_come_back(installation):
    installation.start()
    installation.ready()
    for pid in descendants([installation.process.pid]) - {installation.process.pid}:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    assert installation.ready()["status"] == "ok"
    assert installation.word("stop").returncode == 0


@pytest.mark.slow
def test_taken_port_is_said_with_the_way_on(installation):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = installation.word("up", "--light", "--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in done.stderr
    assert "--port" in done.stderr


def test_next_free_port_is_taken_where_none_is_asked_for():
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_port_of_its_own_is_an_error_when_taken():
    with listen("127.0.0.1", None) as first, pytest.raises(SupervisorError, match="cannot be used"):
        listen("127.0.0.1", first.getsockname()[1])


def test_demo_flag_and_foreign_address_exclude_each_other(installation):
    installation.environment["QX_DEMO"] = "1"
    done = installation.word("up", "--light", "--host", "192.0.2.1")
    assert done.returncode == 1
    assert "QX_DEMO=1" in done.stderr


def test_lock_has_one_holder(tmp_path):
    first, second = Lock(tmp_path), Lock(tmp_path)
    assert first.take()
    first.write("http://127.0.0.1:8000/")
    assert not second.take()
    assert second.holder() == (os.getpid(), "http://127.0.0.1:8000/")
    first.release()
    assert second.holder() is None


def test_fallen_service_is_restarted_with_growing_pauses(tmp_path, capsys):
    supervisor = Supervisor(tmp_path, grace_s=1)
    supervisor.start(Service("brief", [sys.executable, "-c", "raise SystemExit(3)"]))
    child = supervisor._children[0]
    for falls in (1, 2):
        child.process.wait()
        supervisor._look_at(child)
        assert child.falls == falls
        child.due = 0
        supervisor._look_at(child)
    said = capsys.readouterr().out
    assert "brief ended (exit 3); starting it again in 1 s." in said
    assert "in 2 s." in said
    supervisor.stop()

"""Starts the processes of one installation, restarts what falls, and ends them all: one tree, nothing left behind.

It loads no Django, so that it stays small and outlives any error of the application.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from qexplorer_site.processes import child_setup, stop_all

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PORTS_TRIED = 100
_LONGEST_PAUSE_S = 60.0
_STEADY_S = 60.0
_LOG_LIMIT = 20_000_000


class SupervisorError(Exception):
    """It cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class Service:
    """One process to keep running. Those with a higher `level` start later and end earlier.

    `shows`: its output goes to the terminal instead of its log.
    """

    name: str
    command: Sequence[str]
    level: int = 1
    pass_fds: tuple[int, ...] = ()
    restarts: bool = True
    shows: bool = False


@dataclass
class _Child:
    service: Service
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    falls: int = 0
    due: float = field(default=0.0)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Lock:
    """Held by the one supervisor of a `var` folder; says where it runs."""

    def __init__(self, var_dir: Path) -> None:
        self.path = var_dir / "run" / "supervisor.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] | None = None

    def take(self) -> bool:
        file = self.path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def write(self, url: str) -> None:
        assert self._file is not None  # noqa: S101 - only the holder writes
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "url": url}))
        self._file.flush()

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def holder(self) -> tuple[int, str] | None:
        """(process, address) of the supervisor that runs now, or None. A stale file is nobody's."""
        if self.take():
            self.release()
            return None
        try:
            content = json.loads(self.path.read_text())
        except ValueError:
            return (0, "")
        return int(content["pid"]), str(content["url"])


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket. With no `port` asked for, 8000 or the next free one. Raises SupervisorError."""
    tried = [port] if port is not None else range(8000, 8000 + PORTS_TRIED)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason: OSError | None = None
    for number in tried:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
            listener.listen(512)
        except (OSError, OverflowError) as error:
            listener.close()
            reason = error if isinstance(error, OSError) else OSError(str(error))
        else:
            return listener
    asked = f"Port {port}" if port is not None else f"Every port from 8000 to {8000 + PORTS_TRIED - 1}"
    raise SupervisorError(
        f"{asked} of {host} cannot be used ({reason.strerror or reason if reason else 'none left'}). "
        "End what uses it, or name another with --port."
    )


class Supervisor:
    """Runs `services` until it is told to stop (SIGTERM, SIGINT, SIGHUP)."""

    def __init__(self, var_dir: Path, *, grace_s: float) -> None:
        self.log_dir = var_dir / "log"
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self.grace_s = grace_s
        self.stopping = threading.Event()
        self._children: list[_Child] = []
        self._guardian: subprocess.Popen[str] | None = None

    def listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` leaves SIGHUP
                signal.signal(number, lambda *_: self.stopping.set())

    def start(self, service: Service) -> int:
        """Start a service now and keep it running; returns its process id."""
        child = _Child(service)
        self._children.append(child)
        return self._launch(child)

    def runs(self, name: str) -> bool:
        return any(child.runs for child in self._children if child.service.name == name)

    def watch(self) -> None:
        """Restart what falls, with growing pauses, until told to stop."""
        while not self.stopping.wait(0.25):
            self._keep_guardian()
            for child in self._children:
                self._look_at(child)

    def stop(self) -> bool:
        """End everything, highest level first. True where nothing had to be killed."""
        clean = True
        for level in sorted({child.service.level for child in self._children}, reverse=True):
            pids = [c.process.pid for c in self._children if c.service.level == level and c.process and c.runs]
            clean &= stop_all(pids, self.grace_s)
        if self._guardian is not None and self._guardian.stdin is not None:
            with suppress(BrokenPipeError):
                self._guardian.stdin.close()
            self._guardian.wait()
        return clean

    def _launch(self, child: _Child) -> int:
        with self._open_log(child.service.name) as log:
            child.process = subprocess.Popen(  # noqa: S603 - the commands are our own
                child.service.command,
                stdin=subprocess.DEVNULL,
                stdout=None if child.service.shows else log,
                stderr=subprocess.STDOUT,
                pass_fds=child.service.pass_fds,
                start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor alone: it ends the rest in order
                preexec_fn=child_setup(),
            )
        child.started = time.monotonic()
        self._tell_guardian(child.process.pid)
        return child.process.pid

    def _look_at(self, child: _Child) -> None:
        if child.runs or not child.service.restarts:
            return
        now = time.monotonic()
        if child.process is not None:
            self._tell_guardian(-child.process.pid)
            child.falls = 1 if now - child.started > _STEADY_S else child.falls + 1
            pause = min(0.5 * 2**child.falls, _LONGEST_PAUSE_S)
            say(
                f"{child.service.name} ended ({_how(child.process.returncode)}); starting it again in {pause:.0f} s. "
                f"Its log: {self.log_dir / child.service.name}.log"
            )
            child.process = None
            child.due = now + pause
        elif now >= child.due:
            self._launch(child)

    def _open_log(self, name: str) -> IO[bytes]:
        path = self.log_dir / f"{name}.log"
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            shutil.move(path, path.with_suffix(".log.1"))
        return path.open("ab")

    def _keep_guardian(self) -> None:
        if self._guardian is not None and self._guardian.poll() is None:
            return
        self._guardian = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "qexplorer_site.guardian", str(self.grace_s)],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for child in self._children:
            if child.process is not None and child.runs:
                self._tell_guardian(child.process.pid)

    def _tell_guardian(self, number: int) -> None:
        if self._guardian is None:
            self._keep_guardian()
            return
        assert self._guardian.stdin is not None  # noqa: S101 - a pipe was asked for
        with suppress(BrokenPipeError):  # it fell: the next look starts another, which is told everything
            self._guardian.stdin.write(f"{number}\n")
            self._guardian.stdin.flush()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _how(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"exit {code}"

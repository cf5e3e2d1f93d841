"""Processes that end with the one that started them: on Linux by the kernel, elsewhere by walking the tree."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def end_with_parent(sig: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel to send `sig` to this process when the thread that started it ends. Nothing happens on macOS."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(sig))


def child_setup(sig: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """For `Popen(preexec_fn=…)`: tie the child to this process, also when this one dies before the child got there."""
    parent = os.getpid()

    def setup() -> None:
        end_with_parent(sig)
        if os.getppid() != parent:
            os.kill(os.getpid(), sig)

    return setup


def is_alive(pid: int) -> bool:
    """True while `pid` runs; a zombie that waits for its parent's glance has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def descendants(pids: Iterable[int]) -> set[int]:
    """All processes below `pids`, these left out."""
    children = defaultdict(list)
    for pid, parent in _parents():
        children[parent].append(pid)
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        for pid in children[waiting.pop()]:
            if pid not in found:
                found.add(pid)
                waiting.append(pid)
    return found


def stop_all(pids: Iterable[int], grace_s: float) -> bool:
    """SIGTERM to each of `pids` once, then wait; what is left of their trees after `grace_s` is killed.

    A second SIGTERM would make a queue worker drop its job, so there is none. True where nothing had to be killed.
    """
    roots = {pid for pid in pids if is_alive(pid)}
    tree = roots | descendants(roots)
    for pid in roots:
        _send(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline:
        tree |= descendants(tree)
        if not any(is_alive(pid) for pid in tree):
            return True
        reap()
        time.sleep(0.05)
    for pid in tree:
        _send(pid, signal.SIGKILL)
    return False


def reap() -> None:
    """Take the exit status of ended children that nobody else waits for, so that they do not stay as zombies."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _send(pid: int, sig: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, sig)


def _parents() -> list[tuple[int, int]]:
    if sys.platform == "linux":
        return _parents_of_proc()
    listing = subprocess.run(["/bin/ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout  # noqa: S603 - fixed words
    return [(int(pid), int(parent)) for pid, parent in (line.split() for line in listing.splitlines())]


def _parents_of_proc() -> list[tuple[int, int]]:
    pairs = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError, IndexError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                pairs.append((int(folder.name), int(fields[1])))
    return pairs

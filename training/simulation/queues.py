"""The queue server and the workers of a simulated site: real ones, of its own folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import django_rq
from django.conf import settings
from rq import SimpleWorker

SERVER = "qexplorer_site.queue_server"
"""Started as a program: the apps import nothing of the wiring."""


@contextmanager
def queue_server() -> Iterator[None]:
    """The embedded queue server of this site, while the block runs; it also ends with this process."""
    command = [sys.executable, "-m", SERVER, str(settings.VAR_DIR)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:  # noqa: S603 - our own module
        assert server.stdin is not None and server.stdout is not None  # noqa: S101 - pipes were asked for
        try:
            if not server.stdout.readline():
                raise RuntimeError("The queue server did not start.")
            empty()
            yield
        finally:
            server.stdin.close()
            server.wait()


def work_off(*names: str) -> None:
    """Do in this process what waits in these queues, and what follows from it."""
    queues = [django_rq.get_queue(name) for name in names]
    while any(queue.count for queue in queues):
        worker = SimpleWorker(queues, connection=queues[0].connection)
        worker.work(burst=True, logging_level="ERROR")


def empty() -> None:
    """Forget every job. The rows are the truth: whatever is unfinished is found there."""
    connection = django_rq.get_connection()
    for key in list(connection.scan_iter("rq:*")):
        connection.delete(key)


@contextmanager
def worker(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program on this site, `python -m ARGUMENT…`, in a process group of its own; what is left of it is killed."""
    command = [sys.executable, "-m", "training.tied", "0", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:  # noqa: S603 - our own
        try:
            yield process
        finally:
            kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to the whole group of a worker, and wait until it is over."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

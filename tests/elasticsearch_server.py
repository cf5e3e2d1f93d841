"""Real Elasticsearch servers for tests: fetched from Maven Central, started once per run and only when a test asks.

QX_TEST_ELASTICSEARCH_URL points the tests at any server instead. Java and Maven are looked for, never installed. The
test distribution has no plugins and no `GET /`; it starts on free ports, as an unprivileged user where the tests run
as root, from a copy that this user can read.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qexplorer_site.processes import descendants
from tests.need import missing

_ARTIFACT = "org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip"
_DOWNLOADER = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get"
_USER = "nobody"
_START_TIMEOUT_S = 120
_SETTINGS = """\
cluster.name: qx-test-{http}
node.name: qx-test
path.data: {home}/data
path.logs: {home}/logs
network.host: 127.0.0.1
http.port: {http}
transport.port: {transport}
discovery.type: single-node
xpack.security.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
"""


@dataclass(frozen=True)
class Release:
    """A server release and the oldest Java that runs it."""

    version: str
    java: int


ES_8 = Release("8.19.16", 17)
ES_9 = Release("9.5.0", 21)


class Server:
    """One server process; `url` answers from `start` on."""

    def __init__(self, release: Release, java_home: Path) -> None:
        self._release = release
        self._java_home = java_home
        self._home = Path(tempfile.mkdtemp(prefix="qx-es-", dir=_shared_temp()))
        self._process: subprocess.Popen[bytes] | None = None
        self.port, self._transport = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if not (self._home / "bin").exists():
            self._install(_fetch(self._release.version))
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "ES_JAVA_HOME": str(self._java_home),
            "ES_PATH_CONF": str(self._home / "config"),
            "ES_TMPDIR": str(self._home / "tmp"),
            "HOME": str(self._home),
        }
        command = [*_as_user(), str(self._home / "bin" / "elasticsearch")]
        with (self._home / "logs" / "console.log").open("ab") as console:
            self._process = subprocess.Popen(command, env=environment, cwd=self._home, stdout=console, stderr=console)
        self._wait()

    def stop(self) -> None:
        """Stop the process; `start` goes on with the same data on the same port."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def kill(self) -> None:
        """kill -9, the launcher and the server; `start` goes on with what reached the disk."""
        assert self._process is not None, "not started"
        for pid in {self._process.pid} | descendants([self._process.pid]):
            os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=60)
        self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _install(self, archive: Path) -> None:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(self._home)
        (unpacked,) = self._home.glob("elasticsearch-*")
        for part in unpacked.iterdir():
            part.rename(self._home / part.name)
        for program in (self._home / "bin").iterdir():
            program.chmod(0o755)
        for folder in ("data", "logs", "tmp"):
            (self._home / folder).mkdir(exist_ok=True)
        config = self._home / "config"
        settings = _SETTINGS.format(home=self._home, http=self.port, transport=self._transport)
        (config / "elasticsearch.yml").write_text(settings, encoding="utf-8")
        (config / "jvm.options.d").mkdir(exist_ok=True)
        (config / "jvm.options.d" / "heap.options").write_text("-Xms512m\n-Xmx512m\n", encoding="utf-8")
        self._leave_out_missing_modules(config / "jvm.options")
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", _USER, str(self._home)], check=True)

    def _leave_out_missing_modules(self, options: Path) -> None:
        """Not every Java has the vector module that the options ask for; the tests do not need it."""
        modules = subprocess.run(
            [self._java_home / "bin" / "java", "--list-modules"], capture_output=True, text=True, check=True
        ).stdout
        if "jdk.incubator.vector" not in modules:
            lines = options.read_text(encoding="utf-8").splitlines(keepends=True)
            options.write_text("".join(line for line in lines if "jdk.incubator.vector" not in line), encoding="utf-8")

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                address = f"{self.url}/_cluster/health?wait_for_status=yellow&timeout=30s"
                with urllib.request.urlopen(address, timeout=35):  # noqa: S310 - our own loopback server
                    return
            except OSError:
                if self._process is None or self._process.poll() is not None:
                    break
                time.sleep(0.3)
        log = (self._home / "logs" / "console.log").read_text(encoding="utf-8", errors="replace")[-3000:]
        self.stop()
        raise RuntimeError(f"Elasticsearch {self._release.version} did not start:\n{log}")


def _shared_temp() -> str | None:
    """A folder that the unprivileged user can reach: a private TMPDIR of root is none."""
    return "/tmp" if os.geteuid() == 0 else None  # noqa: S108 - the folder made in it is random


def _as_user() -> list[str]:
    """The server refuses to run as root; it ends with the tests even if they are killed."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_USER}", f"--regid={_group()}", "--clear-groups", "--pdeathsig=TERM"]


def _group() -> str:
    return subprocess.run(["id", "-gn", _USER], capture_output=True, text=True, check=True).stdout.strip()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _fetch(version: str) -> Path:
    """The distribution in the local Maven repository; Maven downloads it the first time."""
    repository = Path(os.environ.get("MAVEN_REPO", Path.home() / ".m2" / "repository"))
    archive = (
        repository
        / "org/elasticsearch/distribution/integ-test-zip/elasticsearch"
        / version
        / f"elasticsearch-{version}.zip"
    )
    if not archive.exists():
        command = [
            "mvn",
            "-B",
            "-q",
            _DOWNLOADER,
            "-Dtransitive=false",
            f"-Dartifact={_ARTIFACT.format(version=version)}",
        ]
        done = subprocess.run(
            [*command, f"-Dmaven.repo.local={repository}"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"Maven could not fetch Elasticsearch {version}:\n{(done.stdout + done.stderr)[-2000:]}")
    return archive


def _find_java(at_least: int) -> Path | None:
    """The home of the oldest Java that is new enough: JAVA_HOME, PATH and the usual folders are looked at."""
    homes = [Path(home) for name in ("JAVA_HOME", "ES_JAVA_HOME") if (home := os.environ.get(name))]
    if java := shutil.which("java"):
        homes.append(Path(java).resolve().parent.parent)
    homes += [home.resolve() for home in Path("/usr/lib/jvm").glob("*")]
    homes += [home / "Contents/Home" for home in Path("/Library/Java/JavaVirtualMachines").glob("*")]
    found = {home: version for home in homes if (version := _java_version(home)) >= at_least and _is_shared(home)}
    return min(found, key=lambda home: found[home], default=None)


def _java_version(home: Path) -> int:
    program = home / "bin" / "java"
    if not program.exists():
        return 0
    answer = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    return int(found.group(1)) if found else 0


def _is_shared(home: Path) -> bool:
    """True if the server's user can run it: not below root's own home."""
    return os.geteuid() != 0 or not home.is_relative_to(Path.home())


def _server(release: Release, *, required_in_ci: bool) -> Iterator[Server]:
    java_home = _find_java(release.java)
    if java_home is None:
        missing(f"no Java {release.java} or newer for Elasticsearch {release.version}", required_in_ci=required_in_ci)
    if shutil.which("mvn") is None:
        missing("no Maven to fetch Elasticsearch with (mvn)")
    assert java_home is not None
    server = Server(release, java_home)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def elasticsearch_8_server() -> Iterator[Server]:
    """A server of our own that a test may stop and start."""
    yield from _server(ES_8, required_in_ci=True)


@pytest.fixture(scope="session")
def elasticsearch_9_server() -> Iterator[Server]:
    yield from _server(ES_9, required_in_ci=False)


@pytest.fixture(scope="session")
def elasticsearch_8(request: pytest.FixtureRequest) -> str:
    """The address of an Elasticsearch 8, or of the server that QX_TEST_ELASTICSEARCH_URL names."""
    if url := os.environ.get("QX_TEST_ELASTICSEARCH_URL"):
        return url
    server: Server = request.getfixturevalue("elasticsearch_8_server")
    return server.url


@pytest.fixture(scope="session")
def elasticsearch_9(request: pytest.FixtureRequest) -> str:
    """The address of an Elasticsearch 9."""
    if os.environ.get("QX_TEST_ELASTICSEARCH_URL"):
        pytest.skip("QX_TEST_ELASTICSEARCH_URL names the one server that the tests use")
    server: Server = request.getfixturevalue("elasticsearch_9_server")
    return server.url

"""The words of `./qexplorer` that are not Django's: `python -m qexplorer_site.cli WORD …`."""

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from extraction.card import has_card
from qexplorer_site import bootstrap
from qexplorer_site.env import env_int, env_list, env_str
from qexplorer_site.processes import child_setup, is_alive, stop_all
from qexplorer_site.queue_server import QueueServer, QueueServerError
from qexplorer_site.supervisor import LOOPBACK, Lock, Service, Supervisor, SupervisorError, listen, say

DEMO_IS_LOADED = 3  # exit status of `qexplorer_site.prepare site`
_READY_S = 120.0
_WEB_LOG_FORMAT = "%(t)s %(m)s %(U)s %(s)s %(M)s ms"  # no query string: it can hold what an auditor typed


def main(arguments: list[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qexplorer_site.settings")
    word, *rest = arguments
    try:
        return _WORDS[word](rest)
    except (SupervisorError, QueueServerError, ImproperlyConfigured) as error:
        sys.stderr.write(f"qexplorer: {error}\n")
        return 1


def start(arguments: list[str]) -> int:
    """`./qexplorer`: with the demo, where it is bound to this machine only."""
    options = _start_options(arguments)
    if options.host in LOOPBACK:
        os.environ.setdefault("QX_DEMO", "1")
    else:
        say(f"Bound to {options.host}: the demo logins are refused. Your own: ./qexplorer createsuperuser")
    return serve(options, demo=True)


def up(arguments: list[str]) -> int:
    return serve(_start_options(arguments), demo=False)


def serve(options: argparse.Namespace, *, demo: bool) -> int:
    """Start everything, say where, and stay until told to stop."""
    _check_binding(options.host)
    _allow_forks()
    var_dir = _var_dir()
    lock = Lock(var_dir)
    if not lock.take():
        pid, url = lock.holder() or (0, "")
        raise SupervisorError(f"It is already running: {url} (process {pid}). ./qexplorer stop ends it.")
    listener = listen(options.host, options.port)
    url = _url(options.host, listener.getsockname()[1])
    lock.write(url)
    supervisor = Supervisor(var_dir, grace_s=env_int("QX_STOP_GRACE", 30, low=1, high=86400))
    supervisor.listen_to_signals()
    try:
        return _run(supervisor, options, url, listener.fileno(), demo=demo)
    finally:
        if not supervisor.stop():
            say("Some jobs did not end in time and were stopped; they start again with the next start.")
        lock.release()


def _allow_forks() -> None:
    """macOS kills a forked worker that touches its frameworks (a proxy look-up does) unless told otherwise."""
    if sys.platform == "darwin":
        os.environ.setdefault("OBJC_DISABLE_INITIALIZE_FORK_SAFETY", "YES")


def _run(supervisor: Supervisor, options: argparse.Namespace, url: str, web_fd: int, *, demo: bool) -> int:
    """Every step of a start, then the watch. Ends early, with 0, where it is told to stop."""
    if not os.environ.get("REDIS_URL"):
        _start_queue_server(supervisor)
    state = _prepare(supervisor, "site", *([] if demo else ["--login"]))
    if state not in (0, DEMO_IS_LOADED) or supervisor.stopping.is_set():
        return state
    supervisor.start(_web(web_fd))
    _wait_until_ready(supervisor, url)  # alone, so that the pages are there soonest
    loads_demo = demo and state != DEMO_IS_LOADED
    if loads_demo and not supervisor.stopping.is_set():
        say(f"The pages are up at {url} and fill while the demo is loaded.")
        if code := _prepare(supervisor, "demo"):
            return code
    if not supervisor.stopping.is_set():
        for service in _workers():
            supervisor.start(service)
        _greet(url, with_logins=demo and not loads_demo)
        if not options.light:
            _install_learning(supervisor)
    supervisor.watch()
    say("Stopping.")
    return 0


def stop(arguments: list[str]) -> int:
    """Tell the running supervisor to stop and wait until it has."""
    argparse.ArgumentParser(prog="./qexplorer stop").parse_args(arguments)
    lock = Lock(_var_dir())
    holder = lock.holder()
    if holder is None:
        say("It is not running.")
        return 0
    pid, _url = holder
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 2 * env_int("QX_STOP_GRACE", 30, low=1, high=86400) + 15
    while is_alive(pid) and lock.holder() is not None:
        if time.monotonic() > deadline:
            raise SupervisorError(f"Process {pid} does not stop. Its logs are in {_var_dir() / 'log'}.")
        time.sleep(0.1)
    say("Stopped.")
    return 0


def doctor(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog="./qexplorer doctor").parse_args(arguments)
    _load_django()
    from qexplorer_site.doctor import report

    return report(sys.stdout)


def backup(arguments: list[str]) -> int:
    return _with_folder("backup", arguments)


def restore(arguments: list[str]) -> int:
    lock = Lock(_var_dir())
    if lock.holder() is not None:
        raise SupervisorError("It is running. Stop it first: ./qexplorer stop")
    return _with_folder("restore", arguments)


def test(arguments: list[str]) -> int:
    from qexplorer_site.run_tests import run_tests

    return run_tests(arguments)


_WORDS: dict[str, Callable[[list[str]], int]] = {
    "start": start,
    "up": up,
    "stop": stop,
    "doctor": doctor,
    "backup": backup,
    "restore": restore,
    "test": test,
}


def _start_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./qexplorer")
    parser.add_argument("--light", action="store_true", help="leave the learning stack out")
    parser.add_argument("--host", default=env_str("QX_HOST", "127.0.0.1"), help="address to listen on")
    port = env_int("QX_PORT", 0, low=0, high=65535) or None
    parser.add_argument("--port", type=int, default=port, help="port to listen on (default: 8000 or the next free one)")
    return parser.parse_args(arguments)


def _check_binding(host: str) -> None:
    os.environ["QX_HOST"] = host
    if host in LOOPBACK:
        return
    if env_str("QX_DEMO", "0") not in {"", "0"}:
        raise SupervisorError(f"QX_DEMO=1 opens logins that everyone knows: it cannot go with --host {host}.")
    if not env_list("QX_ALLOWED_HOSTS"):
        say("Set QX_ALLOWED_HOSTS to the names that people type, else only localhost is answered.")


def _var_dir() -> Path:
    return Path(env_str("QX_VAR_DIR") or bootstrap.ROOT / "var").resolve()


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - replaced by loopback here
    return f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"


def _start_queue_server(supervisor: Supervisor) -> None:
    server = QueueServer(_var_dir())
    if server.answers():
        server.stop()  # left behind by a machine's crash; this supervisor runs its own
    pid = supervisor.start(Service("queue", server.command(), level=0))
    server.wait_until_ready(pid)


def _prepare(supervisor: Supervisor, *step: str) -> int:
    """Run one step of qexplorer_site.prepare and return its exit status; where told to stop, end it and return 0."""
    command = [sys.executable, "-m", "qexplorer_site.prepare", *step]
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=child_setup())  # noqa: S603 - our own module
    while process.poll() is None:
        if supervisor.stopping.wait(0.05):
            stop_all([process.pid], 10)
            return 0
    return process.returncode


def _web(web_fd: int) -> Service:
    command = [
        *(sys.executable, "-m", "gunicorn", "qexplorer_site.wsgi"),
        *("--bind", f"fd://{web_fd}", "--preload", "--workers", "2", "--threads", "4"),
        *("--timeout", "120", "--keep-alive", "5", "--no-control-socket"),
        *("--access-logfile", "-", "--access-logformat", _WEB_LOG_FORMAT),
    ]
    return Service("web", command, pass_fds=(web_fd,), level=2)


def _workers() -> list[Service]:
    # Both take explorations first; only one takes long data jobs, so that an auditor never waits behind two of them.
    first = ["explore", "default", "--with-scheduler"]
    second = ["explore", "data", "default"]
    return [
        Service("worker-1", [*_worker("worker.Worker"), *first]),
        Service("worker-2", [*_worker("worker.Worker"), *second]),
        Service("suggester", [*_worker("suggester.Suggester"), "suggest"]),
        # Without a graphics card a training takes what pages and suggestions leave.
        Service("trainer", [*([] if has_card() else ["nice", "-n", "15"]), *_worker("worker.Worker"), "train"]),
        Service("clock", [*_manage("rqcron"), "qexplorer_site.cron"], level=2),
    ]


def _worker(name: str) -> list[str]:
    # The short life time makes a dead worker known within two minutes.
    return [*_manage("rqworker"), "--worker-class", f"qexplorer_site.{name}", "--worker-ttl", "60"]


def _manage(word: str) -> list[str]:
    return [sys.executable, str(bootstrap.ROOT / "manage.py"), word]


def _wait_until_ready(supervisor: Supervisor, url: str) -> None:
    deadline = time.monotonic() + _READY_S
    while not _answers(f"{url}healthz/live") and not supervisor.stopping.wait(0.1):
        if not supervisor.runs("web") or time.monotonic() > deadline:
            log = supervisor.log_dir / "web.log"
            raise SupervisorError(f"The web process does not answer. The end of {log}:\n{_tail(log)}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own address
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-12:])


def _greet(url: str, *, with_logins: bool) -> None:
    from qexplorer_site.settings import DEMO_LOGINS

    say(f"\nQExplorer runs at {url}")
    logins = _var_dir() / "demo_logins.txt"
    if with_logins and logins.exists():
        say(f"Demo logins:\n{logins.read_text().rstrip()}" if DEMO_LOGINS else "The demo logins are refused here.")
    say("Ctrl-C or ./qexplorer stop ends it; ./qexplorer doctor checks it.\n")


def _install_learning(supervisor: Supervisor) -> None:
    if not bootstrap.is_installed(Path(sys.prefix), bootstrap.LEARN):
        command = [sys.executable, str(bootstrap.ROOT / "qexplorer_site" / "bootstrap.py"), "install_learning"]
        supervisor.start(Service("learning-stack", command, level=2, restarts=False, shows=True))


def _with_folder(word: str, arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"./qexplorer {word}")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    _load_django()
    from qexplorer_site import backup as archive

    try:
        say(archive.save(folder) if word == "backup" else archive.load(folder))
    except archive.BackupError as error:
        sys.stderr.write(f"qexplorer: {error}\n")
        return 1
    return 0


def _load_django() -> None:
    import django

    django.setup()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

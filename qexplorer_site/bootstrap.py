"""Prepares everything that `./qexplorer` needs, then hands over. Standard library only: it runs before the packages.

`.venv` and what is in it are made here; the secrets of a site are made here; nothing else is.
"""

import configparser
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE, TEST, LEARN = "requirements.lock", "requirements-test.lock", "requirements-learn.lock"
OWN_WORDS = {"start", "up", "stop", "doctor", "backup", "restore", "test"}
USAGE = """\
./qexplorer [--light] [--host HOST] [--port PORT]   install, load the demo the first time, start everything
./qexplorer up [--light] [--host HOST] [--port PORT]  the same without the demo
./qexplorer stop                                    stop it
./qexplorer doctor                                  check every part and say what to do
./qexplorer backup DIR | restore DIR                save and load everything
./qexplorer test [pytest arguments]                 run every test that this machine can run
./qexplorer WORD …                                  any other word goes to manage.py (`./qexplorer help` lists them)
"""

_OTHER_FOLDERS = (
    "Copy the project to a folder of your own, or set QX_VENV and QX_VAR_DIR to folders that you can write."
)
_OTHER_PYTHON = "Use Python 3.11 to 3.14 (QX_PYTHON=/path/to/python)"
_VENV_PACKAGE = "install your system's venv package (Debian, Ubuntu: apt install python3-venv)"

# What pip says, and what that means. The first match is told; all of pip's output stays in install.log.
_REASONS = (
    ("No space left on device", "The disk is full: the core needs about 700 MB, the learning stack 3 to 8 GB more."),
    ("Read-only file system|Permission denied", f"The environment cannot be written. {_OTHER_FOLDERS}"),
    (
        "DO NOT MATCH THE HASHES",
        "A downloaded file is not the one that was tested. Try again; if it stays so, ask who runs your package index.",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED|SSLError",
        "The package index's certificate is not trusted. Behind a company proxy, set PIP_CERT to its certificate file.",
    ),
    (
        "Failed to establish|Name or service not known|name resolution|Network is unreachable|Connection refused"
        "|Max retries|ProxyError|timed out",
        "The package index cannot be reached. Connect to the network, set PIP_INDEX_URL or HTTPS_PROXY, or name a "
        "folder with the wheels in PIP_FIND_LINKS.",
    ),
    (
        r"command '\S*(gcc|cc|clang|g\+\+)\S*' failed|Unknown compiler|No such file or directory: '(gcc|cc|clang)'"
        "|Failed to build|Failed building|Rust|Cargo",
        f"A package has no ready-made build for this Python, and it could not be built here. {_OTHER_PYTHON}, "
        "or install compilers (Debian, Ubuntu: apt install build-essential; macOS: xcode-select --install).",
    ),
    ("No matching distribution found", f"A package has no build for this Python and this machine. {_OTHER_PYTHON}."),
)


class SetupError(Exception):
    """Something that the person at the keyboard can mend; the message says how."""


def main(arguments: list[str]) -> int:
    try:
        return run(arguments)
    except SetupError as error:
        sys.stderr.write(f"qexplorer: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nqexplorer: interrupted. The same command goes on from here.\n")
        return 130


def run(arguments: list[str]) -> int:
    if arguments and arguments[0] in {"-h", "--help"}:
        sys.stdout.write(USAGE)
        return 0
    word = "start" if not arguments or arguments[0].startswith("-") else arguments[0]
    rest = arguments if word == "start" and arguments[:1] != ["start"] else arguments[1:]
    home = Path(os.environ.get("QX_VENV") or ROOT / ".venv").absolute()
    if word == "stop" and not is_installed(home, CORE):
        say("Nothing is installed here, so nothing is running.")
        return 0
    for lock in _locks_for(word):
        install(home, lock)
    if word == "install_learning":
        say("The learning stack is installed.")
        return 0
    hand_over(home, word, rest)
    return 0


def _locks_for(word: str) -> tuple[str, ...]:
    return {"test": (CORE, TEST, LEARN), "install_learning": (CORE, LEARN)}.get(word, (CORE,))


def hand_over(home: Path, word: str, rest: list[str]) -> None:
    """Become the command itself. The working folder stays, so that file names given by a person keep their meaning."""
    python = str(home / "bin" / "python")
    environment = os.environ | site_environment()
    if word in OWN_WORDS:
        search = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        command = [python, "-m", "qexplorer_site.cli", word, *rest]
        environment["PYTHONPATH"] = search
    else:
        command = [python, str(ROOT / "manage.py"), word, *rest]
    sys.stdout.flush()
    os.execve(python, command, environment)  # noqa: S606 - the point is to become it, without a shell


def site_environment() -> dict[str, str]:
    """The secrets' places, made once and readable by one user only, unless the operator names others."""
    folder = Path(os.environ.get("QX_VAR_DIR") or ROOT / "var").absolute()
    check_writable(folder)
    added = {}
    for name in ("QX_SECRET_KEY", "QX_PSEUDONYM_SECRET"):
        if name not in os.environ and f"{name}_FILE" not in os.environ:
            path = folder / name.removeprefix("QX_").lower()
            make_secret(path)
            added[f"{name}_FILE"] = str(path)
    return added


def make_secret(path: Path) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_urlsafe(50))


def check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SetupError(f"{folder} cannot be written ({error.strerror}). {_OTHER_FOLDERS}") from error


# --- the environment -------------------------------------------------------------------------------------------------


def is_installed(home: Path, lock: str) -> bool:
    stamp = home / f".installed-{lock}"
    return stamp.exists() and stamp.read_text() == _state(home, lock)


def install(home: Path, lock: str) -> None:
    """Bring `home` to the state of `lock`; nothing is done where the stamp says that it is there. Raises SetupError."""
    if is_installed(home, lock):
        return
    check_writable(home.parent)
    with _alone(home):
        if is_installed(home, lock):  # by the process that was waited for
            return
        marker = home / ".installing"
        if marker.exists():
            say("The last install was interrupted: going on with it.")
            mend(home)
        ensure_pip(home)
        marker.write_text(lock)
        pip_install(home, lock)
        (home / f".installed-{lock}").write_text(_state(home, lock))
        marker.unlink()


def _state(home: Path, lock: str) -> str:
    """What a finished install stands for: the lock file's content and the Python below."""
    settings = home / "pyvenv.cfg"
    below = settings.read_text() if settings.exists() else ""
    version = re.search(r"^version\S* = (\d+\.\d+)", below, re.MULTILINE)
    alive = (home / "bin" / "python").exists()  # False for a link to a Python that was removed
    digest = hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()
    return f"{digest} {version[1] if version else '?'} {alive}\n"


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One install at a time in one environment; the others wait."""
    with (home.parent / f".{home.name.lstrip('.')}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another install is running here: waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def mend(home: Path) -> None:
    """Forget half-unpacked packages, so that pip unpacks them again: the record is what pip writes last."""
    for packages in home.glob("lib/python*/site-packages"):
        for info in packages.glob("*.dist-info"):
            if not (info / "RECORD").exists():
                shutil.rmtree(info)
        for leftover in packages.glob("~*"):
            shutil.rmtree(leftover, ignore_errors=True)


def ensure_pip(home: Path) -> None:
    """Make the environment where there is none that works."""
    python = home / "bin" / "python"
    if python.exists() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0:  # noqa: S603 - our own environment
        return
    say(f"Making {home.name} with Python {platform.python_version()}.")
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    venv.create(home, clear=True, symlinks=True, with_pip=has_ensurepip)
    if not has_ensurepip:
        fetch_pip(python)


def fetch_pip(python: Path) -> None:
    """Install pip from the package index. Debian leaves ensurepip out of its Python unless python3-venv is there."""
    say("This Python has no ensurepip: fetching pip from the package index.")
    with tempfile.TemporaryDirectory() as folder:
        wheel = _local_pip() or _download_pip(Path(folder))
        offline = ["--no-index", "--quiet", "--find-links", str(wheel.parent)]
        command = [str(python), f"{wheel}/pip", "install", *offline, "pip"]
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own environment
    if done.returncode:
        raise SetupError(f"pip could not be installed: {done.stderr.strip().splitlines()[-1:]}")


def _local_pip() -> Path | None:
    """A pip wheel in one of the folders that PIP_FIND_LINKS names."""
    folders = [Path(word) for word in os.environ.get("PIP_FIND_LINKS", "").split() if "://" not in word]
    return next((wheel for folder in folders for wheel in sorted(folder.glob("pip-*-py3-none-any.whl"))), None)


def _download_pip(folder: Path) -> Path:
    """The newest pip wheel of the index's HTML page (mirrors may serve no other form), its digest checked."""
    page_url = f"{_index_url().rstrip('/')}/pip/"
    page = _get(page_url).decode()
    found = re.findall(r'href="([^"]*/)?(pip-(\d+)\.(\d+)(?:\.(\d+))?-py3-none-any\.whl)#sha256=([0-9a-f]{64})"', page)
    if not found:
        raise SetupError(f"The package index offers no pip. Instead, {_VENV_PACKAGE}.")
    place, name, *_version, digest = max(found, key=lambda link: tuple(int(part or 0) for part in link[2:5]))
    content = _get(urllib.parse.urljoin(page_url, f"{place}{name}"))
    if hashlib.sha256(content).hexdigest() != digest:
        raise SetupError("The pip that the package index sent does not have its digest. Try again.")
    wheel = folder / str(name)
    wheel.write_bytes(content)
    return wheel


def _get(url: str) -> bytes:
    if not url.startswith("https://") and not url.startswith("http://"):
        raise SetupError(f"The package index address is not http(s): {urllib.parse.urlsplit(url).scheme}.")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - scheme checked above
            return bytes(answer.read())
    except (urllib.error.URLError, TimeoutError) as error:
        raise SetupError(
            f"The package index cannot be reached ({error}), and this Python has no ensurepip. Connect to the network, "
            f"or {_VENV_PACKAGE}."
        ) from error


def _index_url() -> str:
    """The index that pip itself would use."""
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    settings = configparser.ConfigParser(interpolation=None)
    named = os.environ.get("PIP_CONFIG_FILE")
    places = [Path("/etc/pip.conf"), Path.home() / ".pip/pip.conf", Path.home() / ".config/pip/pip.conf"]
    settings.read([*places, *([named] if named else [])])
    return settings.get("global", "index-url", fallback="https://pypi.org/simple/")


# --- packages --------------------------------------------------------------------------------------------------------


def pip_install(home: Path, lock: str) -> None:
    """Install `lock` with pip, so that the user's index, proxy and certificates are used. Raises SetupError."""
    names = re.findall(r"^[A-Za-z0-9][^=\s]*(?===)", (ROOT / lock).read_text(), re.MULTILINE)
    say(_announcement(lock, len(names)))
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--prefer-binary", "-r", str(ROOT / lock)]
    output: list[str] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")  # noqa: S603 - our own environment
    assert process.stdout is not None  # noqa: S101 - asked for above
    with (home / "install.log").open("w") as log:
        for line in process.stdout:
            log.write(line)
            output.append(line)
            show_progress(line, output, len(names))
    if process.wait():
        raise SetupError(f"{explain(output)} All that pip said is in {home / 'install.log'}.")


def _announcement(lock: str, count: int) -> str:
    if lock != LEARN:
        return f"Installing {count} packages ({lock})."
    return (
        "Installing the learning stack (1 to 5 GB); the pages work meanwhile. Without a graphics card, PyTorch's CPU "
        "index in PIP_EXTRA_INDEX_URL makes it much smaller; --light leaves it out."
    )


def show_progress(line: str, output: list[str], count: int) -> None:
    """One line a package on a terminal, in place; big downloads and the last step always."""
    words = line.split()
    if line.startswith("Collecting "):
        step = sum(earlier.startswith("Collecting ") for earlier in output)
        if sys.stdout.isatty():
            sys.stdout.write(f"\r\033[K  {min(step, count)} of {count}: {words[1]}")
            sys.stdout.flush()
    elif words[:1] == ["Downloading"] and re.search(r"\([\d.]+ GB\)|\(\d{3,}\.\d MB\)", line):
        say(f"{_fresh_line()}  downloading {Path(words[1]).name.partition('-')[0]} {' '.join(words[2:])}")
    elif line.startswith("Installing collected packages"):
        say(f"{_fresh_line()}  unpacking")


def _fresh_line() -> str:
    return "\r\033[K" if sys.stdout.isatty() else ""


def explain(output: list[str]) -> str:
    """The reason of a failed install in a sentence, else pip's own last word."""
    text = "".join(output)
    for pattern, sentence in _REASONS:
        if re.search(pattern, text):
            return sentence
    errors = [line.strip() for line in output if line.startswith("ERROR")]
    return f"pip failed: {errors[-1] if errors else 'it gave no reason'}."


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

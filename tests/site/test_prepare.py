from pathlib import Path

import pytest
from django.contrib.auth.models import User

from extraction.errors import IndexMissing, SearchUnavailable
from qexplorer_site import prepare

pytestmark = pytest.mark.django_db


class Engine:
    """An engine whose index is not there, or which does not answer."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @property
    def generation(self) -> str:
        raise self.error


def test_first_login_is_printed_once(capsys):
    prepare.make_first_login()
    said = capsys.readouterr().out
    user = User.objects.get()
    assert user.is_superuser
    assert user.check_password(said.split(" / ")[1].split()[0])
    prepare.make_first_login()
    assert not capsys.readouterr().out
    assert User.objects.count() == 1


def test_site_with_logins_gets_none(auditor, capsys):
    prepare.make_first_login()
    assert list(User.objects.all()) == [auditor]


def test_static_files_are_collected_again_only_when_one_changed(settings, tmp_path, monkeypatch):
    runs = []
    settings.STATIC_ROOT = tmp_path
    monkeypatch.setattr(prepare, "call_command", lambda name, **options: runs.append(name))
    monkeypatch.setattr(prepare, "_static_files", lambda: ["a.css 1 1"])
    prepare.collect_static()
    prepare.collect_static()
    assert runs == ["collectstatic"]
    monkeypatch.setattr(prepare, "_static_files", lambda: ["a.css 1 2"])
    prepare.collect_static()
    assert runs == ["collectstatic", "collectstatic"]


def test_every_static_file_counts():
    names = {Path(line.split()[0]).name for line in prepare._static_files()}
    assert "base.css" in names


def test_missing_index_is_built(monkeypatch):
    built = []
    monkeypatch.setattr("extraction.search.get_engine", lambda: Engine(IndexMissing("none")))
    monkeypatch.setattr("audit.indexing.rebuild", lambda: built.append(True))
    prepare.build_missing_index()
    assert built


def test_silent_engine_stops_no_start(monkeypatch, capsys):
    monkeypatch.setattr("extraction.search.get_engine", lambda: Engine(SearchUnavailable("refused")))
    prepare.build_missing_index()
    assert "does not answer yet" in capsys.readouterr().err


def test_finished_demo_is_not_loaded_again(monkeypatch):
    for step in ("migrate", "collect_static", "build_missing_index"):
        monkeypatch.setattr(prepare, step, lambda: None)
    assert prepare.prepare_site(first_login=False) == 0
    monkeypatch.setattr("audit.demo.load.is_complete", lambda: True)
    assert prepare.prepare_site(first_login=False) == prepare.DEMO_IS_LOADED

"""Strict readers: a wrong word stops the start and names the variable."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from qexplorer_site.env import database_from_url, env_bool, env_float, env_int, env_json, env_list, env_str


@pytest.mark.parametrize(("word", "value"), [("1", True), ("yes", True), ("OFF", False), ("", False)])
def test_bool_knows_its_words(monkeypatch, word, value):
    monkeypatch.setenv("QX_X", word)
    assert env_bool("QX_X", default=True) is value


@pytest.mark.parametrize(
    ("reader", "word"),
    [
        (lambda: env_bool("QX_X", default=True), "maybe"),
        (lambda: env_int("QX_X", 1, low=0, high=9), "ten"),
        (lambda: env_int("QX_X", 1, low=0, high=9), "10"),
        (lambda: env_float("QX_X", 1, low=0, high=9), "-0.5"),
        (lambda: env_json("QX_X"), "[1]"),
        (lambda: env_json("QX_X"), "{"),
    ],
)
def test_wrong_word_names_the_variable(monkeypatch, reader, word):
    monkeypatch.setenv("QX_X", word)
    with pytest.raises(ImproperlyConfigured, match="QX_X"):
        reader()


def test_list_drops_empty_parts(monkeypatch):
    monkeypatch.setenv("QX_X", " a, ,b,")
    assert env_list("QX_X") == ["a", "b"]


def test_secret_comes_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("hush\n")
    monkeypatch.setenv("QX_X_FILE", str(tmp_path / "secret"))
    assert env_str("QX_X") == "hush"


def test_unreadable_secret_file_names_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("QX_X_FILE", str(tmp_path / "nothing"))
    with pytest.raises(ImproperlyConfigured, match="QX_X_FILE"):
        env_str("QX_X")


def test_database_address_keeps_escaped_characters():
    values = database_from_url("DATABASE_URL", "postgresql://us%40er:p%2Fw@db.example.org:6432/qx?sslmode=require")
    assert (values["USER"], values["PASSWORD"], values["HOST"], values["PORT"]) == (
        "us@er",
        "p/w",
        "db.example.org",
        "6432",
    )
    assert values["OPTIONS"] == {"sslmode": "require"}


def test_database_address_may_be_a_socket():
    assert database_from_url("DATABASE_URL", "postgresql:///qx?host=%2Frun%2Fpg")["HOST"] == "/run/pg"


def test_other_databases_are_refused():
    with pytest.raises(ImproperlyConfigured, match="postgresql://"):
        database_from_url("DATABASE_URL", "mysql://localhost/qx")

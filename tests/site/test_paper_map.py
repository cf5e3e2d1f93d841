"""docs/paper.md leads to code and tests that exist."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
CODE = sorted(set(re.findall(r"`((?:audit|extraction|training)\.[\w.]+\w)`", PAGE)))
PATHS = sorted(set(re.findall(r"`((?:audit|extraction|training|tests)/[\w/.*-]+)`", PAGE)))
FILES = sorted(set(re.findall(r"`(test_\w+\.py)`", PAGE)))
TESTS = sorted(set(re.findall(r"`(test_\w+)`", PAGE)))


@pytest.mark.parametrize("name", CODE)
def test_function_is_there(name):
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return
    pytest.fail(f"{name} cannot be imported.")


@pytest.mark.parametrize("path", PATHS)
def test_path_is_there(path):
    assert list(ROOT.glob(path.rstrip("/")))


@pytest.mark.parametrize("name", FILES)
def test_test_file_is_there(name):
    assert list((ROOT / "tests").rglob(name))


def test_named_tests_are_there():
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in TESTS if f"def {name}(" not in code] == []


def test_page_names_something():
    assert CODE
    assert PATHS
    assert TESTS

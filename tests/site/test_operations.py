"""docs/operations.md names every setting that the code reads, and no other."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(r"\b(QX_[A-Z_]+[A-Z]|DATABASE_URL|REDIS_URL|ELASTICSEARCH_[A-Z_]+[A-Z])\b")
READERS = [ROOT / "qexplorer", *(ROOT / "tests").glob("*.py"), *(ROOT / "qexplorer_site").glob("*.py")]


def names_in(text: str) -> set[str]:
    return {name.removesuffix("_FILE") for name in NAME.findall(text)}


def test_every_setting_is_described():
    read = set().union(*(names_in(path.read_text()) for path in READERS))
    described = names_in((ROOT / "docs" / "operations.md").read_text())
    assert read - described == set()
    assert described - read == set()

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings


@pytest.fixture
def engine_file(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """A search index of this test's own; the first item that is put makes it."""
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"
    yield settings.SEARCH_FILE

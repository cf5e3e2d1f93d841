from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from audit.models import SiteSettings


@pytest.fixture
def engine_file(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """A search index of this test's own; the first item that is put makes it."""
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"
    yield settings.SEARCH_FILE


@pytest.fixture(autouse=True)
def _visible_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every claim is of the arm `visible` unless a test sets the share: the draw goes by the number of the report, and
    PostgreSQL's numbers differ from run to run.
    """
    share = SiteSettings._meta.get_field("own_first_share")
    monkeypatch.setitem(share.__dict__, "_get_default", lambda: 0.0)

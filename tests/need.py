"""What a test needs from the machine. A missing part is a skip with its reason, and a failure under CI=true."""

import os
import shutil
import sys
from pathlib import Path

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_MAC_BROWSERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def missing(reason: str, *, required_in_ci: bool = True) -> None:
    """Skip this test with `reason`; fail it under CI=true where CI is required to have the part."""
    if required_in_ci and os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"needed under CI=true: {reason}", pytrace=False)
    pytest.skip(reason)


def find_chromium() -> str | None:
    """Path of a Chromium: QX_TEST_CHROMIUM, one on PATH, a Mac's, or one that Playwright installed."""
    if path := os.environ.get("QX_TEST_CHROMIUM"):
        return path
    for name in _BROWSERS:
        if path := shutil.which(name):
            return path
    for path in _MAC_BROWSERS:
        if Path(path).exists():
            return path
    cache = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "ms-playwright"
    found = sorted(cache.glob("chromium*/chrome-*/*chrom*"))
    return next((str(path) for path in reversed(found) if os.access(path, os.X_OK) and path.is_file()), None)

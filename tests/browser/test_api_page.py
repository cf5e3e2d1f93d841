"""The API's own page in a real browser, under the site's content security policy."""

from typing import Any

import pytest
from playwright.sync_api import sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_api_page_works_under_the_strict_policy(live_server: Any, chromium: str) -> None:
    refused: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
        response = page.goto(f"{live_server.url}/api/v1/")
        assert response is not None
        assert "'unsafe-inline'" not in response.headers["content-security-policy"]
        page.locator(".opblock-summary-path", has_text="/api/v1/verdicts").first.wait_for(timeout=15_000)
        calls = page.locator(".opblock").count()
        browser.close()
    assert calls == 4
    assert refused == []

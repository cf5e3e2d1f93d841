"""A live server and a headless Chromium. The engine, the queue server and the database are the real embedded ones."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from audit.models import Item, Report, SiteSettings
from tests.audit.loop import index
from tests.factories import make_item, make_policy, make_report, make_suggestion
from tests.queues import empty_queues

# Playwright's sync API keeps an event loop in this thread; the ORM is still called from plain functions only.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPORTED = "各类学历证书代做，毕业征 学位征 均可，钢印水印齐全，先看样后付款"
OTHERS = [
    "海外毕业征，钢印水印齐全，支持面交验货",
    "本科毕业征可做任意年份，先看样后付款",
    "毕业征丢了怎么补？分享我补办的全过程",
    "钢印水印齐全，七天寄到",
    "周末骑行约伴，费用自理",
]


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_browser(browser: Browser, live_server: LiveServer, password: str) -> Iterator[Callable[..., Page]]:
    """`open_browser(auditor, java_script_enabled=False)`: a page of that person's, signed in by the form."""
    contexts: list[BrowserContext] = []
    broken: list[str] = []

    def sign_in(user: User, **options: Any) -> Page:
        context = browser.new_context(base_url=live_server.url, **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.on("console", lambda line: broken.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto("/login/")
        page.wait_for_selector("input[name=username]:focus")
        page.keyboard.type(user.username)
        page.keyboard.press("Tab")
        page.wait_for_selector("input[name=password]:focus")
        page.keyboard.type(password)
        page.keyboard.press("Enter")
        page.wait_for_url("**/queue/")
        return page

    yield sign_in
    for context in contexts:
        context.close()
    assert broken == []


@pytest.fixture
def engine(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An index and queues of this test's own."""
    settings.SEARCH_FILE = tmp_path_factory.mktemp("search") / "search.sqlite3"
    empty_queues()
    yield
    empty_queues()


@pytest.fixture
def report(transactional_db: None, engine: None) -> Report:
    """A report that is due first, with three suggestions, and a small collection to find more in."""
    SiteSettings.objects.update_or_create(pk=1, defaults={"own_first_share": 0})
    policy = make_policy("forged", name="Forged documents")
    make_policy("swap", name="Contact swap")
    reported = make_item(REPORTED)
    others = [make_item(text, risk=0.9 - 0.1 * place) for place, text in enumerate(OTHERS)]
    index([reported, *others])
    report = make_report(item=reported, policy=policy, complaint_count=3)
    for phrase in ("毕业征", "学位征", "钢印水印齐全"):
        start = REPORTED.find(phrase)
        make_suggestion(phrase, report=report, span_start=start, span_end=start + len(phrase))
    make_report(text="手机就能做的兼职，先交押金", policy=policy, due=report.due.replace(year=report.due.year + 1))
    return report


def item_of(text: str) -> Item:
    return Item.objects.get(text__text=text)

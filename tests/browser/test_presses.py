"""No press is lost: fast typing, a lost connection, a lost race, a marked phrase, keys switched off."""

import uuid
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, Route, expect

from audit.models import Decision, Exploration, Judgment, Report, UserPreferences, Verdict
from audit.services import claim, judge_report
from tests.audit.loop import explored, exposures_of
from tests.browser.conftest import REPORTED
from tests.factories import make_judgment

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def confirmed(report: Report, auditor: User) -> Report:
    """The report, held by the auditor and judged toxic."""
    claim(report=report, user=auditor, key=uuid.uuid4())
    judge_report(report=report, user=auditor, verdict=Verdict.TOXIC, policy=report.policy, key=uuid.uuid4())
    report.refresh_from_db()
    return report


@pytest.fixture
def exploration(confirmed: Report, auditor: User) -> Exploration:
    """Run, and its first page open."""
    return explored(confirmed, auditor, "毕业征", "钢印水印齐全")


def test_fast_presses_are_all_saved_before_the_page_is_left(
    exploration: Exploration, auditor: User, open_browser: Callable[..., Page]
) -> None:
    page = open_browser(auditor)
    page.goto(f"/explorations/{exploration.public_id}/")
    expect(page.locator(".result[aria-current]")).to_have_id("exposure-1")
    for key in "tnt":
        page.keyboard.press(key)
    page.get_by_role("link", name="My history").click()
    expect(page.locator("h1")).to_have_text("My history")
    saved = Judgment.objects.filter(exposure__isnull=False).order_by("exposure__position")
    assert [judgment.verdict for judgment in saved] == ["toxic", "normal", "toxic"]


def test_a_verdict_pressed_without_connection_is_sent_when_it_is_back(
    exploration: Exploration, auditor: User, open_browser: Callable[..., Page]
) -> None:
    page = open_browser(auditor)
    page.goto(f"/explorations/{exploration.public_id}/")
    expect(page.locator(".result[aria-current]")).to_have_id("exposure-1")

    def cut(route: Route) -> None:
        route.abort("connectionfailed")

    page.route("**/judge/", cut)
    page.keyboard.press("t")
    expect(page.locator("#offline")).to_contain_text("No connection")
    expect(page.locator(".result[aria-current]")).to_have_id("exposure-2")
    assert not Judgment.objects.filter(exposure__isnull=False).exists()
    page.unroute("**/judge/", cut)
    expect(page.locator("#exposure-1[data-verdict=toxic]")).to_have_count(1, timeout=15_000)
    expect(page.locator("#offline")).to_be_empty()
    assert Judgment.objects.filter(exposure__isnull=False).count() == 1


def test_a_lost_race_brings_the_cursor_back_to_its_row(
    exploration: Exploration, auditor: User, second_auditor: User, open_browser: Callable[..., Page]
) -> None:
    page = open_browser(auditor)
    page.goto(f"/explorations/{exploration.public_id}/")
    expect(page.locator(".result[aria-current]")).to_have_id("exposure-1")
    make_judgment(exposure=exposures_of(exploration)[0], user=second_auditor, verdict="normal")
    page.keyboard.press("t")
    row = page.locator("#exposure-1")
    expect(row.get_by_role("alert")).to_contain_text("judged meanwhile")
    expect(row).to_contain_text("second_auditor judged it normal")
    expect(row).to_be_focused()


def test_a_phrase_marked_with_the_pointer_becomes_a_query(
    confirmed: Report, auditor: User, open_browser: Callable[..., Page]
) -> None:
    page = open_browser(auditor)
    page.goto(f"/reports/{confirmed.public_id}/")
    # 先看样后付款 stands last, behind three phrases that are marked already.
    page.evaluate(
        """() => {
            const texts = [...document.querySelector("#report-text .item-text").childNodes];
            const last = texts.at(-1);
            getSelection().setBaseAndExtent(last, last.length - 6, last, last.length);
        }"""
    )
    expect(page.locator("#selection .phrase")).to_have_text("先看样后付款")
    page.keyboard.press("q")
    expect(page.locator(".query[data-state=own] .phrase")).to_have_text("先看样后付款")
    expect(page.locator("#selection")).to_be_empty()
    decision = Decision.objects.get(kind="own")
    assert (decision.span_start, decision.span_end) == (REPORTED.find("先看样后付款"), len(REPORTED))


def test_working_renews_the_lease_and_only_working(
    confirmed: Report, auditor: User, open_browser: Callable[..., Page]
) -> None:
    page = open_browser(auditor)
    beats: list[str] = []
    page.on("request", lambda request: beats.append(request.url) if request.url.endswith("/heartbeat/") else None)
    page.clock.install()
    page.goto(f"/reports/{confirmed.public_id}/")
    page.clock.fast_forward(90_000)
    assert not beats
    with page.expect_response("**/heartbeat/"):
        page.keyboard.press("j")
    page.keyboard.press("k")
    assert len(beats) == 1


def test_letters_do_nothing_where_the_account_switched_them_off(
    confirmed: Report, auditor: User, open_browser: Callable[..., Page]
) -> None:
    UserPreferences.objects.create(user=auditor, letter_keys=False)
    page = open_browser(auditor)
    page.goto(f"/reports/{confirmed.public_id}/")
    page.keyboard.press("a")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".query[aria-current] .phrase")).to_have_text("学位征")
    assert not Decision.objects.exists()


def test_letters_typed_into_a_field_are_text(
    confirmed: Report, auditor: User, open_browser: Callable[..., Page]
) -> None:
    page = open_browser(auditor)
    page.goto(f"/reports/{confirmed.public_id}/")
    page.keyboard.press("q")
    page.keyboard.type("axr")
    expect(page.locator("#own-text")).to_have_value("axr")
    page.keyboard.press("Escape")
    expect(page.locator("#own-text")).not_to_be_focused()
    assert not Decision.objects.exists()


def test_the_keys_are_shown_and_closed_by_keyboard(auditor: User, open_browser: Callable[..., Page]) -> None:
    page = open_browser(auditor)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("take the next report")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("width", [320, 390, 1024, 1440])
def test_nothing_is_wider_than_the_window(
    exploration: Exploration, confirmed: Report, auditor: User, open_browser: Callable[..., Page], width: int
) -> None:
    page = open_browser(auditor, viewport={"width": width, "height": 800})
    for address in (
        "/queue/",
        f"/reports/{confirmed.public_id}/",
        f"/explorations/{exploration.public_id}/",
        "/history/",
    ):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (address, width)

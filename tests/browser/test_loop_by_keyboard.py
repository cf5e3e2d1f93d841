"""The whole loop without a pointer: sign in, claim, judge, decide, mark, run, judge results, undo, finish."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from audit.models import Decision, ItemState, Judgment, Outcome, Report, ReportStatus
from extraction.search import SearchRequest, get_engine
from extraction.text import MatchMode
from tests.browser.conftest import OTHERS, item_of
from tests.queues import work_off

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_whole_loop_works_by_keyboard_alone(
    report: Report, auditor: User, open_browser: Callable[..., Page]
) -> None:
    page = open_browser(auditor)
    keys = page.keyboard

    # The queue: claim the current row, open it.
    keys.press("c")
    expect(page.locator("tr[data-claim=mine]")).to_have_count(1)
    keys.press("Enter")
    expect(page.locator("h1")).to_have_text(f"Report {report.number}")

    # The reported text is judged first; only then the queries open.
    expect(page.locator(".query")).to_have_count(0)
    keys.press("t")
    expect(page.locator(".query")).to_have_count(3)
    work_off("explore")  # the reported item leaves the index

    # Accept the first, edit the second, reject the third: the cursor goes on by itself.
    keys.press("a")
    expect(page.locator(".query[data-state=accepted]")).to_have_count(1)
    expect(page.locator(".query[aria-current] .phrase")).to_have_text("学位征")
    keys.press("e")
    expect(page.locator(".query__edit input[type=text]")).to_be_focused()
    keys.press("End")
    keys.type(" 均可")
    keys.press("Enter")
    expect(page.locator(".query[data-state=edited] .phrase")).to_have_text("学位征 均可")
    keys.press("x")
    expect(page.locator(".query[data-state=rejected]")).to_have_count(1)

    # The rejection was a mistake: Z takes it back, A accepts it.
    keys.press("z")
    expect(page.locator(".query[data-state=rejected]")).to_have_count(0)
    expect(page.locator(".query[aria-current] .phrase")).to_have_text("钢印水印齐全")
    keys.press("a")
    expect(page.locator(".query[data-state=accepted]")).to_have_count(2)

    # A query of one's own, typed.
    keys.press("q")
    keys.type("先看样后付款")
    expect(page.locator("#own-forecast")).to_contain_text("1 result")
    keys.press("Enter")
    expect(page.locator(".query[data-state=own]")).to_have_count(1)
    expect(page.locator("#tray")).to_contain_text("4 queries to run")

    # Run; the results open by themselves when the worker is done.
    keys.press("r")
    expect(page.locator("#results-part")).to_contain_text("0 of 4 queries have run")
    assert work_off("explore")
    expect(page.locator(".result")).to_have_count(4)
    expect(page.locator(".result mark").first).to_be_visible()
    expect(page.locator(".result[aria-current]")).to_have_id("exposure-1")

    # Judge: each key saves and goes on; the last verdict leads to Done.
    for key in "ttnu":
        row = page.locator(".result[aria-current]").get_attribute("id")
        keys.press(key)
        expect(page.locator(f"#{row}[data-verdict]")).to_have_count(1)
    expect(page.locator("#progress")).to_contain_text("4 of 4 judged: 2 toxic, 1 normal, 1 can't tell")
    expect(page.get_by_role("button", name="Done, next report")).to_be_focused()

    # Undo the last verdict and judge anew.
    keys.press("z")
    expect(page.locator("#exposure-4[data-verdict]")).to_have_count(0)
    keys.press("n")
    expect(page.locator("#exposure-4[data-verdict=normal]")).to_have_count(1)

    # Done: the report is closed and the next one is open.
    keys.press("d")
    expect(page.locator("h1")).not_to_have_text(f"Report {report.number}")
    expect(page.locator("#lease")).to_contain_text("Yours")

    report.refresh_from_db()
    assert (report.status, report.outcome) == (ReportStatus.CLOSED, Outcome.CONFIRMED)
    assert item_of(OTHERS[0]).state == ItemState.REMOVED
    assert Decision.objects.standing().filter(report=report).count() == 4
    assert Judgment.objects.standing().filter(exposure__isnull=False, duration_ms__isnull=False).count() == 4
    work_off("explore", "default")
    page_of_engine = get_engine().search(SearchRequest(text="毕业征", mode=MatchMode.PHRASE))
    assert item_of(OTHERS[0]).pk not in {hit.id for hit in page_of_engine.hits}

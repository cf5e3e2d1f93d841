"""The whole loop with JavaScript turned off: plain forms and links do everything."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from audit.models import ItemState, Outcome, Removal, Report, ReportStatus
from tests.browser.conftest import OTHERS, item_of
from tests.queues import work_off

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_whole_loop_works_without_script(report: Report, auditor: User, open_browser: Callable[..., Page]) -> None:
    page = open_browser(auditor, java_script_enabled=False)
    page.get_by_role("button", name="Take the next report").click()
    expect(page.locator("h1")).to_have_text(f"Report {report.number}")
    page.get_by_role("button", name="Toxic").click()
    rows = page.locator(".query")
    expect(rows).to_have_count(3)
    work_off("explore")  # the reported item leaves the index

    # Accept, edit with a refusal on the way, reject, take back.
    rows.nth(0).get_by_role("button", name="Accept").click()
    expect(page.locator(".query[data-state=accepted]")).to_have_count(1)
    rows.nth(1).get_by_role("link", name="Edit").click()
    page.locator(".query__edit input[type=text]").fill("征")
    page.get_by_role("button", name="Save and accept").click()
    expect(page.locator("main [role=alert]").first).to_contain_text("Too short")
    page.locator(".query__edit input[type=text]").fill("学位征 均可")
    page.get_by_role("button", name="Save and accept").click()
    expect(page.locator(".query[data-state=edited]")).to_have_count(1)
    rows.nth(2).get_by_role("button", name="Reject").click()
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator(".query[data-state=pending]")).to_have_count(1)

    # A query of one's own, then run.
    page.locator("#own-text").fill("先看样后付款")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".query[data-state=own]")).to_have_count(1)
    page.get_by_role("button", name="Run exploration").click()
    expect(page.locator("#results-part")).to_contain_text("0 of 3 queries have run")
    assert work_off("explore")
    page.get_by_role("link", name="Look again").click()

    # Opening the results is a form of its own, since it is logged.
    page.get_by_role("button", name="Show the results").click()
    expect(page.locator(".result")).to_have_count(3)
    for place, verdict in enumerate(["Toxic", "Normal", "Can't tell"]):
        page.locator(".result").nth(place).get_by_role("button", name=verdict).click()
    expect(page.locator("#progress")).to_contain_text("3 of 3 judged: 1 toxic, 1 normal, 1 can't tell")
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(page.locator("#progress")).to_contain_text("2 of 3 judged")
    assert item_of(OTHERS[0]).state == ItemState.REMOVED

    # The toxic item is brought back, with a reason.
    page.locator(".result").nth(0).get_by_role("link", name="item").click()
    page.get_by_role("button", name="Reinstate").click()
    expect(page.locator("#reason-wrong")).to_be_visible()
    page.get_by_label("Reason").fill("The seller has a licence.")
    page.get_by_role("button", name="Reinstate").click()
    expect(page.locator(".facts").first).to_contain_text("live")
    assert Removal.objects.count() == 3  # the reported item, this one, and its return

    # The history lists it all; the report is finished from its own page.
    page.get_by_role("link", name="My history").click()
    expect(page.locator(".grid--log tbody tr")).to_have_count(9)
    page.goto(f"/reports/{report.public_id}/")
    page.get_by_role("button", name="Done, next report").click()
    expect(page.locator("h1")).not_to_have_text(f"Report {report.number}")
    report.refresh_from_db()
    assert (report.status, report.outcome) == (ReportStatus.CLOSED, Outcome.CONFIRMED)

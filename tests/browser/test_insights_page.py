"""The page Insights in a browser: filters by keyboard alone, with and without script, and narrow windows."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from audit.insights import roll_up
from tests.audit.insights_log import accepted, confirmed, explored, items, judge, own
from tests.factories import make_policy

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def worked(auditor, engine):
    at = timezone.now() - timedelta(days=9)
    policy = make_policy("forged", name="Forged documents")
    report = confirmed(auditor, at, policy=policy)
    made = [own(report, auditor, f"own {n}") for n in range(11)] + [
        accepted(report, auditor, f"a {n}") for n in range(11)
    ]
    found = items(14)
    explored(made, {"own 0": found[:11], "a 0": found[5:]})
    for item in found:
        judge(item, policy, auditor, "toxic", at + timedelta(hours=1))
    make_policy("jobs", name="Fake jobs")
    roll_up()


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_the_filters_work_by_keyboard_alone(open_browser, auditor, worked, script):
    page = open_browser(auditor, java_script_enabled=script)
    page.goto("/insights/")
    expect(page.locator("h1")).to_have_text("Insights")
    expect(page.locator(".chart__plot")).to_have_count(2)
    page.locator("#id_policy").focus()
    page.keyboard.type("Fake")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Apply")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**policy=jobs**")
    expect(page.locator(".empty")).to_contain_text("under these filters")


def test_tables_scroll_in_named_regions_and_the_page_stays_as_wide_as_the_window(open_browser, auditor, worked):
    page = open_browser(auditor, viewport={"width": 320, "height": 700})
    page.goto("/insights/")
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    expect(page.locator(".scroll")).to_have_count(6)
    expect(page.locator(".scroll[role=region][tabindex='0']:is([aria-label], [aria-labelledby])")).to_have_count(6)

"""The page Insights on a site that counted nothing yet: who reads it, and what it says."""

import pytest
from django.urls import reverse

from tests.audit.insights_log import english_in

pytestmark = pytest.mark.django_db


def read(client):
    response = client.get(reverse("audit:insights"))
    assert response.status_code == 200
    return response.content.decode()


def test_before_the_first_count_it_says_what_makes_one(researcher, login):
    markup = read(login(researcher))
    assert "Nothing was counted yet." in markup
    assert "compute_insights" in markup


def test_the_definitions_stand_beside_it(auditor, login):
    markup = login(auditor).get(reverse("audit:insights-definitions")).content.decode()
    for words in ("Wilson", "Detection increment", "Unjudged", "five minutes"):
        assert words in markup, words


@pytest.mark.parametrize("role", ["auditor", "researcher", "admin"])
def test_who_reads_it_finds_it_in_the_menu(role, request, login):
    markup = read(login(request.getfixturevalue(role)))
    assert f'<a href="{reverse("audit:insights")}" aria-current="page">' in markup


def test_a_stranger_does_not(stranger, login):
    assert login(stranger).get(reverse("audit:insights")).status_code == 403


def test_in_chinese_nothing_stays_english(researcher, login):
    client = login(researcher)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = "zh-hans"
    assert "还没有统计" in read(client)
    assert english_in(client.get(reverse("audit:insights-definitions"))) == {
        *("mixed", "none", "alpha", "Wilson", "Krippendorff"),
    }

import pytest
from django.conf import settings
from django.contrib.staticfiles.finders import find

pytestmark = pytest.mark.django_db


def policy_of(response) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in response["Content-Security-Policy"].split(";"))
    return {name: values for name, _, values in parts}


@pytest.mark.parametrize("path", ["/login/", "/admin/login/", "/nowhere/"])
def test_content_policy_allows_no_inline_code_and_no_foreign_host(client, path):
    policy = policy_of(client.get(path))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"


def test_login_attempts_are_limited(client, auditor, password):
    for _ in range(settings.AXES_FAILURE_LIMIT):
        client.post("/login/", {"username": auditor.username, "password": "wrong"})
    response = client.post("/login/", {"username": auditor.username, "password": password})
    assert response.status_code == 429
    assert "_auth_user_id" not in client.session


def test_cookies_are_out_of_reach_of_scripts(client, auditor, password):
    client.post("/login/", {"username": auditor.username, "password": password})
    cookie = client.cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"


def test_htmx_comes_from_this_site():
    assert find("django_htmx/htmx-2.min.js") or find("django_htmx/htmx.min.js")

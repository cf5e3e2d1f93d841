"""Signing in, preferences, keys, and the pages of errors."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django.fixtures import Settings

from audit.models import UserPreferences


def sign_in(client: Client, name: str, password: str, **extra: str) -> object:
    return client.post("/login/", {"username": name, "password": password} | extra)


def test_an_auditor_lands_in_the_queue(client: Client, auditor: User, password: str) -> None:
    response = client.post("/login/", {"username": auditor.username, "password": password}, follow=True)
    assert response.redirect_chain[-1][0] == reverse("audit:queue")


def test_a_researcher_lands_at_the_exports(client: Client, researcher: User, password: str) -> None:
    response = client.post("/login/", {"username": researcher.username, "password": password}, follow=True)
    assert response.redirect_chain[-1][0] == reverse("audit:exports")


def test_an_account_without_a_role_is_told_so(client: Client, stranger: User, password: str) -> None:
    response = client.post("/login/", {"username": stranger.username, "password": password}, follow=True)
    assert response.status_code == 403
    assert b"This page is not for your role" in response.content


def test_a_wrong_password_says_so_and_keeps_the_name(client: Client, auditor: User) -> None:
    response = client.post("/login/", {"username": auditor.username, "password": "wrong"})
    assert response.status_code == 200
    assert b'role="alert"' in response.content
    assert b'value="auditor"' in response.content


def test_attempts_are_limited(client: Client, auditor: User, password: str, settings: Settings) -> None:
    settings.AXES_FAILURE_LIMIT = 3
    for _attempt in range(3):
        client.post("/login/", {"username": auditor.username, "password": "wrong"})
    response = client.post("/login/", {"username": auditor.username, "password": password})
    assert response.status_code == 429
    assert b"Too many attempts" in response.content


def test_signing_in_leads_on_to_no_other_site(client: Client, auditor: User, password: str) -> None:
    data = {"username": auditor.username, "password": password, "next": "https://elsewhere.example/"}
    assert client.post("/login/", data)["Location"] == reverse("audit:home")


def test_preferences_are_kept_with_the_account(auditor: User, login: Callable[[User], Client]) -> None:
    client = login(auditor)
    data = {"theme": "dark", "text_size": "large", "back": "/history/?what=judgments"}
    response = client.post(reverse("audit:preferences"), data)
    assert (response.status_code, response["Location"]) == (303, "/history/?what=judgments")
    saved = UserPreferences.objects.get(user=auditor)
    assert (saved.theme, saved.text_size, saved.letter_keys) == ("dark", "large", False)
    markup = client.get(reverse("audit:queue")).content.decode()
    assert 'data-theme="dark" data-text="large" data-keys="off"' in markup


def test_preferences_lead_back_to_no_other_site(auditor: User, login: Callable[[User], Client]) -> None:
    data = {"theme": "dark", "text_size": "large", "back": "https://elsewhere.example/"}
    assert login(auditor).post(reverse("audit:preferences"), data)["Location"] == reverse("audit:home")


def test_preferences_that_do_not_exist_are_refused(auditor: User, login: Callable[[User], Client]) -> None:
    response = login(auditor).post(reverse("audit:preferences"), {"theme": "neon", "text_size": "large"})
    assert response.status_code == 422
    assert not UserPreferences.objects.exists()


def test_the_keys_are_a_sheet_or_a_page(auditor: User, login: Callable[[User], Client]) -> None:
    client = login(auditor)
    assert b"<html" in client.get(reverse("audit:keys")).content
    assert b"<html" not in client.get(reverse("audit:keys"), headers={"HX-Request": "true"}).content


def test_a_wrong_address_is_a_page_of_ours(client: Client, db: None) -> None:
    response = client.get("/no/such/page/")
    assert response.status_code == 404
    assert b"There is nothing here" in response.content


def test_an_error_of_ours_is_a_page_of_ours(
    auditor: User, login: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr("audit.views.queue.queue_context", fail)
    client = login(auditor)
    client.raise_request_exception = False
    response = client.get(reverse("audit:queue"))
    assert response.status_code == 500
    assert b"Something broke" in response.content


@pytest.mark.parametrize("name", ["audit:queue", "audit:history", "audit:keys"])
def test_no_page_needs_an_inline_script_or_style(auditor: User, login: Callable[[User], Client], name: str) -> None:
    response = login(auditor).get(reverse(name))
    markup = response.content.decode()
    assert "unsafe-inline" not in response["Content-Security-Policy"]
    assert "<style" not in markup
    assert " style=" not in markup
    assert " onclick=" not in markup
    assert all("src=" in tag for tag in markup.split("<script")[1:])

"""Every address of the auditors' pages, for every role: who gets in, who is refused, and that nothing else exists."""

import uuid
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from audit import urls
from audit.models import Export
from tests.factories import (
    make_claimed_report,
    make_decision,
    make_exploration,
    make_exposure,
    make_judgment,
    make_pool_item,
    make_run,
    make_suggestion,
)
from training import urls as learning_urls

WORK = {"auditor", "admin"}
EXPORT = {"researcher", "admin"}
READ = {"auditor", "researcher", "admin"}
EVERYONE = {"auditor", "admin", "researcher", "stranger"}
ROLES = ["auditor", "admin", "researcher", "stranger"]

# name of the address: (method, who may)
ROUTES: dict[str, tuple[str, set[str]]] = {
    "home": ("get", EVERYONE),
    "preferences": ("post", EVERYONE),
    "keys": ("get", EVERYONE),
    "queue": ("get", WORK),
    "newer": ("get", WORK),
    "take-next": ("post", WORK),
    "report": ("get", WORK),
    "claim": ("post", WORK),
    "release": ("post", WORK),
    "lease": ("get", WORK),
    "heartbeat": ("post", WORK),
    "judge-report": ("post", WORK),
    "reveal": ("post", WORK),
    "close-form": ("get", WORK),
    "close": ("post", WORK),
    "finish": ("post", WORK),
    "run": ("post", WORK),
    "queries": ("get", WORK),
    "add-query": ("post", WORK),
    "await-suggestions": ("get", WORK),
    "forecast": ("get", WORK),
    "selection": ("get", WORK),
    "suggestion": ("get", WORK),
    "edit-suggestion": ("get", WORK),
    "decide": ("post", WORK),
    "undo-decision": ("post", WORK),
    "undo-report-verdict": ("post", WORK),
    "exploration": ("get", WORK),
    "progress": ("get", WORK),
    "open-results": ("post", WORK),
    "run-again": ("post", WORK),
    "detail": ("get", WORK),
    "judge": ("post", WORK),
    "undo-judgment": ("post", WORK),
    "pool": ("get", WORK),
    "pool-item": ("get", WORK),
    "judge-pooled": ("post", WORK),
    "undo-pooled": ("post", WORK),
    "item": ("get", WORK),
    "reinstate": ("post", WORK),
    "history": ("get", WORK),
    "insights": ("get", READ),
    "insights-definitions": ("get", READ),
    "insights-csv": ("get", READ),
    "insights-jsonl": ("get", READ),
    "exports": ("get", EXPORT),
    "export-create": ("post", EXPORT),
    "export-state": ("get", EXPORT),
    "export-file": ("get", EXPORT),
    "export-manifest": ("get", EXPORT),
}


@pytest.fixture
def addresses(auditor: User) -> dict[str, str]:
    """A real address for every name."""
    report = make_claimed_report(user=auditor)
    suggestion = make_suggestion("stamp", report=report)
    decision = make_decision(report=report, user=auditor)
    exploration = make_exploration(decisions=[decision])
    exposure = make_exposure(run=make_run(exploration_query=exploration.queries.get()))
    judged = make_judgment(exposure=exposure, user=auditor)
    first = make_judgment(report=report, user=auditor)
    pooled = make_pool_item()
    judged_pooled = make_judgment(pool_item=make_pool_item(), user=auditor)
    export = Export.objects.create(user=auditor, stream="flat", format="csv")
    arguments: dict[str, list[object]] = {
        "close-form": [report.public_id, "skipped"],
        "suggestion": [suggestion.public_id],
        "edit-suggestion": [suggestion.public_id],
        "decide": [suggestion.public_id],
        "undo-decision": [decision.public_id],
        "undo-report-verdict": [first.public_id],
        "detail": [exploration.public_id, 1, 1],
        "judge": [exploration.public_id, 1, 1],
        "undo-judgment": [judged.public_id],
        "pool-item": [pooled.public_id],
        "judge-pooled": [pooled.public_id],
        "undo-pooled": [judged_pooled.public_id],
        "item": [exposure.item.public_id],
        "reinstate": [exposure.item.public_id],
    }
    for name in ("exploration", "progress", "open-results", "run-again"):
        arguments[name] = [exploration.public_id]
    for name in ("export-state", "export-file", "export-manifest"):
        arguments[name] = [export.public_id]
    for name in (
        "home",
        "preferences",
        "keys",
        "queue",
        "newer",
        "take-next",
        "pool",
        "history",
        "insights",
        "insights-definitions",
        "insights-csv",
        "insights-jsonl",
        "exports",
        "export-create",
    ):
        arguments[name] = []
    return {name: reverse(f"audit:{name}", args=arguments.get(name, [report.public_id])) for name in ROUTES}


def test_the_table_names_every_address() -> None:
    assert set(ROUTES) == {pattern.name for pattern in urls.urlpatterns}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_gets_in_where_it_may_and_nowhere_else(
    role: str, request: pytest.FixtureRequest, login: Callable[[User], Client], addresses: dict[str, str]
) -> None:
    client = login(request.getfixturevalue(role))
    wrong = []
    for name, (method, allowed) in ROUTES.items():
        data = {"key": str(uuid.uuid4())} if method == "post" else None
        status = getattr(client, method)(addresses[name], data).status_code
        if (status == 403) != (role not in allowed) or status >= 500:
            wrong.append((name, status))
    assert wrong == []


def test_who_is_not_signed_in_is_sent_to_sign_in(client: Client, addresses: dict[str, str]) -> None:
    for name, (method, _allowed) in ROUTES.items():
        response = getattr(client, method)(addresses[name])
        assert response.status_code == 302, name
        assert response["Location"].startswith("/login/?next="), name


def test_the_wrong_verb_is_refused(auditor: User, login: Callable[[User], Client], addresses: dict[str, str]) -> None:
    client = login(auditor)
    for name, (method, allowed) in ROUTES.items():
        if "auditor" in allowed:
            other = client.post if method == "get" else client.get
            assert other(addresses[name]).status_code == 405, name


def test_a_post_without_a_key_records_nothing(
    auditor: User, login: Callable[[User], Client], addresses: dict[str, str]
) -> None:
    client = login(auditor)
    for name, (method, allowed) in ROUTES.items():
        if method == "post" and "auditor" in allowed and name not in {"preferences", "heartbeat"}:
            assert client.post(addresses[name]).status_code == 422, name


def test_a_post_from_elsewhere_is_refused(auditor: User, addresses: dict[str, str]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(auditor)
    response = client.post(addresses["release"], {"key": str(uuid.uuid4())})
    assert response.status_code == 403
    assert b"too old" in response.content


def test_htmx_of_a_lost_session_leaves_for_the_sign_in_page(client: Client, addresses: dict[str, str]) -> None:
    response = client.post(
        addresses["decide"],
        headers={"HX-Request": "true", "HX-Current-URL": f"http://testserver{addresses['report']}"},
    )
    assert response["HX-Redirect"] == f"/login/?next={addresses['report']}"


@pytest.mark.parametrize("role", ROLES)
def test_the_pages_of_learning_are_for_admins_alone(
    role: str, request: pytest.FixtureRequest, login: Callable[[User], Client]
) -> None:
    client = login(request.getfixturevalue(role))
    wrong = []
    for pattern in learning_urls.urlpatterns:
        arguments = {name: 1 if name == "pk" else "none" for name in pattern.pattern.converters}
        status = client.get(reverse(f"training:{pattern.name}", kwargs=arguments)).status_code
        if (status == 403) != (role != "admin") or status >= 500:
            wrong.append((pattern.name, status))
    assert wrong == []

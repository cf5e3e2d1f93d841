import pytest
from django.contrib import admin as site
from django.urls import reverse

from audit.models import Judgment, PolicyVersion, SuggesterSwitch
from audit.risk_training import refit
from extraction.registry import serving_row
from tests.audit.loop import make_indexed
from tests.factories import make_judgment, make_policy, make_report
from tests.queues import empty_queues, waiting

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]

PAGES = sorted(
    (model._meta.app_label, model._meta.model_name) for model in site.site._registry if model._meta.app_label != "axes"
)


@pytest.fixture
def client(login, admin):
    return login(admin)


@pytest.mark.parametrize(("app", "model"), [page for page in PAGES if page[0] in {"audit", "extraction"}])
def test_every_list_of_the_admin_opens(client, app, model):
    make_judgment(report=make_report())
    assert client.get(reverse(f"admin:{app}_{model}_changelist")).status_code == 200


def test_history_cannot_be_changed(client):
    judgment = make_judgment()
    page = reverse("admin:audit_judgment_change", args=[judgment.pk])
    assert client.get(page).status_code == 200
    assert client.post(page, {"verdict": "normal"}).status_code == 403
    assert client.post(reverse("admin:audit_judgment_delete", args=[judgment.pk]), {"post": "yes"}).status_code == 403
    assert Judgment.objects.get().verdict == judgment.verdict


def test_a_new_wording_of_a_policy_is_a_new_version(client):
    policy = make_policy("forged-documents")
    form = {
        "name": policy.name,
        "key": policy.key,
        "versions-TOTAL_FORMS": "1",
        "versions-INITIAL_FORMS": "0",
        "versions-0-number": "2",
        "versions-0-toxic": "Offers or asks for one.",
        "versions-0-normal": "Frames and gowns.",
        "versions-0-at_0": "2026-03-01",
        "versions-0-at_1": "10:00",
        "versions-0-policy": str(policy.pk),
    }
    client.post(reverse("admin:audit_policy_change", args=[policy.pk]), form)
    assert list(PolicyVersion.objects.filter(policy=policy).values_list("number", flat=True)) == [1, 2]


def two_risk_models():
    make_indexed("bread", "butter")
    make_report(text="forged diploma")
    return refit(), refit()


def test_a_rollback_lets_the_earlier_risk_model_serve(client):
    first, _second = two_risk_models()
    client.post(reverse("admin:risk-rollback"))
    assert serving_row() == first


def test_a_rollback_pressed_twice_goes_one_step_back(client):
    first, second = two_risk_models()
    third = refit()
    page = client.get(reverse("admin:extraction_riskmodel_changelist")).content.decode()
    assert f'name="from" value="{third.version}"' in page
    for _press in range(2):
        client.post(reverse("admin:risk-rollback"), {"from": third.version})
    assert serving_row() == second


def test_a_rollback_without_an_earlier_model_says_so(client):
    answer = client.post(reverse("admin:risk-rollback"), follow=True)
    assert "nothing to go back to" in answer.content.decode()


def test_promoting_by_hand_needs_a_reason(client):
    first, second = two_risk_models()
    client.post(reverse("admin:risk-promote", args=[first.pk]))
    assert serving_row() == second
    client.post(reverse("admin:risk-promote", args=[first.pk]), {"reason": "second one reads adverts as toxic"})
    assert serving_row() == first


@pytest.mark.parametrize("who", ["auditor", "researcher", "stranger"])
def test_only_admins_roll_back(request, login, who):
    _first, second = two_risk_models()
    login(request.getfixturevalue(who)).post(reverse("admin:risk-rollback"))
    assert serving_row() == second


def test_a_get_changes_nothing(client):
    _first, second = two_risk_models()
    assert client.get(reverse("admin:risk-rollback")).status_code == 405
    assert serving_row() == second


def test_a_new_webhook_endpoint_is_offered_a_secret(client):
    page = client.get(reverse("admin:audit_webhookendpoint_add")).content.decode()
    assert 'value="whsec_' in page


def test_the_serving_risk_model_is_marked_without_a_query_a_row(client, django_assert_max_num_queries):
    two_risk_models()
    with django_assert_max_num_queries(12):
        page = client.get(reverse("admin:extraction_riskmodel_changelist")).content.decode()
    assert page.count("icon-yes") == 1


# --- suggesters


def test_a_switch_makes_the_suggestions_anew(client, django_capture_on_commit_callbacks):
    empty_queues()
    with django_capture_on_commit_callbacks(execute=True):
        client.post(reverse("admin:audit_suggesterswitch_add"), {"suggester": "llm", "policy": make_policy().pk})
    assert not SuggesterSwitch.objects.get().is_on
    assert waiting("suggest") == ["refresh-suggestions"]
    empty_queues()


def test_an_unknown_suggester_has_no_switch(client):
    page = client.post(reverse("admin:audit_suggesterswitch_add"), {"suggester": "LLM", "is_on": "on"})
    assert page.status_code == 200
    assert not SuggesterSwitch.objects.exists()

"""The demo makes a model of its own, step by step, and lets it be seen without pretending that it passed the gate."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from audit.demo.cast import make_cast
from audit.demo.load import BEGIN, END
from audit.models import RecordedRequest
from extraction.models import Adapter, AdapterPromotion, AdapterRole
from extraction.registry import adapter_in
from tests.extraction.adapters import stored_adapter
from tests.factories import (
    make_base,
    make_evaluation,
    make_evaluation_set,
    make_learning_run,
    make_promotion,
    make_report,
    make_user,
)
from tests.queues import empty_queues, waiting
from training import demo
from training.demo import look_after
from training.models import BaseBuild, GateVerdict, Run, RunState

pytestmark = pytest.mark.django_db

NOW = timezone.now()


@pytest.fixture(autouse=True)
def _demo(settings, tmp_path, monkeypatch):
    settings.DEMO = True
    settings.MEDIA_ROOT, settings.ARTIFACT_CACHE = tmp_path / "media", tmp_path / "cache"
    monkeypatch.setattr(demo, "STACK", ())
    empty_queues()
    yield
    empty_queues()


@pytest.fixture
def admin() -> User:
    """Of the demo, which is loaded; its month ended now."""
    admin = make_cast().admin
    for key in (BEGIN, END):
        RecordedRequest.objects.create(key=key, action="demo", user=admin, at=NOW)
    return admin


@pytest.fixture
def look(django_capture_on_commit_callbacks):
    def look() -> None:
        with django_capture_on_commit_callbacks(execute=True):
            look_after()

    return look


def learned(adapter: Adapter, verdict: GateVerdict, state: RunState, **kwargs: Any) -> Run:
    """The demo's chain has come to its end."""
    tests = make_evaluation_set(demo.TESTS)
    make_evaluation(adapter=adapter, evaluation_set=tests, verdict=verdict)
    values: dict[str, Any] = {"recipe": demo.RECIPE, "evaluation_set": tests, "gate_decides": True} | kwargs
    return make_learning_run(adapter=adapter, state=state, **values)


def test_another_site_learns_nothing_by_itself(admin, look, settings):
    settings.DEMO = False
    look()
    assert waiting("data") == waiting("train") == []


def test_nothing_is_learned_before_the_demo_is_loaded(look):
    look()
    assert waiting("data") == []


def test_nothing_is_learned_without_the_learning_stack(admin, look, monkeypatch):
    monkeypatch.setattr(demo, "STACK", ("no_such_package",))
    look()
    assert waiting("data") == []


def test_the_last_week_becomes_the_test_set(admin, look):
    make_report(status="closed", opened=NOW - timedelta(days=2))
    look()
    assert waiting("data") == ["freeze-demo-week"]


def test_the_base_is_built_once_after_the_test_set_is_frozen(admin, look):
    make_evaluation_set(demo.TESTS)
    look()
    look()
    build = BaseBuild.objects.get()
    assert (build.profile, build.user) == ("small", None)
    assert waiting("train") == [f"base-{build.pk}"]


def test_a_step_that_is_under_way_is_not_asked_for_again(admin, look):
    make_report(status="closed", opened=NOW - timedelta(days=2))
    for _minute in range(9):
        look()
    assert waiting("data") == ["freeze-demo-week"]
    assert RecordedRequest.objects.filter(action="demo learns").count() == 1


def test_a_step_that_is_lost_is_asked_for_again_but_not_for_ever(admin, look):
    make_report(status="closed", opened=NOW - timedelta(days=2))
    for _minute in range(demo.ATTEMPTS):
        look()
        assert waiting("data") == ["freeze-demo-week"]
        empty_queues()
    look()
    assert waiting("data") == []


def test_the_chain_is_launched_once_and_the_gate_decides(admin, look):
    tests = make_evaluation_set(demo.TESTS)
    base = make_base()
    look()
    look()
    sft, dpo = Run.objects.order_by("pk")
    assert (sft.kind, dpo.kind) == ("sft", "dpo")
    assert {sft.base, dpo.base} == {base}
    assert (dpo.evaluation_set, dpo.gate_decides, dpo.user) == (tests, True, None)


@pytest.mark.parametrize(
    ("verdict", "state", "why"),
    [
        (GateVerdict.REFUSES, RunState.REFUSED, "did not let it serve"),
        (GateVerdict.UNDECIDED, RunState.DONE, "too few of the results"),
    ],
)
def test_an_adapter_that_may_not_serve_challenges_and_the_log_says_why(admin, look, tmp_path, verdict, state, why):
    adapter = stored_adapter(tmp_path)
    learned(adapter, verdict, state)
    look()
    look()
    promotion = AdapterPromotion.objects.get()
    assert (promotion.adapter, promotion.role, promotion.share) == (adapter, AdapterRole.CHALLENGER, 0.5)
    assert why in promotion.reason
    assert adapter_in(AdapterRole.SERVING) is None


def test_an_adapter_that_the_gate_let_serve_serves(admin, look, tmp_path):
    adapter = stored_adapter(tmp_path)
    make_promotion(adapter=adapter)
    learned(adapter, GateVerdict.PASSES, RunState.PROMOTED)
    look()
    assert adapter_in(AdapterRole.CHALLENGER) is None


def test_who_was_stood_down_stays_down(admin, look, tmp_path):
    adapter = stored_adapter(tmp_path)
    learned(adapter, GateVerdict.UNDECIDED, RunState.DONE)
    look()
    AdapterPromotion.objects.create(role=AdapterRole.CHALLENGER, adapter=None)
    look()
    assert adapter_in(AdapterRole.CHALLENGER) is None


def test_an_adapter_of_a_persons_own_run_is_left_to_that_person(admin, look, tmp_path):
    learned(stored_adapter(tmp_path), GateVerdict.UNDECIDED, RunState.DONE, user=make_user())
    make_base()
    look()
    assert not AdapterPromotion.objects.exists()


def test_an_adapter_that_was_not_evaluated_takes_no_role(admin, look, tmp_path):
    tests = make_evaluation_set(demo.TESTS)
    adapter = stored_adapter(tmp_path)
    make_learning_run(adapter=adapter, recipe=demo.RECIPE, evaluation_set=tests, state=RunState.DONE)
    look()
    assert not AdapterPromotion.objects.exists()

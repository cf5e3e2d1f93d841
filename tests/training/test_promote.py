"""The gate as a verb: what it lets serve, what it refuses and why, other roles, standing down, rolling back."""

import pytest

from audit.models import JobState
from audit.services import Conflict, Invalid, ServiceError
from extraction.models import AdapterPromotion, AdapterRole
from extraction.registry import adapter_in
from tests.extraction.adapters import stored_adapter, stored_base
from tests.factories import (
    make_adapter,
    make_evaluation,
    make_evaluation_set,
    make_learning_run,
    make_pool_item,
)
from training.models import Evaluation, GateVerdict, RunState
from training.promote import GateRefuses, newest_evaluation, promote, rollback, stand_down

pytestmark = pytest.mark.django_db
SERVING, CHALLENGER, SHADOW = AdapterRole.SERVING, AdapterRole.CHALLENGER, AdapterRole.SHADOW
REFUSED_RULE = {
    "rule": "unique",
    "holds": False,
    "figures": {"ours": 30, "theirs": 31, "budget": 50, "difference": -1.0, "low": -4.0, "high": 2.0},
}


@pytest.fixture(autouse=True)
def _files(settings, tmp_path):
    settings.MEDIA_ROOT, settings.ARTIFACT_CACHE = tmp_path / "media", tmp_path / "cache"


@pytest.fixture
def adapters(tmp_path):
    base = stored_base(tmp_path)
    return [stored_adapter(tmp_path, base=base, name=name) for name in ("dpo-1", "dpo-2")]


def passed(adapter, **kwargs) -> Evaluation:
    """An evaluation that the gate passed against who serves now."""
    return make_evaluation(adapter=adapter, **({"baseline": adapter_in(SERVING)} | kwargs))


def serve(adapter, **kwargs) -> AdapterPromotion:
    return promote(adapter, evaluation=passed(adapter), **kwargs)


# --- the gate -------------------------------------------------------------------------------------------------------


def test_what_the_gate_passed_serves_and_the_log_says_on_what_grounds(adapters, admin):
    evaluation = passed(adapters[0], gate=[{"rule": "unique", "holds": True, "figures": {}}])
    promotion = promote(adapters[0], evaluation=evaluation, user=admin, reason="it found more")
    assert adapter_in(SERVING) == adapters[0]
    assert (promotion.user, promotion.reason) == (admin, "it found more")
    assert promotion.grounds["evaluation"] == evaluation.pk
    assert promotion.grounds["gate"] == evaluation.gate
    assert promotion.grounds["baseline"] is None


def test_its_run_is_promoted_too(adapters):
    run = make_learning_run(adapter=adapters[0])
    serve(adapters[0])
    run.refresh_from_db()
    assert run.state == RunState.PROMOTED


def test_without_an_evaluation_nothing_serves(adapters):
    with pytest.raises(GateRefuses, match="was not evaluated"):
        promote(adapters[0])
    assert not AdapterPromotion.objects.exists()


def test_another_adapters_evaluation_is_none(adapters):
    with pytest.raises(GateRefuses, match="was not evaluated"):
        promote(adapters[0], evaluation=passed(adapters[1]))


def test_an_evaluation_that_is_not_over_is_none(adapters):
    with pytest.raises(GateRefuses, match="not over"):
        promote(adapters[0], evaluation=passed(adapters[0], state=JobState.RUNNING))


@pytest.mark.parametrize("verdict", [GateVerdict.REFUSES, GateVerdict.UNDECIDED])
def test_the_gate_refuses_with_its_figures_whatever_the_person_says(adapters, admin, verdict):
    holds = {"rule": "leak", "holds": True, "figures": {}}
    evaluation = passed(adapters[0], verdict=verdict, gate=[REFUSED_RULE, holds])
    with pytest.raises(GateRefuses) as refused:
        promote(adapters[0], evaluation=evaluation, user=admin, reason="I know better")
    assert len(refused.value.reasons) == 1
    assert "30 against 31" in refused.value.sentence
    assert adapter_in(SERVING) is None


def test_an_evaluation_against_who_serves_no_more_is_out_of_date(adapters):
    evaluation = passed(adapters[0])
    serve(adapters[1])
    with pytest.raises(GateRefuses, match="compared with nobody, but dpo-2 serves now"):
        promote(adapters[0], evaluation=evaluation)


def test_the_second_of_two_presses_changes_nothing(adapters):
    evaluation = passed(adapters[0])
    promote(adapters[0], evaluation=evaluation)
    with pytest.raises(ServiceError):
        promote(adapters[0], evaluation=evaluation)
    assert AdapterPromotion.objects.count() == 1


def test_an_adapter_whose_files_are_gone_does_not_serve(adapters):
    broken = make_adapter(base=adapters[0].base)
    with pytest.raises(Invalid, match="cannot be used"):
        promote(broken, evaluation=passed(broken))


def test_the_newest_finished_evaluation_is_the_one_that_counts(adapters):
    passed(adapters[0])
    newest = passed(adapters[0], verdict=GateVerdict.REFUSES)
    passed(adapters[0], state=JobState.RUNNING)
    assert newest_evaluation(adapters[0]) == newest
    assert newest_evaluation(adapters[1]) is None


def test_who_waits_for_verdicts_against_another_baseline_asks_for_no_more(adapters):
    waits = make_evaluation(adapter=adapters[1], verdict=GateVerdict.UNDECIDED, evaluation_set=make_evaluation_set())
    pooled = make_pool_item()
    pooled.pool.name = f"evaluation-{waits.pk}"
    pooled.pool.save()
    serve(adapters[0])
    pooled.pool.refresh_from_db()
    assert pooled.pool.closed is not None


# --- other roles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [CHALLENGER, SHADOW])
def test_another_role_needs_no_gate_but_a_reason(adapters, role):
    with pytest.raises(Invalid, match="reason"):
        promote(adapters[0], role=role, share=0.2)
    promotion = promote(adapters[0], role=role, share=0.2, reason="let us see")
    assert (adapter_in(role), promotion.share) == (adapters[0], 0.2)
    assert adapter_in(SERVING) is None


def test_of_two_who_choose_a_challenger_the_second_is_told(adapters):
    promote(adapters[0], role=CHALLENGER, share=0.2, reason="mine")
    with pytest.raises(Conflict, match="meanwhile"):
        promote(adapters[1], role=CHALLENGER, share=0.2, reason="mine")
    promote(adapters[1], role=CHALLENGER, share=0.2, reason="seen it", seen=adapters[0])
    assert adapter_in(CHALLENGER) == adapters[1]


def test_a_role_is_left_with_a_reason(adapters):
    serve(adapters[0])
    with pytest.raises(Invalid, match="reason"):
        stand_down(role=SERVING, seen=adapters[0])
    stand_down(role=SERVING, seen=adapters[0], reason="search alone is better")
    assert adapter_in(SERVING) is None


# --- rollback -------------------------------------------------------------------------------------------------------


def test_one_step_back(adapters, admin):
    serve(adapters[0])
    serve(adapters[1])
    promotion = rollback(from_adapter=adapters[1], user=admin, reason="odd queries")
    assert adapter_in(SERVING) == adapters[0]
    assert (promotion.is_rollback, promotion.user, promotion.reason) == (True, admin, "odd queries")


def test_a_step_back_can_lead_to_nobody_and_no_further(adapters):
    serve(adapters[0])
    rollback(from_adapter=adapters[0])
    assert adapter_in(SERVING) is None
    with pytest.raises(Invalid, match="nothing to go back to"):
        rollback(from_adapter=None)


def test_of_two_who_roll_back_the_second_is_told(adapters):
    serve(adapters[0])
    serve(adapters[1])
    rollback(from_adapter=adapters[1])
    with pytest.raises(Conflict, match="Another adapter serves"):
        rollback(from_adapter=adapters[1])
    assert adapter_in(SERVING) == adapters[0]

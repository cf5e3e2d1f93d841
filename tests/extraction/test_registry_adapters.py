"""Which adapter serves, challenges or shadows: promotion, rollback, the split of reports, and what is refused."""

import uuid

import pytest

from extraction.artifacts import store_folder
from extraction.generation import AdapterRefused
from extraction.models import Adapter, AdapterPromotion, AdapterRole
from extraction.registry import (
    NothingToRollBack,
    ServesNoMore,
    adapter_for,
    adapter_in,
    adapters_at_work,
    promote_adapter,
    rollback_adapter,
)
from tests.extraction.adapters import stored_adapter, stored_base
from tests.factories import make_adapter, make_base

pytestmark = pytest.mark.django_db
SERVING, CHALLENGER, SHADOW = AdapterRole.SERVING, AdapterRole.CHALLENGER, AdapterRole.SHADOW


@pytest.fixture(autouse=True)
def _files(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.ARTIFACT_CACHE = tmp_path / "cache"


@pytest.fixture
def adapters(tmp_path) -> list[Adapter]:
    base = stored_base(tmp_path)
    return [stored_adapter(tmp_path, base=base, name=f"sft-{number}") for number in range(3)]


def serve(*adapters: Adapter) -> None:
    for adapter in adapters:
        promote_adapter(adapter, seen=adapter_in(SERVING))


def test_nobody_serves_before_the_first_promotion():
    assert adapter_in(SERVING) is None
    assert adapters_at_work() == {}
    assert adapter_for(uuid.uuid4()) == (None, SERVING)


def test_the_newest_promotion_of_a_role_has_it(adapters):
    serve(adapters[0], adapters[1])
    promote_adapter(adapters[2], role=SHADOW, seen=None)
    assert adapters_at_work() == {SERVING: adapters[1], SHADOW: adapters[2]}


def test_a_role_can_be_left_empty(adapters):
    promote_adapter(adapters[0], role=SHADOW, seen=None)
    promote_adapter(None, role=SHADOW, seen=adapters[0], reason="seen enough")
    assert adapter_in(SHADOW) is None


def test_who_serves_leaves_the_other_roles(adapters):
    promote_adapter(adapters[0], role=CHALLENGER, seen=None, share=0.2)
    promote_adapter(adapters[1], role=SHADOW, seen=None)
    serve(adapters[0])
    assert adapters_at_work() == {SERVING: adapters[0], SHADOW: adapters[1]}


def test_the_second_of_two_presses_changes_nothing(adapters):
    serve(adapters[0])
    promote_adapter(adapters[1], seen=adapters[0])
    with pytest.raises(ServesNoMore):
        promote_adapter(adapters[1], seen=adapters[0])
    assert AdapterPromotion.objects.count() == 2


def test_a_share_of_nothing_is_an_error(adapters):
    with pytest.raises(ValueError, match="share"):
        promote_adapter(adapters[0], role=CHALLENGER, seen=None, share=0)


# --- rollback -------------------------------------------------------------------------------------------------------


def test_a_rollback_goes_one_step_back_and_is_logged(adapters, admin):
    serve(adapters[0], adapters[1])
    rollback_adapter(seen=adapters[1], user_id=admin.pk, reason="odd queries")
    assert adapter_in(SERVING) == adapters[0]
    newest = AdapterPromotion.objects.last()
    assert (newest.is_rollback, newest.reason, newest.user) == (True, "odd queries", admin)


def test_two_rollbacks_go_two_steps_back(adapters):
    serve(*adapters)
    rollback_adapter(seen=adapters[2])
    rollback_adapter(seen=adapters[1])
    assert adapter_in(SERVING) == adapters[0]


def test_a_promotion_after_a_rollback_is_what_the_next_rollback_takes_back(adapters):
    serve(adapters[0], adapters[1])
    rollback_adapter(seen=adapters[1])
    serve(adapters[2])
    rollback_adapter(seen=adapters[2])
    assert adapter_in(SERVING) == adapters[0]


def test_a_rollback_can_lead_back_to_nobody(adapters):
    serve(adapters[0])
    rollback_adapter(seen=adapters[0])
    assert adapter_in(SERVING) is None
    with pytest.raises(NothingToRollBack):
        rollback_adapter(seen=None)


def test_one_press_that_arrives_twice_goes_one_step_back(adapters):
    serve(*adapters)
    rollback_adapter(seen=adapters[2])
    with pytest.raises(ServesNoMore):
        rollback_adapter(seen=adapters[2])
    assert adapter_in(SERVING) == adapters[1]


def test_a_challenger_that_comes_back_has_its_share_again(adapters):
    promote_adapter(adapters[0], role=CHALLENGER, seen=None, share=0.25)
    promote_adapter(adapters[1], role=CHALLENGER, seen=adapters[0], share=0.5)
    assert rollback_adapter(role=CHALLENGER, seen=adapters[1]).share == 0.25


# --- the split of reports -------------------------------------------------------------------------------------------


def test_a_challenger_gets_its_share_of_the_reports(adapters):
    serve(adapters[0])
    promote_adapter(adapters[1], role=CHALLENGER, seen=None, share=0.25)
    reports = [uuid.UUID(int=number) for number in range(1_000)]
    sides = [adapter_for(report) for report in reports]
    assert set(sides) == {(adapters[0], SERVING), (adapters[1], CHALLENGER)}
    assert 200 < sides.count((adapters[1], CHALLENGER)) < 300
    assert [adapter_for(report) for report in reports] == sides  # however often it is asked


def test_no_report_leaves_the_challenger_when_its_share_grows(adapters):
    serve(adapters[0])
    reports = [uuid.UUID(int=number) for number in range(300)]

    def challenged() -> set[uuid.UUID]:
        return {report for report in reports if adapter_for(report)[1] == CHALLENGER}

    promote_adapter(adapters[1], role=CHALLENGER, seen=None, share=0.1)
    before = challenged()
    promote_adapter(adapters[1], role=CHALLENGER, seen=adapters[1], share=0.3)
    assert before < challenged()


def test_a_challenger_can_challenge_nobody(adapters):
    promote_adapter(adapters[1], role=CHALLENGER, seen=None, share=1.0)
    assert adapter_for(uuid.uuid4()) == (adapters[1], CHALLENGER)


# --- what is refused ------------------------------------------------------------------------------------------------


def test_an_adapter_whose_files_are_gone_is_refused(tmp_path):
    with pytest.raises(AdapterRefused, match="cannot be used"):
        promote_adapter(make_adapter(base=stored_base(tmp_path)), seen=None)
    assert not AdapterPromotion.objects.exists()


def test_an_adapter_whose_base_is_gone_is_refused(tmp_path):
    with pytest.raises(AdapterRefused, match="base .* gone"):
        promote_adapter(stored_adapter(tmp_path, base=make_base()), seen=None)


@pytest.mark.parametrize("key", ["weights_hash", "tokenizer_hash", "template_hash"])
def test_an_adapter_that_was_trained_on_another_base_is_refused(tmp_path, key):
    trained_on = stored_base(tmp_path)
    adapter = stored_adapter(tmp_path, base=trained_on)
    other = stored_base(tmp_path, **({"weights_hash": trained_on.weights_hash} | {key: "0" * 64}))
    Adapter.objects.filter(pk=adapter.pk).update(base=other)
    with pytest.raises(AdapterRefused, match=key):
        promote_adapter(Adapter.objects.get(pk=adapter.pk), seen=None)


def test_an_adapter_with_a_wrong_tokenizer_hash_in_its_row_is_refused(tmp_path):
    with pytest.raises(AdapterRefused, match="tokenizer_hash"):
        promote_adapter(stored_adapter(tmp_path, tokenizer_hash="0" * 64), seen=None)


def test_an_adapter_that_holds_a_pickle_is_refused(tmp_path):
    adapter = stored_adapter(tmp_path)
    (tmp_path / "adapter" / "optimizer.bin").write_bytes(b"pickle")
    digest = store_folder(tmp_path / "adapter", allowed={".json", ".safetensors", ".bin"})
    Adapter.objects.filter(pk=adapter.pk).update(digest=digest)
    with pytest.raises(AdapterRefused, match="could run code"):
        promote_adapter(Adapter.objects.get(pk=adapter.pk), seen=None)

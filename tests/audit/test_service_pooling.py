"""Judging pooled texts: what is recorded, what follows, and what is refused."""

import pytest
from django.utils import timezone

from audit.append_only import maintenance_pass
from audit.models import Item, ItemState, ItemText, Judgment, StandingVerdict, Verdict
from audit.services import AlreadyRecorded, Conflict, judge_pool_item, undo_judgment
from tests.audit.loop import key
from tests.factories import make_item, make_judgment, make_policy_version, make_pool_item

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]


def judged(pool_item, user, verdict=Verdict.TOXIC, **kwargs):
    return judge_pool_item(pool_item=pool_item, user=user, verdict=verdict, **({"key": key()} | kwargs))


def test_a_judgment_names_the_pooled_text_and_the_policy_version_that_was_shown(auditor):
    pooled = make_pool_item()
    make_policy_version(policy=pooled.policy_version.policy)  # a newer wording, which nobody saw here
    judgment = judged(pooled, auditor, Verdict.NORMAL, duration_ms=700)
    assert (judgment.pool_item, judgment.exposure, judgment.report) == (pooled, None, None)
    assert (judgment.item_text, judgment.policy_version) == (pooled.item_text, pooled.policy_version)
    assert StandingVerdict.objects.get().verdict == "normal"


def test_an_item_judged_toxic_leaves_the_results(auditor):
    pooled = make_pool_item()
    judged(pooled, auditor)
    assert Item.objects.get(pk=pooled.item_text.item_id).state == ItemState.REMOVED


def test_a_verdict_on_an_older_text_leaves_the_item_where_it_is(auditor):
    item = make_item("an older text")
    pooled = make_pool_item(item=item)
    item.text = ItemText.objects.create(
        item=item, text="another now", text_hash="2", norm_hash="2", analysis="qx-1", language="en"
    )
    item.save()
    judged(pooled, auditor)
    assert Item.objects.get(pk=item.pk).state == ItemState.LIVE


def test_one_press_that_arrives_twice_is_recorded_once(auditor):
    pooled, once = make_pool_item(), key()
    judged(pooled, auditor, key=once)
    with pytest.raises(AlreadyRecorded):
        judged(pooled, auditor, key=once)
    assert Judgment.objects.count() == 1


def test_a_text_that_somebody_judged_meanwhile_is_refused(auditor, second_auditor):
    pooled = make_pool_item()
    judged(pooled, second_auditor)
    with pytest.raises(Conflict, match="judged meanwhile"):
        judged(pooled, auditor)


def test_a_text_judged_under_another_policy_meanwhile_is_refused(auditor):
    pooled = make_pool_item()
    make_judgment(pool_item=make_pool_item(item=pooled.item_text.item))
    with pytest.raises(Conflict, match="judged meanwhile"):
        judged(pooled, auditor)


def test_a_text_of_a_closed_pool_is_refused(auditor):
    pooled = make_pool_item()
    pooled.pool.closed = timezone.now()
    pooled.pool.save()
    with pytest.raises(Conflict, match="not asked for"):
        judged(pooled, auditor)
    assert not Judgment.objects.exists()


def test_an_erased_text_is_refused(auditor):
    pooled = make_pool_item()
    with maintenance_pass("erasure asked by the author"):
        ItemText.objects.filter(pk=pooled.item_text_id).update(text="")
    with pytest.raises(Conflict, match="erased"):
        judged(pooled, auditor)


def test_a_judgment_taken_back_names_the_pooled_text_too(auditor):
    pooled = make_pool_item()
    judgment = judged(pooled, auditor)
    undo = undo_judgment(judgment=judgment, user=auditor, key=key())
    assert (undo.undoes, undo.pool_item) == (judgment, pooled)
    assert Item.objects.get(pk=pooled.item_text.item_id).state == ItemState.LIVE
    assert StandingVerdict.objects.get().verdict == ""


def test_only_the_person_who_judged_can_take_it_back(auditor, second_auditor):
    judgment = judged(make_pool_item(), auditor)
    with pytest.raises(Conflict):
        undo_judgment(judgment=judgment, user=second_auditor, key=key())

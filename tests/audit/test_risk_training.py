import random
from datetime import timedelta

import pytest
from django.utils import timezone

from audit import risk_training
from audit.models import SiteSettings, Verdict
from audit.risk_training import Row, check, is_held_out, is_refit_due, judged_rows, refit, verdicts_since_fit
from extraction import registry, risk
from extraction.models import RiskModel, RiskPromotion
from tests.audit.loop import make_indexed
from tests.factories import (
    make_item,
    make_item_text,
    make_judgment,
    make_policy,
    make_pool_item,
    make_report,
    make_user,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]

TOXIC = [f"forged diploma number {number} with real stamp" for number in range(60)]
NORMAL = [f"wooden frame number {number} for a picture" for number in range(60)]


def judged(text, verdict, **kwargs):
    """A text with a standing verdict."""
    return make_judgment(item_text=make_item(text).text, verdict=verdict, **kwargs)


def judged_corpus(**kwargs):
    for text in TOXIC:
        judged(text, Verdict.TOXIC, **kwargs)
    for text in NORMAL:
        judged(text, Verdict.NORMAL, **kwargs)


def test_on_day_zero_reports_stand_against_unlabelled_items():
    make_indexed("bread", "butter and jam", "a picture frame")
    for number in range(3):
        make_report(text=f"forged diploma {number}")
    row = refit()
    assert (row.positives, row.negatives) == (3, 0)
    assert row.unlabelled == 3
    assert registry.serving_row() == row


def test_while_little_is_judged_open_reports_join_as_positives():
    make_indexed("bread", "butter and jam", "a picture frame")
    confirmed, unfounded = make_report(text="forged licence"), make_report(text="unfounded complaint")
    make_judgment(report=confirmed, item_text=confirmed.item_text, verdict=Verdict.TOXIC)
    make_judgment(report=unfounded, item_text=unfounded.item_text, verdict=Verdict.NORMAL)
    make_report(text="forged diploma")
    row = refit()
    assert (row.positives, row.negatives) == (2, 1)


def test_a_refit_is_due_when_the_texts_of_the_first_days_have_doubled():
    make_indexed("bread")
    make_report(text="forged diploma")
    refit()
    assert not is_refit_due()
    make_report(text="forged licence")
    assert is_refit_due()


def test_a_refit_is_due_after_so_many_verdicts(settings):
    settings.REFIT_EVERY = 10
    make_indexed("bread")
    judged_corpus()
    refit()
    for number in range(9):
        judged(f"forged licence {number}", Verdict.TOXIC)
    assert not is_refit_due()
    judged("one more forged licence", Verdict.TOXIC)
    assert is_refit_due()


def test_nothing_is_fitted_from_one_class_only():
    make_indexed("bread")
    assert refit() is None
    assert not RiskModel.objects.exists()


def test_the_serving_model_tells_toxic_from_normal():
    make_indexed("bread")
    judged_corpus()
    refit()
    _version, model = registry.serving_risk()
    toxic, normal = model.score(["forged diploma with stamp", "wooden picture frame"])
    assert toxic > 0.5 > normal


def test_held_out_texts_are_never_learned_from(monkeypatch):
    make_indexed("bread")
    judged_corpus()
    learned = []
    fit = risk.fit

    def spy(texts, *rest, **kwargs):
        learned.extend(texts)
        return fit(texts, *rest, **kwargs)

    monkeypatch.setattr(risk_training.risk, "fit", spy)
    refit()
    assert any(is_held_out(text) for text in TOXIC + NORMAL)
    assert not [text for text in learned if is_held_out(text) and text in TOXIC + NORMAL]


def test_a_text_is_toxic_if_any_policy_says_so():
    item_text = make_item("forged diploma").text
    make_judgment(item_text=item_text, verdict=Verdict.NORMAL)
    make_judgment(item_text=item_text, verdict=Verdict.TOXIC)
    assert [row.label for row in judged_rows()] == [1]


def test_a_disputed_text_counts_as_unjudged():
    first = judged("forged diploma", Verdict.TOXIC, user=make_user("one"))
    make_judgment(
        item_text=first.item_text,
        policy_version=first.policy_version,
        verdict=Verdict.NORMAL,
        user=make_user("two"),
    )
    assert list(judged_rows()) == []


def test_an_erased_text_is_not_learned_from():
    make_judgment(item_text=make_item_text(" "), verdict=Verdict.TOXIC)
    from audit.append_only import maintenance_pass
    from audit.models import ItemText

    with maintenance_pass("erasure"):
        ItemText.objects.update(text="")
    assert list(judged_rows()) == []


def test_a_wrong_bulk_verdict_does_not_get_to_serve():
    """Yesterday's verdicts stand; today somebody marks two hundred ordinary texts as toxic."""
    make_indexed("bread")
    dice = random.Random(7)
    words = [f"word{number}" for number in range(150)]
    version = make_policy().current()

    def texts(count, mark):
        return [f"{mark} " + " ".join(dice.choices(words, k=8)) for _ in range(count)]

    def judge_all(texts, verdict, at):
        for text in texts:
            judged(text, verdict, policy_version=version, at=at)

    yesterday = timezone.now() - timedelta(days=1)
    judge_all(texts(150, "diploma"), Verdict.TOXIC, yesterday)
    judge_all(texts(250, "frame"), Verdict.NORMAL, yesterday)
    good = refit()
    judge_all(texts(200, "frame"), Verdict.TOXIC, timezone.now())
    poisoned = refit()
    assert "worse" in poisoned.refusal
    assert registry.serving_row() == good


def test_a_better_version_serves():
    make_indexed("bread")
    judged_corpus()
    refit()
    second = refit()
    assert second.refusal == ""
    assert registry.serving_row() == second


def test_too_few_held_out_texts_refuse_nothing():
    make_indexed("bread")
    make_report(text="forged diploma")
    refit()
    _version, model = registry.serving_risk()
    assert check(model, [Row("a text", 1, 1.0, timezone.now())]).refusal == ""


def test_the_margin_is_a_setting():
    SiteSettings.objects.create(pk=1, risk_margin=1000.0)
    make_indexed("bread")
    judged_corpus()
    refit()
    now = timezone.now()
    rows = [Row(text, 1, 1.0, now) for text in TOXIC] + [Row(text, 0, 1.0, now) for text in NORMAL]
    upside_down = risk.fit(TOXIC + NORMAL, [0] * 60 + [1] * 60, [1.0] * 120)
    assert check(upside_down, rows).refusal == ""
    SiteSettings.objects.update(risk_margin=0.02)
    assert "worse" in check(upside_down, rows).refusal


def test_rollback_goes_back_one_step_and_then_another():
    make_indexed("bread")
    judged_corpus()
    first, second, third = refit(), refit(), refit()
    assert registry.serving_row() == third
    registry.rollback_risk(reason="odd queue")
    assert registry.serving_row() == second
    registry.rollback_risk()
    assert registry.serving_row() == first
    with pytest.raises(registry.NothingToRollBack):
        registry.rollback_risk()


def test_a_promotion_after_a_rollback_is_the_new_last_step():
    make_indexed("bread")
    judged_corpus()
    first, second = refit(), refit()
    registry.rollback_risk()
    third = refit()
    registry.rollback_risk()
    assert registry.serving_row() == first
    assert {row.model for row in RiskPromotion.objects.all()} == {first, second, third}


def test_verdicts_are_counted_since_the_newest_fit():
    make_indexed("bread")
    judged_corpus()
    assert verdicts_since_fit() == 120
    refit()
    assert verdicts_since_fit() == 0
    judged("forged licence", Verdict.TOXIC)
    assert verdicts_since_fit() == 1


def test_verdicts_given_for_an_evaluation_teach_nothing():
    pooled = make_pool_item("forged diploma from the pool")
    make_judgment(pool_item=pooled, verdict=Verdict.TOXIC)
    judged("wooden frame", Verdict.NORMAL)
    assert [row.text for row in judged_rows()] == ["wooden frame"]
    assert verdicts_since_fit() == 1

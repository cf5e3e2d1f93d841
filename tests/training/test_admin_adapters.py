"""The admin's pages of adapters: candidates, shadows, challengers, scores, and what stands on a card."""

import json
from dataclasses import asdict
from datetime import timedelta

import pytest
from django.utils import timezone

from audit.models import Generation, JobState, Proposer
from extraction.artifacts import store_folder
from extraction.models import AdapterPromotion, AdapterRole
from tests.factories import (
    make_adapter,
    make_base,
    make_batch,
    make_decision,
    make_evaluation,
    make_evaluation_set,
    make_item,
    make_key,
    make_learning_run,
    make_promotion,
    make_suggestion,
)
from tests.training.learning_pages import address, client, page, press, storage
from training.gate import Asked, Found, Labels, Leaks, compare, decide_gate, measure
from training.models import Evaluation, Refusal, ShadowScore

__all__ = ["client", "storage"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def candidate():
    """An evaluation that the gate passed: on each of 12 reports one unique toxic text more than who serves."""
    reports = list(range(1, 13))
    ours = [Found(report, 0, 2, -0.1, (2 * report, 2 * report + 1)) for report in reports]
    theirs = [Found(report, 0, 2, -0.1, (2 * report,)) for report in reports]
    labels = Labels(dict.fromkeys(range(2, 26), True), set(range(2, 26)))
    measured, baseline = measure(ours, reports, labels), measure(theirs, reports, labels)
    comparison = compare(measured, baseline)
    rules, verdict = decide_gate(
        measured.figures, baseline.figures, comparison, leaks=Leaks(), asked=Asked(0.01, 0.02, 0.9), to_judge=0
    )
    serving = make_adapter("dpo-14", kind="dpo")
    make_promotion(adapter=serving)
    return make_evaluation(
        adapter=make_learning_run(adapter=make_adapter("dpo-15", kind="dpo"), kind="dpo").adapter,
        baseline=serving,
        figures=measured.figures.as_json(),
        baseline_figures=baseline.figures.as_json(),
        comparison=comparison,
        gate=[asdict(rule) for rule in rules],
        verdict=verdict,
    )


@pytest.fixture
def stored_adapter(tmp_path):
    """An adapter whose files are in the storage and belong to its base."""
    base = make_base()
    base_files, files = tmp_path / "base", tmp_path / "adapter"
    for folder in (base_files, files):
        folder.mkdir()
    (base_files / "config.json").write_text("{}")
    base.digest = store_folder(base_files)
    base.save()
    stamp = {key: getattr(base, key) for key in ("weights_hash", "tokenizer_hash", "template_hash", "prompt_version")}
    (files / "training.json").write_text(json.dumps(stamp))
    (files / "adapter_config.json").write_text("{}")
    (files / "adapter_model.safetensors").write_bytes(b"")
    return make_adapter(base=base, digest=store_folder(files))


@pytest.fixture
def compared():
    """Two adapters that have read one text; they agree on one query of two."""
    text = make_item("加微信代开发票").text
    adapters = make_adapter(), make_adapter()
    for adapter, spans in zip(adapters, ([[3, 7, -0.1], [0, 3, -0.2]], [[3, 7, -0.1]]), strict=True):
        Generation.objects.create(item_text=text, adapter=adapter, spans=spans, took_ms=1.0)
    return adapters


def test_a_candidate_stands_beside_who_serves(client, candidate):
    words = page(client)
    assert f"{candidate.adapter} beside {candidate.baseline}" in words
    assert "5 of 5 rules hold" in words
    assert "+12" in words


def test_refusing_needs_a_reason(client, candidate):
    answer = press(client, "decide", candidate.adapter.name, decision="refuse", evaluation=candidate.pk, reason=" ")
    assert answer.status_code == 422
    assert not Refusal.objects.exists()


def test_a_refused_candidate_is_listed_with_the_reason(client, candidate, admin):
    press(client, "decide", candidate.adapter.name, decision="refuse", evaluation=candidate.pk, reason="too broad")
    refusal = Refusal.objects.get()
    assert (refusal.adapter, refusal.reason, refusal.user) == (candidate.adapter, "too broad", admin)
    words = page(client)
    assert "too broad" in words
    assert f"{candidate.adapter} beside" not in words


def test_what_was_refused_may_be_decided_about_when_it_is_measured_again(client, candidate):
    press(client, "decide", candidate.adapter.name, decision="refuse", evaluation=candidate.pk, reason="too broad")
    Evaluation.objects.update(finished=timezone.now() + timedelta(minutes=1))
    assert f"Promote {candidate.adapter}" in page(client)


def test_the_gate_is_not_overridden(client, candidate):
    gate = [rule | {"holds": False} for rule in candidate.gate]
    Evaluation.objects.update(verdict="refuses", gate=gate)
    assert 'value="promote" disabled' in page(client)
    answer = press(client, "decide", candidate.adapter.name, decision="promote", evaluation=candidate.pk, reason="now")
    assert answer.status_code == 409
    assert AdapterPromotion.objects.count() == 1


def test_a_shadow_and_a_challenger_are_made_with_a_reason_and_taken_out(client, stored_adapter):
    press(client, "decide", stored_adapter.name, decision="challenger", reason="try it", share="0.25")
    promotion = AdapterPromotion.objects.last()
    assert (promotion.role, promotion.share) == (AdapterRole.CHALLENGER, 0.25)
    press(client, "decide", stored_adapter.name, decision="leave", reason="enough")
    assert AdapterPromotion.objects.last().adapter is None
    assert "challenger" in page(client, "adapter", stored_adapter.name)


def test_a_rollback_pressed_twice_goes_one_step_back(client):
    first, second, third = make_adapter(), make_adapter(), make_adapter()
    for adapter in (first, second, third):
        make_promotion(adapter=adapter)
    assert 'id="roll-back"' in page(client)
    assert press(client, "rollback", seen=third.name).status_code == 303
    assert press(client, "rollback", seen=third.name).status_code == 409
    assert AdapterPromotion.objects.last().adapter == second


def test_an_adapter_is_evaluated_once_at_a_time(client):
    adapter, test_set = make_adapter(), make_evaluation_set()
    for status in (303, 409):
        assert press(client, "evaluate", adapter.name, evaluation_set=test_set.name).status_code == status
    assert Evaluation.objects.count() == 1


def test_the_card_tells_where_an_adapter_comes_from(client):
    run = make_learning_run()
    words = page(client, "adapter", run.adapter.name)
    assert f"run {run.pk}" in words
    assert str(run.dataset) in words
    assert run.adapter.digest in words


@pytest.fixture
def beside():
    """An adapter that proposes unseen, and the one that serves."""
    shadow, serving = make_adapter("dpo-22"), make_adapter("dpo-21")
    make_promotion(adapter=serving)
    make_promotion(adapter=shadow, role=AdapterRole.SHADOW)
    return shadow, serving


def on_live_reports(client, adapter):
    return page(client, "adapter", adapter.name).partition('id="live-reports"')[2].partition("</section>")[0]


def test_a_shadow_is_scored_once_at_a_time_beside_who_serves(client, beside):
    shadow, serving = beside
    assert "Score what it proposed unseen" in on_live_reports(client, shadow)
    for status in (303, 409):
        assert press(client, "score", shadow.name).status_code == status
    score = ShadowScore.objects.get()
    assert (score.adapter, score.other, score.state) == (shadow, serving, JobState.QUEUED)
    words = on_live_reports(client, shadow)
    assert "It is being scored beside dpo-21" in words
    assert "<form" not in words


def test_a_double_click_is_one_score(client, beside):
    key = make_key()
    for _click in range(2):
        assert client.post(address("score", beside[0].name), {"key": key}).status_code == 303
    assert ShadowScore.objects.count() == 1


def test_what_is_missing_for_a_score_is_said_and_nothing_is_scored(client, beside):
    shadow, serving = beside
    for adapter, words in ((serving, "It serves."), (make_adapter(), "Let it propose unseen or challenge")):
        assert words in on_live_reports(client, adapter)
        assert "<form" not in on_live_reports(client, adapter)
        assert press(client, "score", adapter.name).status_code == 409
    AdapterPromotion.objects.create(adapter=None, role=AdapterRole.SERVING)
    assert "No adapter serves" in on_live_reports(client, shadow)
    assert press(client, "score", shadow.name).status_code == 409
    assert not ShadowScore.objects.exists()


def test_a_score_stands_on_the_card_with_its_counts(client, beside, candidate):
    shadow, serving = beside
    ShadowScore.objects.create(
        adapter=shadow,
        other=serving,
        state=JobState.DONE,
        figures=candidate.figures,
        other_figures=candidate.baseline_figures,
        comparison=candidate.comparison,
        finished=timezone.now(),
    )
    words = on_live_reports(client, shadow)
    assert "dpo-22 beside dpo-21, on 12 confirmed reports" in words
    assert "among 60 reviewed" in words
    assert "+12" in words
    assert "12 / 0 / 0" in words
    assert "1.000, 24 of 24" in words
    assert "1.000, 12 of 12" in words


def test_a_score_that_failed_says_why(client, beside):
    shadow, serving = beside
    ShadowScore.objects.create(
        adapter=shadow, other=serving, state=JobState.FAILED, error="The index is gone.", finished=timezone.now()
    )
    assert "The index is gone." in on_live_reports(client, shadow)


def test_a_challenger_stands_beside_who_serves_by_what_people_decided_since(client):
    champion, challenger = make_adapter("dpo-31"), make_adapter("dpo-32")
    make_promotion(adapter=champion)
    make_promotion(adapter=challenger, role=AdapterRole.CHALLENGER, share=0.5)
    for adapter, role, text, at in (
        (champion, "serving", "before", timezone.now() - timedelta(hours=1)),
        (champion, "serving", "since", timezone.now()),
        (challenger, "challenger", "one", timezone.now()),
        (make_adapter("dpo-33"), "challenger", "another", timezone.now()),
    ):
        batch = make_batch(adapter=adapter, adapter_role=role)
        make_decision(suggestion=make_suggestion(text, batch=batch, proposer=Proposer.MODEL), at=at)
    words = on_live_reports(client, challenger)
    assert words.count("1 of 1") == 2
    assert "dpo-31" in words
    assert "dpo-33" not in words
    assert "1 of 2" not in words
    assert "2 of 2" in on_live_reports(client, champion)


def test_comparing_needs_nothing_and_two_that_read_the_same_show_it(client, compared):
    words = page(client, "compare")
    assert "代开发票" in words
    assert page(client, "compare", a=compared[1].name, b=compared[0].name)


def test_comparing_nothing_says_so(client):
    assert "no report that both have read" in page(client, "compare")


def test_an_evaluation_under_way_or_failed_has_a_page(client):
    for state, error in (("queued", ""), ("failed", "The index is gone.")):
        evaluation = make_evaluation(state=state, error=error, verdict="")
        assert error in page(client, "evaluation", evaluation.pk)

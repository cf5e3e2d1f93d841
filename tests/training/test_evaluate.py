"""An adapter beside the one that serves, on a frozen set of a site: figures by hand, the pool, and later decisions."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from audit.append_only import maintenance_pass
from audit.models import ItemText, JobState, Pool, PoolItem, ReportStatus, Verdict
from audit.presentation.pool import waiting
from audit.services import judge_pool_item
from extraction.artifacts import DamagedArtifact, open_artifact, store_file
from tests.audit.loop import key, make_indexed
from tests.factories import (
    make_adapter,
    make_dataset,
    make_digest,
    make_item,
    make_judgment,
    make_learning_run,
    make_policy,
    make_policy_version,
    make_pool_item,
    make_promotion,
    make_report,
)
from tests.training.proposers import Scripted
from training.evaluate import create_evaluation, decide, decide_what_is_due, evaluate
from training.frozen import freeze
from training.models import Evaluation, GateVerdict, LearningSettings
from training.pooling import close_of_another_baseline, how_many

pytestmark = pytest.mark.django_db

CUTOFF = timezone.now() - timedelta(days=7)
BEFORE, AFTER = CUTOFF - timedelta(days=1), CUTOFF + timedelta(days=1)
REPORTED = "selling forged diploma with hologram, wechat only"


@pytest.fixture(autouse=True)
def places(settings, tmp_path):
    settings.MEDIA_ROOT, settings.VAR_DIR = tmp_path / "media", tmp_path
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"
    make_indexed("an item of today, so that there is an index")
    return tmp_path


def item(text, verdict=None):
    """An item that was live at the cut-off; with a verdict on its text, where one is given."""
    made = make_item(text, text_at=BEFORE, created=BEFORE, imported=BEFORE)
    if verdict is not None:
        make_judgment(pool_item=make_pool_item(item=made), verdict=verdict)
    return made


def report(text=REPORTED, **kwargs):
    return make_report(text=text, **({"opened": AFTER, "status": ReportStatus.CLOSED} | kwargs))


@pytest.fixture
def trained(places):
    """`trained("ours")`: an adapter that a run has made of a dataset without a row."""

    def make(name):
        adapter = make_adapter(name)
        make_learning_run(adapter=adapter, dataset=make_dataset(digest=stored_rows(places)))
        return adapter

    return make


def stored_rows(folder: Path, *texts: str) -> str:
    path = folder / f"rows-{make_digest()[:8]}.jsonl"
    path.write_text("".join(json.dumps({"content": text, "lengths": [len(text)]}) + "\n" for text in texts))
    return store_file(path)


@pytest.fixture
def ours(trained):
    return trained("ours")


@pytest.fixture
def serving(trained):
    adapter = trained("theirs")
    make_promotion(adapter=adapter)
    return adapter


def says(ours=(), theirs=()):
    """What the two adapters propose for the reported text."""
    return Scripted({"ours": {REPORTED: ours}, "theirs": {REPORTED: theirs}})


def run(adapter, proposer, evaluation_set=None):
    evaluation_set = evaluation_set or freeze("t-1", cutoff=CUTOFF)
    return evaluate(create_evaluation(adapter, evaluation_set), proposer_for=proposer)


def judge_waiting(user, verdict=Verdict.TOXIC, most=None):
    for pooled in list(waiting()[:most]):
        judge_pool_item(pool_item=pooled, user=user, verdict=verdict, key=key())


# --- figures --------------------------------------------------------------------------------------------------------


def test_figures_of_both_sides_by_hand(ours, serving):
    for number in range(3):
        item(f"forged diploma number {number}", Verdict.TOXIC)
    item("forged papers", Verdict.NORMAL)
    item("a hologram sticker", Verdict.NORMAL)
    report()
    done = run(ours, says(ours=[("forged diploma", -0.1), ("hologram", -0.5)], theirs=[("forged", -0.2)]))
    assert done.state == JobState.DONE
    mine, other = done.figures, done.baseline_figures
    assert (mine["queries"], mine["effective"], mine["hits"], mine["unique"]) == (2, 1, 3, 3)
    assert (mine["results"], mine["precision"], mine["query_hit_rate"]) == (4, 3 / 4, 1 / 2)
    assert (other["queries"], other["hits"], other["precision"], other["unique"]) == (1, 3, 3 / 4, 3)
    assert done.by_report == {str(done.evaluation_set.reports[0][0]): [3, 3]}
    assert done.comparison["unique"]["ties"] == 1


def test_a_reports_own_item_is_no_find(ours):
    reported = item(REPORTED, Verdict.TOXIC)
    item("forged diploma", Verdict.TOXIC)
    report(item=reported)
    done = run(ours, says(ours=[("forged diploma", -0.1), ("wechat only", -0.2)]))
    assert (done.figures["hits"], done.figures["effective"]) == (1, 1)


def test_the_reported_item_of_another_report_is_a_find(ours):
    reported = item("forged diploma of another report", Verdict.TOXIC)
    report(item=reported)
    report()
    assert run(ours, says(ours=[("forged diploma", -0.1)])).figures["hits"] == 1


def test_nobody_serves_and_the_baseline_is_zero(ours):
    item("forged diploma", Verdict.TOXIC)
    report()
    done = run(ours, says(ours=[("forged diploma", -0.1)]))
    assert done.baseline is None
    assert (done.baseline_figures["queries"], done.baseline_figures["unique"]) == (0, 0)


def test_phrases_that_are_one_query_count_once(ours):
    item("forged diploma", Verdict.TOXIC)
    report("forged diploma, forged  diploma")
    proposer = Scripted(
        {"ours": {"forged diploma, forged  diploma": [("forged diploma", -1), ("forged  diploma", -2)]}}
    )
    assert run(ours, proposer).figures["queries"] == 1


def test_a_disputed_verdict_is_none(ours, auditor, second_auditor):
    disputed = item("forged diploma")
    pooled = make_pool_item(item=disputed)
    make_judgment(pool_item=pooled, user=auditor)
    make_judgment(pool_item=pooled, user=second_auditor, verdict=Verdict.NORMAL)
    report()
    assert run(ours, says(ours=[("forged diploma", -0.1)])).figures["texts_judged"] == 0


def test_toxic_under_any_policy_is_toxic(ours):
    made = item("forged diploma", Verdict.NORMAL)
    make_judgment(pool_item=make_pool_item(item=made))
    report()
    assert run(ours, says(ours=[("forged diploma", -0.1)])).figures["hits"] == 1


def test_each_adapter_is_asked_under_its_own_name_and_progress_is_told(ours, serving):
    item("forged diploma", Verdict.TOXIC)
    report()
    proposer, told = says(), []
    evaluation = create_evaluation(ours, freeze("t-1", cutoff=CUTOFF))
    evaluate(evaluation, proposer_for=proposer, progress=lambda done, total: told.append((done, total)))
    assert proposer.asked == ["ours", "theirs"]
    assert told == [(1, 2), (2, 2)]


def test_what_was_found_is_kept_without_a_word_of_text(ours):
    item("forged diploma", Verdict.TOXIC)
    report()
    done = run(ours, says(ours=[("forged diploma", -0.1)]))
    with open_artifact(done.found) as file:
        kept = file.read().decode()
    assert "diploma" not in kept
    assert "8,22" in kept  # where the phrase stands


def test_what_was_found_is_gone_and_deciding_says_so(ours):
    item("forged diploma", Verdict.TOXIC)
    report()
    done = run(ours, says(ours=[("forged diploma", -0.1)]))
    done.found = make_digest()
    with pytest.raises(DamagedArtifact):
        decide(done)


# --- the gate -------------------------------------------------------------------------------------------------------


def test_more_unique_toxic_texts_on_every_report_pass(ours, serving):
    reports = {}
    for number in range(8):
        word = f"word{number}"
        item(f"{word} for sale", Verdict.TOXIC)
        item(f"a {word} story", Verdict.NORMAL)
        reports[f"{word} for sale here, call"] = word
    for text in reports:
        report(text)
    proposer = Scripted(
        {
            "ours": {text: [(f"{word} for sale", -0.1)] for text, word in reports.items()},
            "theirs": {text: [("call", -0.1)] for text in reports},
        }
    )
    done = run(ours, proposer)
    assert done.verdict == GateVerdict.PASSES
    assert [rule["holds"] for rule in done.gate] == [True] * 5
    assert done.to_judge == 0
    assert not PoolItem.objects.filter(pool__name__startswith="evaluation").exists()


def test_an_adapter_beside_itself_is_refused(serving):
    item("forged diploma", Verdict.TOXIC)
    report()
    done = run(serving, says(theirs=[("forged diploma", -0.1)]))
    assert done.verdict == GateVerdict.REFUSES
    assert [rule["rule"] for rule in done.gate if not rule["holds"]] == ["unique"]


def test_a_leak_refuses_and_nobody_is_asked_to_judge(places):
    adapter = make_adapter("ours")
    make_learning_run(adapter=adapter, dataset=make_dataset(digest=stored_rows(places, REPORTED)))
    item("forged diploma, nobody judged it")
    report()
    done = run(adapter, says(ours=[("forged diploma", -0.1)]))
    assert done.verdict == GateVerdict.REFUSES
    assert not waiting().exists()


# --- the pool -------------------------------------------------------------------------------------------------------


def test_too_little_is_judged_and_what_either_side_found_is_pooled(ours, serving):
    item("forged diploma, judged", Verdict.TOXIC)
    found = [item(f"forged diploma number {number}") for number in range(3)]
    theirs = item("another hologram")
    item("found by nobody")
    reported = report()
    done = run(ours, says(ours=[("forged diploma", -0.1)], theirs=[("hologram", -0.1)]))
    assert done.verdict == GateVerdict.UNDECIDED
    pooled = list(waiting())
    assert {one.item_text_id for one in pooled} == {one.text_id for one in (*found, theirs)}
    assert {one.policy_version for one in pooled} == {reported.policy.current()}
    assert [one.position for one in pooled] == [1, 2, 3, 4]
    assert 0 < done.to_judge <= 4


def test_the_policy_is_that_of_the_report_that_ranked_the_text_highest(ours):
    item("diploma")
    low, high = make_policy("low"), make_policy("high")
    for number in range(2):
        item(f"forged diploma {number}")
    report("a diploma of the first report", policy=low)  # finds it among three
    report("forged diploma of the second report", policy=high)
    make_policy_version(policy=high)
    proposer = Scripted(
        {
            "ours": {
                "a diploma of the first report": [("diploma", -0.1)],
                "forged diploma of the second report": [("forged diploma", -0.1)],
            }
        }
    )
    run(ours, proposer)
    versions = {one.item_text.text: one.policy_version for one in waiting().select_related("item_text")}
    assert versions["diploma"] == low.current()
    assert versions["forged diploma 0"] == high.current()  # rank 1 there; its present wording


def test_an_erased_text_is_not_pooled(ours):
    erased = item("forged diploma, erased")
    item("forged diploma, there")
    report()
    evaluation_set = freeze("t-1", cutoff=CUTOFF)
    run(ours, says(ours=[("forged diploma", -0.1)]), evaluation_set)  # the index is built
    with maintenance_pass("erasure asked by the author"):
        ItemText.objects.filter(pk=erased.text_id).update(text="")
    done = run(ours, says(ours=[("forged diploma", -0.1)]), evaluation_set)
    pooled = PoolItem.objects.filter(pool__name=f"evaluation-{done.pk}")
    assert [one.item_text.text for one in pooled] == ["forged diploma, there"]


@pytest.mark.parametrize(
    ("order", "sides", "judged", "needed"),
    [
        ([], [set(), set()], set(), 0),
        ([1, 2, 3, 4], [{1, 2, 3, 4}, set()], set(), 2),
        ([1, 2, 3, 4], [{1, 2}, {3, 4}], set(), 3),  # 1 helps the first, then 2 nobody any more, then 3
        ([1, 2, 3, 4], [{1, 2, 9}, {3, 4, 8}], {9, 8}, 3),
        ([1], [{1, 2, 3, 4}, set()], set(), 1),  # the others are in dispute: not even all of them do
    ],
)
def test_how_many_more_to_judge(order, sides, judged, needed):
    assert how_many(order, sides, judged, at_least=0.5) == needed


# --- deciding later -------------------------------------------------------------------------------------------------


@pytest.fixture
def undecided(ours, serving):
    """Ten texts found by ours, none judged; theirs found nothing."""
    for number in range(10):
        item(f"forged diploma number {number}")
    report()
    return run(ours, says(ours=[("forged diploma", -0.1)]))


def test_it_says_how_many_and_decides_when_they_are_judged(undecided, auditor):
    assert undecided.to_judge == 9
    judge_waiting(auditor, most=8)
    assert decide_what_is_due() == []
    judge_waiting(auditor, most=1)
    assert decide_what_is_due() == [undecided]
    undecided.refresh_from_db()
    assert undecided.verdict != GateVerdict.UNDECIDED
    assert undecided.figures["hits"] == 9


def test_what_is_left_is_not_asked_for_once_it_is_decided(undecided, auditor):
    judge_waiting(auditor, most=9)
    decide_what_is_due()
    assert not waiting().exists()
    assert decide_what_is_due() == []


def test_cant_tell_lets_the_gate_decide_too(undecided, auditor):
    judge_waiting(auditor, Verdict.CANT_TELL, most=9)
    (done,) = decide_what_is_due()
    assert done.verdict == GateVerdict.REFUSES
    assert done.figures["precision"] is None


def test_verdicts_given_elsewhere_count_as_well(undecided):
    for pooled in list(waiting())[:9]:
        make_judgment(pool_item=make_pool_item(item=pooled.item_text.item))
    assert len(decide_what_is_due()) == 1


def test_looking_again_too_early_says_how_few_are_missing(undecided, auditor):
    judge_waiting(auditor, most=8)
    assert decide(undecided).to_judge == 1
    assert waiting().count() == 2
    judge_waiting(auditor, most=1)
    assert len(decide_what_is_due()) == 1


def test_a_lower_threshold_is_a_setting(undecided, auditor):
    settings = LearningSettings.load()
    settings.judged_at_least = 0.2
    settings.save()
    judge_waiting(auditor, most=2)
    assert decide(undecided).verdict != GateVerdict.UNDECIDED


def test_one_who_decides_late_does_not_undo_a_newer_decision(undecided, auditor):
    late = Evaluation.objects.get(pk=undecided.pk)
    judge_waiting(auditor, most=9)
    (decided,) = decide_what_is_due()
    assert decide(late).finished == decided.finished


def test_the_same_adapter_measured_again_closes_the_earlier_pool(undecided):
    again = run(undecided.adapter, says(ours=[("forged diploma", -0.1)]), undecided.evaluation_set)
    assert list(Pool.objects.filter(name__startswith="evaluation", closed=None)) == [
        Pool.objects.get(name=f"evaluation-{again.pk}")
    ]


def test_a_baseline_that_serves_no_more_closes_its_pool(undecided, serving):
    close_of_another_baseline(serving.pk)
    assert waiting().exists()
    close_of_another_baseline(undecided.adapter_id)
    assert not waiting().exists()

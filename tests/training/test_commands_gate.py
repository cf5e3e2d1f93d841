"""`evaluate`, `promote` and `rollback`: one line a result, and an error with the figures where the gate refuses."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from audit.models import ReportStatus, Verdict
from extraction.artifacts import store_file
from extraction.models import AdapterRole
from extraction.registry import adapter_in
from tests.audit.loop import make_indexed
from tests.extraction.adapters import stored_adapter
from tests.factories import (
    make_dataset,
    make_evaluation,
    make_item,
    make_judgment,
    make_learning_run,
    make_pool_item,
    make_report,
)
from tests.tiny import need_learning_stack
from tests.training.proposers import Scripted
from training.models import Evaluation, EvaluationSet, GateVerdict

pytestmark = pytest.mark.django_db

CUTOFF = timezone.now() - timedelta(days=7)
WORDS = [f"word{number}" for number in range(8)]


def call(name, *args, **options):
    out = StringIO()
    call_command(name, *args, stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


@pytest.fixture
def adapter(settings, tmp_path):
    """An adapter whose files are there, trained on a dataset without a row."""
    settings.MEDIA_ROOT, settings.ARTIFACT_CACHE = tmp_path / "media", tmp_path / "cache"
    settings.VAR_DIR, settings.SEARCH_FILE = tmp_path, tmp_path / "search.sqlite3"
    made = stored_adapter(tmp_path, name="dpo-1")
    (tmp_path / "rows.jsonl").write_text("")
    make_learning_run(adapter=made, dataset=make_dataset(digest=store_file(tmp_path / "rows.jsonl")))
    return made


@pytest.fixture
def site(adapter, monkeypatch):
    """Eight reports, each with a toxic text to find; the model's voice is written down."""
    need_learning_stack()
    make_indexed("an item of today, so that there is an index")
    before = CUTOFF - timedelta(days=1)
    for word in WORDS:
        found = make_item(f"{word} for sale", text_at=before, created=before, imported=before)
        make_judgment(pool_item=make_pool_item(item=found), verdict=Verdict.TOXIC)
        make_report(text=f"{word} here", opened=CUTOFF + timedelta(days=1), status=ReportStatus.CLOSED)
    said = {adapter.name: {f"{word} here": [(word, -0.1)] for word in WORDS}}
    monkeypatch.setattr("training.jobs.Proposers", lambda: Scripted(said))
    return adapter


# --- evaluate -------------------------------------------------------------------------------------------------------


def test_evaluate_freezes_a_set_measures_and_says_what_the_gate_says(site):
    said = call("evaluate", "dpo-1", set="t-1", cutoff=CUTOFF.isoformat())
    lines = said.splitlines()
    assert lines[0] == "dpo-1 beside nobody on t-1: 8 reports"
    assert " ".join(lines[1].split()) == "unique toxic texts 8 0 +8 [+8, +8] 8 wins, 0 ties, 0 losses"
    assert sum(line.startswith("holds") for line in lines) == 5
    assert lines[-1] == "The gate passes."
    assert EvaluationSet.objects.get().name == "t-1"


def test_evaluate_takes_the_newest_set(site):
    call("evaluate", "dpo-1", set="t-1", cutoff=CUTOFF.isoformat())
    call("evaluate", "dpo-1")
    assert Evaluation.objects.filter(evaluation_set__name="t-1", verdict=GateVerdict.PASSES).count() == 2


def test_evaluate_ends_with_an_error_where_the_gate_refuses_or_waits(site, monkeypatch):
    before = CUTOFF - timedelta(days=1)
    make_item("unjudged word0", text_at=before, created=before, imported=before)
    make_item("unjudged word1", text_at=before, created=before, imported=before)
    with pytest.raises(CommandError, match="Undecided: 1 more"):
        call("evaluate", "dpo-1", set="t-1", cutoff=CUTOFF.isoformat())
    monkeypatch.setattr("training.jobs.Proposers", lambda: Scripted({}))
    with pytest.raises(CommandError, match="The gate refuses"):
        call("evaluate", "dpo-1", set="t-1")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "no such test set"),
        ({"set": "t-9"}, "no such test set"),
        ({"cutoff": "2026-01-01"}, "needs --set"),
        ({"set": "t-1", "cutoff": "soon"}, "is no time"),
        ({"set": "t-1", "cutoff": "2026-01-01T00:00:00"}, "No report"),
    ],
)
def test_evaluate_without_a_set_says_what_to_do(adapter, options, sentence):
    with pytest.raises(CommandError, match=sentence):
        call("evaluate", "dpo-1", **options)


# --- promote and rollback -------------------------------------------------------------------------------------------


def test_promote_lets_serve_what_the_gate_passed_and_rollback_takes_it_back(adapter):
    make_evaluation(adapter=adapter)
    assert call("promote", "dpo-1", reason="better") == "dpo-1 serves now, nobody served before.\n"
    assert adapter_in(AdapterRole.SERVING) == adapter
    assert call("rollback", reason="odd") == "nobody serves again, dpo-1 no more.\n"
    assert adapter_in(AdapterRole.SERVING) is None


def test_promote_refuses_with_the_figures(adapter):
    figures = {"texts": 3, "where": {"dataset sft-1": 3}, "unknown": [], "reports": 8}
    gate = [{"rule": "leak", "holds": False, "figures": figures}]
    make_evaluation(adapter=adapter, verdict=GateVerdict.REFUSES, gate=gate)
    with pytest.raises(CommandError, match="one of the 8 test reports: 3"):
        call("promote", "dpo-1")
    assert adapter_in(AdapterRole.SERVING) is None


@pytest.mark.parametrize("name", ["evaluate", "promote"])
def test_an_adapter_that_is_not_there_is_an_error(db, name):
    with pytest.raises(CommandError, match="no adapter 'dpo-7'"):
        call(name, "dpo-7")


def test_nothing_to_roll_back_is_an_error(db):
    with pytest.raises(CommandError, match="nothing to go back to"):
        call("rollback")

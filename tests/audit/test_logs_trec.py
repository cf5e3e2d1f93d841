"""TREC files: ir_measures reads them, and agrees with the measures of this project on the same rows."""

import ir_measures
import pytest
from ir_measures import Judged, NumRet, P, Success

from audit.logs import FileRequest, Privacy, Pseudonyms, Window, get_stream, write_file
from audit.models import DecisionKind, ExportFormat, Verdict
from tests import factories as make
from training.metrics import Ranking, aggregate, query_figures

pytestmark = pytest.mark.django_db

PRIVACY = Privacy(Pseudonyms("one secret"))
TOXIC, NORMAL, CANT_TELL = Verdict.TOXIC, Verdict.NORMAL, Verdict.CANT_TELL


def run_showing(*verdicts, decisions=None, **kwargs):
    """A run that showed one item for each verdict (None: unjudged), in this order."""
    place = make.make_exploration(decisions=decisions).queries.get()
    run = make.make_run(exploration_query=place, **kwargs)
    for verdict in verdicts:
        exposure = make.make_exposure(run=run)
        if verdict:
            make.make_judgment(exposure=exposure, verdict=verdict)
    return run


def lines(name):
    return [" ".join(map(str, row.values())) for row in get_stream(name).rows(PRIVACY)]


def texts_by_rank(run):
    return tuple(run.exposures.order_by("rank").values_list("item_text_id", flat=True))


def written(name, tmp_path):
    request = FileRequest(get_stream(name), ExportFormat.TREC, Window(), PRIVACY)
    write_file(request, tmp_path / request.name)
    return str(tmp_path / request.name)


# --- the run file ---------------------------------------------------------------------------------------------------


def test_run_file_has_a_line_an_exposure_with_falling_scores():
    run = run_showing(None, TOXIC)
    first, second = (exposure.item_text_id for exposure in run.exposures.order_by("rank"))
    assert lines("trec_run") == [
        f"run-{run.pk} Q0 text-{first} 1 1.0 human",
        f"run-{run.pk} Q0 text-{second} 2 0.5 human",
    ]


def test_lines_of_a_run_stand_together_though_its_pages_were_opened_at_different_times():
    first, second = run_showing(None), run_showing(None)
    make.make_exposure(run=first)
    topics = [row["query"] for row in get_stream("trec_run").rows(PRIVACY)]
    assert topics == [f"run-{first.pk}"] * 2 + [f"run-{second.pk}"]


def tags(run):
    return {row["tag"] for row in get_stream("trec_run").rows(PRIVACY) if row["query"] == f"run-{run.pk}"}


def test_tag_is_who_made_the_query():
    batch = make.make_batch(suggester="search", suggester_version="3 with risk 2")
    suggestion = make.make_suggestion("假文凭", batch=batch)
    accepted = make.make_decision(suggestion=suggestion)
    own = make.make_decision(query=suggestion.query)
    edited = make.make_decision(suggestion=make.make_suggestion("办证", batch=batch), kind=DecisionKind.EDITED)
    assert tags(run_showing(None, decisions=[accepted])) == {"search:3_with_risk_2"}
    assert tags(run_showing(None, decisions=[edited])) == {"human"}
    assert tags(run_showing(None, decisions=[accepted, own])) == {"human"}


# --- qrels ----------------------------------------------------------------------------------------------------------


def test_toxic_is_1_and_normal_is_0():
    run = run_showing(TOXIC, NORMAL)
    assert [line.split()[3] for line in lines("trec_qrels")] == ["1", "0"]
    assert lines("trec_qrels")[0] == f"run-{run.pk} 0 text-{run.exposures.first().item_text_id} 1"


def test_unjudged_and_cant_tell_and_a_disagreement_are_absent():
    run = run_showing(None, CANT_TELL, TOXIC)
    disputed = run.exposures.last()
    judgment = disputed.judgments.get()
    make.make_judgment(exposure=disputed, verdict=NORMAL, policy_version=judgment.policy_version)
    assert lines("trec_qrels") == []
    assert len(lines("trec_run")) == 3


def test_toxic_under_one_policy_is_toxic():
    exposure = run_showing(NORMAL).exposures.get()
    make.make_judgment(exposure=exposure, verdict=TOXIC, policy_version=make.make_policy().current())
    assert [line[-1] for line in lines("trec_qrels")] == ["1"]


def test_verdict_made_on_another_exposure_of_the_text_counts():
    exposure = run_showing(TOXIC).exposures.get()
    other = run_showing()
    make.make_exposure(run=other, item=exposure.item)
    assert len(lines("trec_qrels")) == 2


# --- with the tools -------------------------------------------------------------------------------------------------


def test_ir_measures_agrees_with_our_measures(tmp_path):
    shown = [
        [TOXIC, NORMAL, None, TOXIC],
        [NORMAL, None, CANT_TELL],
        [TOXIC] * 60 + [None] * 30 + [NORMAL] * 20,
        [NORMAL],
    ]
    runs = [run_showing(*verdicts) for verdicts in shown]
    ranking = list(ir_measures.read_trec_run(written("trec_run", tmp_path)))
    qrels = list(ir_measures.read_trec_qrels(written("trec_qrels", tmp_path)))
    theirs = {}
    for metric in ir_measures.iter_calc([P @ 100, Success @ 100, Judged @ 100, NumRet], qrels, ranking):
        theirs[metric.query_id, str(metric.measure)] = metric.value

    ours = [Ranking("r", "q", texts_by_rank(run)) for run in runs]
    verdicts = {int(one.doc_id.removeprefix("text-")): bool(one.relevance) for one in qrels}
    for run, one in zip(runs, ours, strict=True):
        topic, figures = f"run-{run.pk}", query_figures(one, verdicts)
        assert theirs[topic, "P@100"] == pytest.approx(figures.hits / 100)
        assert theirs[topic, "Success@100"] == figures.is_effective
        assert theirs[topic, "Judged@100"] == pytest.approx(1 - figures.unjudged / figures.retrieved)
        assert theirs[topic, "NumRet"] == len(one.ids)
    whole = aggregate(ours, verdicts)
    assert sum(100 * theirs[f"run-{run.pk}", "P@100"] for run in runs) == pytest.approx(whole.hits)
    assert sum(theirs[f"run-{run.pk}", "Success@100"] for run in runs) == whole.effective == 2


def test_order_is_by_score_for_tools_that_drop_the_rank(tmp_path):
    run = run_showing(*[None] * 120)
    ranking = ir_measures.read_trec_run(written("trec_run", tmp_path))
    by_score = [one.doc_id for one in sorted(ranking, key=lambda one: -one.score)]
    assert by_score == [f"text-{text}" for text in texts_by_rank(run)]

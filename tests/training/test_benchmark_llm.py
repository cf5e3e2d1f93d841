"""The language models of the benchmark: trained on the train split alone, once, and played in three ways."""

from dataclasses import replace

import pytest

from tests.tiny import need_learning_stack
from training.benchmark import llm
from training.benchmark.evaluator import Bench, run_method
from training.benchmark.llm import Models, Stage
from training.benchmark.options import Options
from training.benchmark.readings import risk_of
from training.benchmark.suggester import scored_trials
from training.benchmark.suites import IndexKind, load_suite
from training.datasets.builders import build_d_pol, build_ranked_pol
from training.datasets.pairs import Drops

from .tiny_suite import SECRET, make_suite

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    need_learning_stack()
    patch = pytest.MonkeyPatch()
    patch.setattr(llm, "PROFILE", "tiny")
    patch.setattr(llm, "RECIPE", "tiny")
    patch.setattr(llm, "RECIPE_OWN", "tiny")
    patch.setattr(llm, "RECIPE_LISTS", "small-pro")
    yield
    patch.undo()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = make_suite(tmp_path_factory.mktemp("suites") / "tiny", size=720)
    work = tmp_path_factory.mktemp("work")
    return Bench(load_suite(folder), tmp_path_factory.mktemp("indexes"), options=Options(work=work))


@pytest.fixture(scope="module")
def task(bench):
    return bench.task("test", IndexKind.STD)


@pytest.fixture(scope="module")
def models(task):
    return llm._models(task.training, task.work, task.seed, None, risk_of(task))


def test_pairs_are_phrases_of_train_reports_with_what_the_log_holds(models, task):
    texts = {report.text for report in task.training.reports}
    assert models._pairs
    assert all(pair.text in texts and pair.phrase in pair.text for pair in models._pairs)
    assert all(0 <= pair.evidence.toxic <= pair.evidence.judged for pair in models._pairs)
    assert not any(SECRET in pair.text + pair.phrase + pair.policy for pair in models._pairs)


def test_report_that_gave_a_phrase_is_no_evidence_for_it(models, task):
    pair = models._pairs[0]
    matching = [item for item in task.training.items if task.analysis.matches(item.text, pair.key, "phrase")]
    givers = [other for other in models._pairs if other.key == pair.key]
    assert pair.evidence.judged <= len(matching) - len(givers)


def test_held_out_reports_are_in_no_dataset(models):
    held_out = {pair.text for pair in models._eligible(is_held_out=True)}
    assert held_out
    assert held_out.isdisjoint(pair.text for pair in models._eligible())


@pytest.mark.parametrize("stage", [Stage.BASE, Stage.SFT])
def test_proposals_are_verbatim_distinct_and_ten_at_most(models, task, stage):
    for report, own in zip(task.reports, models.proposals(stage, task.reports), strict=True):
        assert len({one.text for one in own}) == len(own) <= 10
        assert all(report.text[one.start : one.end] == one.text for one in own)


def test_models_are_made_once_and_found_again(models, task):
    models.proposals(Stage.SFT, task.reports)
    again = Models(task.training, task.work, seed=task.seed, epochs=None, risk=risk_of(task))
    made = (models._folder / "sft" / "adapter_model.safetensors").stat().st_mtime_ns
    assert again.proposals(Stage.SFT, task.reports) == models.proposals(Stage.SFT, task.reports)
    assert (again._folder / "sft" / "adapter_model.safetensors").stat().st_mtime_ns == made


def test_another_seed_has_models_of_its_own(models, task):
    other = Models(task.training, task.work, seed=1, epochs=None, risk=risk_of(task))
    assert other._folder != models._folder


def test_own_queries_are_paired_best_against_worst(models):
    rows = list(build_d_pol(models._own_queries(), models._options, Drops()))
    assert rows
    assert all(row["chosen_scores"][0][0] > row["rejected_scores"][0][0] for row in rows)
    assert all(row["chosen_queries"][0] in row["content"] for row in rows)


def test_own_queries_are_ranked_for_pro_and_it_moves_the_adapter(models, task):
    """The list-wise adapter starts as the SFT adapter and says something else afterwards."""
    rows = list(build_ranked_pol(models._own_queries(), models._options, Drops()))
    assert rows
    assert all(row["rewards"] == sorted(row["rewards"], reverse=True) for row in rows)
    sft, pro = (models.proposals(stage, task.reports) for stage in (Stage.SFT, Stage.PRO))
    assert [[one.confidence for one in own] for own in pro] != [[one.confidence for one in own] for own in sft]


def test_likelihood_of_held_out_queries_lies_beside_the_model(models, task):
    models.proposals(Stage.SFT, task.reports)
    assert "held_out_nll_per_character" in (models._folder / "sft.json").read_text()


def test_alone_each_report_plays_one_query(bench, task):
    row = run_method(bench, "test", IndexKind.STD, "llm-sft", task, bench.suite.answers("test", IndexKind.STD))
    assert 0 < row.queries <= row.reports


def test_tried_and_beside_search_play_what_was_tried(task):
    one = llm.tried_one(Stage.SFT, task)
    assert len({query.report for query in one.queries}) == len(one.queries)
    assert {query.text for query in one.queries} <= {
        trial.candidate.text for own in llm._trials(Stage.SFT, task) for trial in own
    }
    searched = {trial.candidate.text for own in scored_trials(task, risk_of(task)) for trial in own}
    said = {trial.candidate.text for own in llm._trials(Stage.SFT, task) for trial in own}
    both = {query.text for query in llm.beside_search(Stage.SFT, task).queries}
    assert both & searched
    assert both <= searched | said


def test_the_models_own_word_can_count_beside_what_a_query_retrieves(task):
    def chosen(choice):
        return {query.report: query.text for query in choice.queries}

    assert chosen(llm.weighed(0.0, task)) == chosen(llm.tried_one(Stage.POL, task))
    loud = chosen(llm.weighed(20.0, task))
    for report, own in zip(task.reports, llm._trials(Stage.POL, task), strict=True):
        said = {trial.candidate.text: trial.candidate.confidence for trial in own if trial.first}
        if said:
            assert said[loud[report.id]] > max(said.values()) - 1.0


def test_control_tries_ten_phrases_of_the_report_without_a_model(task):
    for report, own in zip(task.reports, llm._drawn_trials(task), strict=True):
        assert 0 < len(own) <= 10
        assert all(trial.candidate.text in report.text for trial in own)
    assert llm.drawn_beside_search(task).queries


def test_dataset_without_a_row_is_said(models, task, monkeypatch):
    monkeypatch.setattr(models, "_options", replace(models._options, min_judged_preferred=10**6))
    with pytest.raises(llm.MethodUnavailable, match="sft-dpo was not trained"):
        models._adapter(Stage.DPO)

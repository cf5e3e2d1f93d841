"""Whole builds: from a small log to a file, its card and its digest."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.indexing import index_items
from audit.models import Item, Policy
from audit.risk_training import refit
from extraction.generation import LocalModel
from extraction.prompts import get_prompt
from extraction.search import get_engine
from extraction.search.base import SearchRequest
from extraction.text import MatchMode
from tests.factories import (
    make_adapter,
    make_decision,
    make_evaluation_set,
    make_item,
    make_judgment,
    make_policy,
    make_report,
)
from tests.tiny import base_folder, tiny_adapter
from tests.training.small_log import APRIL, JUNE, MAY, confirmed, exposed, own, run_of
from training.datasets import Built, NothingToBuild, Options, OptionsError, Reward, build, preview, read_rows
from training.datasets.policy import Sampler
from training.models import DatasetKind

__all__ = ["base_folder"]

pytestmark = pytest.mark.django_db

SMALL = Options(until=MAY, min_judged_preferred=1, min_judged_dispreferred=1)


@pytest.fixture
def log():
    """Two similar reports of one policy and one of another; of the first two one phrase is toxic, one is not."""
    fraud, goods = make_policy("fraud"), make_policy("goods")
    first = confirmed("办理毕业证书加微信一", policy=fraud)
    exposed(run_of(own(first, "毕业证书")), "他的毕业证书", "我的毕业证书", verdict="toxic")
    second = confirmed("办理毕业证书加微信二", policy=fraud)
    exposed(run_of(own(second, "加微信")), "朋友加微信", verdict="normal")
    own(confirmed("出售高仿名表", policy=goods), "高仿名表")


def built(kind: DatasetKind, tmp_path: Path, options: Options = SMALL, **kwargs) -> Built:
    return build(kind, options, out=tmp_path / f"{kind}.jsonl", **kwargs)


def queries(result: Built) -> list[list[str]]:
    return [row["queries"] for row in read_rows(result.path)]


# --- files ----------------------------------------------------------------------------------------------------------


def test_d_is_written_row_by_row_with_its_digest(log, tmp_path):
    result = built(DatasetKind.SFT, tmp_path)
    assert queries(result) == [["毕业证书"], ["加微信"], ["高仿名表"]]
    assert (result.rows_in, result.rows_out, result.dropped) == (3, 3, {})
    assert result.digest == hashlib.sha256(result.path.read_bytes()).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["sft.jsonl"]


def test_d_cat_joins_each_group(log, tmp_path):
    result = built(DatasetKind.CAT, tmp_path)
    assert queries(result) == [["毕业证书", "加微信"], ["高仿名表"]]
    assert (result.rows_in, result.rows_out) == (3, 2)
    assert {name: result.card[name] for name in ("groups", "mean_pairs", "of_one_pair", "largest")} == {
        "groups": 2,
        "mean_pairs": 1.5,
        "of_one_pair": 1,
        "largest": 2,
    }


def test_union_is_d_and_what_d_cat_adds(log, tmp_path):
    result = built(DatasetKind.UNION, tmp_path)
    assert queries(result) == [["毕业证书"], ["加微信"], ["高仿名表"], ["毕业证书", "加微信"]]
    assert (result.rows_out, result.dropped) == (4, {"same_as_pair": 1})


def test_d_comp_sets_what_found_toxic_items_against_what_did_not(log, tmp_path):
    result = built(DatasetKind.COMP, tmp_path)
    (row,) = read_rows(result.path)
    assert (row["chosen_queries"], row["rejected_queries"]) == (["毕业证书"], ["加微信"])
    assert (row["chosen_scores"], row["rejected_scores"]) == ([[1.0, 2]], [[0.0, 1]])
    assert result.dropped == {"one_sided": 1}


def test_d_comp2_has_a_threshold_of_zero(log, tmp_path):
    result = built(DatasetKind.COMP2, tmp_path)
    assert result.rows_out == 1
    assert result.card["options"]["threshold"] == 0.0


def test_ranked_list_comes_from_the_log(log, tmp_path):
    result = built(DatasetKind.LIST, tmp_path)
    (row,) = read_rows(result.path)
    assert row["candidate_queries"] == [["毕业证书"], ["加微信"]]
    assert row["rewards"] == [1.0, 0.0]


def test_every_decision_is_in_a_row_or_counted(log, tmp_path):
    report = confirmed("低价代开发票")
    own(report, "不在文中")
    make_decision(undoes=own(report, "代开"), at=APRIL)
    own(make_report(text="没有确认"), "没有")
    result = built(DatasetKind.SFT, tmp_path)
    assert result.rows_in == result.rows_out + sum(result.dropped.values()) == 6
    assert result.dropped == {"undone": 1, "unconfirmed": 1, "not_in_text": 1}


def test_clusters_of_the_evaluation_set_stay_out(log, tmp_path):
    excluded = make_evaluation_set("frozen", reports=[make_report(text="办理毕业证书加微信三")], cutoff=MAY)
    result = built(DatasetKind.SFT, tmp_path, excluded=excluded)
    assert queries(result) == [["高仿名表"]]
    assert (result.dropped, result.card["excluded"]) == ({"evaluation": 2}, "frozen")
    assert result.card["is_before_cutoff"] is True
    later = built(DatasetKind.SFT, tmp_path, Options(until=JUNE), excluded=excluded)
    assert later.card["is_before_cutoff"] is False


# --- the same again -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in DatasetKind if kind != DatasetKind.POL])
def test_same_log_and_options_give_the_same_digest(log, tmp_path, kind):
    first = built(kind, tmp_path)
    assert built(kind, tmp_path).digest == first.digest
    assert built(kind, tmp_path).card == first.card


def test_longer_log_gives_the_same_digest_for_the_same_until(log, tmp_path):
    first = built(DatasetKind.COMP, tmp_path)
    report = confirmed("办理毕业证书加微信三")
    own(report, "毕业证书", at=JUNE)
    make_judgment(item_text=make_item("加微信四").text, at=JUNE)
    make_decision(undoes=own(report, "微信三", at=JUNE), at=JUNE)
    assert built(DatasetKind.COMP, tmp_path).digest == first.digest


def test_without_until_the_card_says_when_it_was(log, tmp_path):
    result = built(DatasetKind.SFT, tmp_path, Options())
    assert result.card["options"]["until"] is not None
    assert result.rows_out == 3


# --- nothing, previews, ends ----------------------------------------------------------------------------------------


def test_empty_log_says_what_to_do(tmp_path):
    with pytest.raises(NothingToBuild, match=r"nobody decided on a query.*Explore reports first"):
        built(DatasetKind.SFT, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_log_without_reports_says_so_to_who_wants_candidates(tmp_path):
    options = Options(until=MAY, reward=Reward.PRECISION)
    with pytest.raises(NothingToBuild, match="no report was judged"):
        built(DatasetKind.POL, tmp_path, options, adapter=make_adapter(), proposer=DRAWS)


def test_log_of_which_nothing_is_left_says_why(tmp_path):
    own(make_report(text="没有确认"), "没有")
    with pytest.raises(NothingToBuild, match=r"its report is not confirmed 1.*Confirm reports"):
        built(DatasetKind.SFT, tmp_path)


def test_preferences_without_verdicts_say_what_to_judge(log, tmp_path):
    with pytest.raises(NothingToBuild, match=r"group without both sides 2.*Judge more"):
        built(DatasetKind.COMP, tmp_path, Options(until=MAY))


@pytest.mark.parametrize("kind", [kind for kind in DatasetKind if kind != DatasetKind.POL])
def test_preview_counts_what_a_build_gives(log, tmp_path, kind):
    seen = preview(kind, SMALL)
    result = built(kind, tmp_path)
    assert (seen.rows_in, seen.rows_out, seen.dropped) == (result.rows_in, result.rows_out, result.dropped)
    assert seen.card == result.card


def test_preview_of_an_empty_log_is_zero():
    seen = preview(DatasetKind.COMP, SMALL)
    assert (seen.rows_in, seen.rows_out, seen.dropped) == (0, 0, {})


def test_build_that_is_stopped_leaves_nothing(log, tmp_path):
    def stop(step: str, _count: int) -> None:
        if step == "rows":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        built(DatasetKind.SFT, tmp_path, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_progress_may_write_to_the_database_meanwhile(log, tmp_path):
    def note(step: str, _count: int) -> None:
        Policy.objects.create(key=f"{step}-{Policy.objects.count()}", name=step)

    result = built(DatasetKind.CAT, tmp_path, progress=note)
    assert result.rows_out == 2
    assert {"judgments", "decisions", "groups"} <= set(Policy.objects.values_list("name", flat=True))


def test_progress_names_its_steps(log, tmp_path):
    steps = []
    built(DatasetKind.CAT, tmp_path, progress=lambda step, _count: steps.append(step))
    assert list(dict.fromkeys(steps)) == ["judgments", "exposures", "texts", "decisions", "groups", "rows"]


# --- D_pol ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    text: str


class Scripted:
    """Draws, for every text, the queries of a script that stand in it; notes what it was asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[tuple[object, ...]] = []

    def sample(self, texts, adapter, *, count, temperature, seed):
        self.asked.append((list(texts), adapter, count, temperature, seed))
        return [[[Said(query) for query in answer if query in text] for answer in self.answers] for text in texts]


DRAWS = Scripted(["毕业证书", "加微信"], ["毕业证书"], ["书", "高仿，名表"])


@pytest.fixture
def search_file(settings, tmp_path):
    settings.SEARCH_FILE = tmp_path / "index" / "search.sqlite3"
    settings.SEARCH_FILE.parent.mkdir()


@pytest.fixture
def indexed(log, search_file):
    """Everything of the log in the index, and a risk model fitted on its verdicts."""
    for number in range(12):
        make_judgment(item_text=make_item(f"代办毕业证书快速出图{number}").text, at=APRIL)
        make_judgment(item_text=make_item(f"朋友周末一起爬山吧{number}").text, verdict="normal", at=APRIL)
    index_items(Item.objects.values_list("pk", flat=True))
    get_engine().refresh()
    refit()


def test_best_of_the_adapters_own_candidates_stands_against_the_worst(indexed, tmp_path):
    result = built(DatasetKind.POL, tmp_path, adapter=make_adapter("sft-1"), proposer=DRAWS)
    rows = list(read_rows(result.path))
    assert [(row["chosen_queries"], row["rejected_queries"]) for row in rows] == [(["毕业证书"], ["加微信"])] * 2
    assert (result.rows_in, result.rows_out, result.dropped) == (3, 2, {"few_candidates": 1})
    assert result.card["adapter"] == "sft-1"


def test_reported_item_does_not_count_for_its_own_candidates(indexed, tmp_path):
    result = built(DatasetKind.POL, tmp_path, adapter=make_adapter(), proposer=DRAWS)
    page = get_engine().search(SearchRequest(text="毕业证书", mode=MatchMode.PHRASE, live=None))
    assert next(read_rows(result.path))["chosen_scores"][0][1] == len(page.hits) - 1


def test_adapter_is_asked_with_the_settings_of_the_build(indexed, tmp_path):
    draws = Scripted(["毕业证书", "加微信"])
    options = Options(until=MAY, samples=3, temperature=1.5, seed=9)
    built(DatasetKind.POL, tmp_path, options, adapter=make_adapter("sft-1"), proposer=draws)
    ((texts, *asked),) = draws.asked
    assert texts == ["办理毕业证书加微信一", "办理毕业证书加微信二", "出售高仿名表"]
    assert asked == ["sft-1", 3, 1.5, 9]


def test_candidates_can_be_scored_by_the_precision_of_the_log(log, tmp_path):
    options = Options(until=MAY, reward=Reward.PRECISION, min_judged_preferred=1)
    result = built(DatasetKind.POL, tmp_path, options, adapter=make_adapter(), proposer=DRAWS)
    first, second = read_rows(result.path)
    assert (first["chosen_queries"], first["chosen_scores"]) == (["毕业证书"], [[1.0, 2]])
    assert (second["rejected_queries"], second["rejected_scores"]) == (["加微信"], [[0.0, 1]])


def test_ranked_list_of_an_adapters_candidates(indexed, tmp_path):
    result = built(DatasetKind.LIST, tmp_path, adapter=make_adapter(), proposer=DRAWS)
    rows = list(read_rows(result.path))
    assert [row["candidate_queries"] for row in rows] == [[["毕业证书"], ["加微信"]]] * 2
    assert all(row["rewards"] == [1.0, 0.0] for row in rows)


def test_preview_of_candidates_counts_the_reports(log):
    seen = preview(DatasetKind.POL, SMALL)
    assert (seen.rows_in, seen.rows_out) == (3, None)


def test_candidates_need_an_adapter(log, tmp_path):
    with pytest.raises(OptionsError):
        built(DatasetKind.POL, tmp_path)


def test_candidates_cannot_be_scored_without_a_risk_model(log, tmp_path):
    with pytest.raises(NothingToBuild, match="No risk model serves"):
        built(DatasetKind.POL, tmp_path, adapter=make_adapter(), proposer=DRAWS)


def test_candidates_that_are_all_alike_say_what_to_change(log, tmp_path):
    options = Options(until=MAY, reward=Reward.PRECISION)
    with pytest.raises(NothingToBuild, match=r"fewer than two candidates.*higher temperature"):
        built(DatasetKind.POL, tmp_path, options, adapter=make_adapter(), proposer=DRAWS)


@pytest.mark.slow
def test_a_real_model_draws_candidates(indexed, base_folder, tmp_path):
    model = LocalModel.open(base_folder, prompt=get_prompt(), device="cpu")
    model.load_adapter("tiny", tiny_adapter(tmp_path / "adapter", base_folder))
    sampler: Sampler = model
    options = Options(until=MAY, max_length=4, gap=0.0)
    result = built(DatasetKind.POL, tmp_path, options, adapter=make_adapter("tiny"), proposer=sampler)
    rows = list(read_rows(result.path))
    assert rows
    assert all(row["chosen_queries"][0] in row["content"] for row in rows)
    assert all(row["chosen_scores"][0][0] > row["rejected_scores"][0][0] for row in rows)

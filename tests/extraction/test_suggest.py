"""The suggester `search`: phrases from the text, tried in one batch, the best ones proposed."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extraction import risk
from extraction.search.base import Counts, Hit, Order, SearchPage, SearchRequest
from extraction.suggest import (
    Candidate,
    Trial,
    candidates,
    expected_share,
    merge,
    play_order,
    propose,
    proposed_candidates,
    rescore,
    try_on_index,
)
from extraction.text import MatchMode, get_analysis

QX = get_analysis("qx-1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def toy_risk() -> risk.RiskModel:
    toxic = ["加微信办毕业证", "快速办证加微信", "代办毕业证", "buy cheap pills online now", "cheap pills here"]
    normal = ["今天天气不错", "晚上吃什么", "微信运动", "see you at the office", "what a lovely day here"]
    return risk.fit(toxic + normal, [1] * 5 + [0] * 5, [1.0] * 10)


def candidate(text: str = "办证", **kwargs) -> Candidate:
    return Candidate(text, 0, len(text), QX.key(text, MatchMode.PHRASE), MatchMode.PHRASE, 0.0, **kwargs)


def trial(text: str, risks: dict[int, float]) -> Trial:
    return Trial(candidate(text), Counts(len(risks), 0, 0, 0), tuple(risks), tuple(risks.values()))


@dataclass
class OneBatchEngine:
    """Answers each phrase with the same hits, and remembers what it was asked."""

    risks: list[float | None]
    batches: list[list[SearchRequest]] = field(default_factory=list)

    def msearch(self, requests):
        self.batches.append(list(requests))
        hits = tuple(Hit(id, value, NOW, True, (0, id)) for id, value in enumerate(self.risks, start=1))
        page = SearchPage(hits, Counts(len(hits), 2, 0, 0), True, "g1", "qx-1", 0.1)
        return [page] * len(requests)


# --- candidates


def test_candidates_are_verbatim_pieces_of_the_raw_text():
    text = "急！办 毕業证，加V.x:abc123"
    found = candidates(text, analysis=QX, risk=toy_risk(), limit=500)
    assert found
    assert all(text[each.start : each.end] == each.text for each in found)


def test_key_of_a_candidate_is_the_key_of_its_text():
    text = "急！办 毕業证，加Ｖ.x:abc123 ㍿办证 e\u0301t\u200bre"
    found = candidates(text, analysis=QX, risk=toy_risk(), limit=500)
    assert all(each.key == QX.key(each.text, each.mode) for each in found)


@given(st.text(alphabet="加微信ABCｖ１ \u200b.,*。㍿ﬁ\u0301ß😀❤\ufe0fΣς薇", max_size=14))
def test_key_of_a_candidate_is_the_key_of_its_text_whatever_the_disguise(text):
    for each in candidates(text, analysis=QX, risk=None, limit=1000):
        assert text[each.start : each.end] == each.text
        assert each.key == QX.key(each.text, each.mode)


def test_candidates_have_2_to_4_tokens():
    found = candidates("今天天气不错晚上吃什么微信运动", analysis=QX, risk=toy_risk(), limit=1000)
    assert {len(each.key.split()) for each in found} == {2, 3, 4}


def test_candidates_of_spaced_text_have_1_to_5_words():
    text = "buy cheap pills online now and see what a lovely day"
    found = candidates(text, analysis=QX, risk=toy_risk(), limit=1000)
    assert {len(each.key.split()) for each in found} == set(range(1, 6))


def test_candidates_are_distinct_after_normalisation():
    found = candidates("办证 办证 办證 办.证", analysis=QX, risk=toy_risk(), limit=1000)
    assert len({each.key for each in found}) == len(found)


def test_masked_values_never_enter_a_candidate():
    found = candidates("转账到*办毕业证", analysis=get_analysis("bench-zh-1"), risk=toy_risk(), limit=1000)
    assert found
    assert not any("*" in each.text or "*" in each.key for each in found)


def test_candidates_come_by_the_risk_inside_them():
    found = candidates("今天天气不错，代办毕业证", analysis=QX, risk=toy_risk(), limit=3)
    assert all("毕业" in each.text for each in found)
    assert [each.weight for each in found] == sorted((each.weight for each in found), reverse=True)


def test_weight_is_the_sum_of_gram_weights_over_the_root_of_the_length():
    model = toy_risk()
    found = candidates("代办毕业证", analysis=QX, risk=model, limit=100)
    for each in found:
        tokens = each.key.split()
        assert each.weight == pytest.approx(model.weight_of(tokens) / len(tokens) ** 0.5, abs=1e-4)


def test_phrases_foreign_to_the_risk_model_come_last():
    found = candidates("毕业证龘龘", analysis=QX, risk=toy_risk(), limit=100)
    foreign = ["龘" in each.text for each in found]
    assert foreign == sorted(foreign)


def test_at_most_the_limit_comes_back():
    assert len(candidates("今天天气不错晚上吃什么微信运动" * 2, analysis=QX, risk=toy_risk())) == 40


@pytest.mark.parametrize("text", ["", "。。。", "*", "证"])
def test_text_without_a_phrase_has_no_candidate(text):
    assert candidates(text, analysis=QX, risk=toy_risk()) == []


def test_without_a_risk_model_short_phrases_come_first():
    found = candidates("今天天气不错", analysis=QX, risk=None, limit=3)
    assert [each.text for each in found] == ["今天", "天天", "天气"]


# --- what an adapter proposed


def test_proposed_phrases_become_candidates_in_their_order():
    text = "急！代办毕业证，加V信"
    found = proposed_candidates(text, [(4, 7, -0.5), (8, 11, -1.5)], analysis=QX)
    assert [(each.text, each.confidence, each.by_search) for each in found] == [
        ("毕业证", -0.5, False),
        ("加V信", -1.5, False),
    ]


def test_a_proposed_phrase_shrinks_to_whole_tokens():
    text = "cheap pills, online now"
    (found,) = proposed_candidates(text, [(2, 13, -1.0)], analysis=QX)
    assert (found.text, text[found.start : found.end]) == ("pills", "pills")


@pytest.mark.parametrize("span", [(0, 0), (2, 4), (5, 6), (11, 14), (90, 95)])
def test_a_proposed_phrase_without_a_whole_token_is_left_out(span):
    assert proposed_candidates("cheap ! 转账到*办", [(*span, -1.0)], analysis=get_analysis("bench-zh-1")) == []


def test_a_proposed_phrase_longer_than_a_query_may_be_is_left_out():
    assert proposed_candidates("a b " * 60, [(0, 240, -1.0)], analysis=QX) == []


def test_proposed_phrases_that_are_equal_after_normalisation_are_one():
    (found,) = proposed_candidates("办证 辦.证", [(0, 2, -0.1), (3, 6, -0.2)], analysis=QX)
    assert (found.text, found.confidence) == ("办证", -0.1)


@given(
    st.text(alphabet="加微信ABCｖ１ \u200b.,*。㍿ﬁ½\u0301ß😀❤\ufe0fΣς薇", max_size=14),
    st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14))),
)
def test_a_proposed_phrase_is_verbatim_and_its_key_is_that_of_its_text(text, places):
    for each in proposed_candidates(text, [(*place, -1.0) for place in places], analysis=QX):
        assert text[each.start : each.end] == each.text
        assert each.key == QX.key(each.text, each.mode)


def test_a_phrase_that_both_propose_stands_once_with_the_confidence():
    ngrams = [candidate("办证"), candidate("毕业")]
    proposed = proposed_candidates("辦证 微信", [(0, 2, -0.3), (3, 5, -0.4)], analysis=QX)
    merged = [(each.text, each.by_search, each.confidence) for each in merge(ngrams, proposed)]
    assert merged == [("办证", True, -0.3), ("毕业", True, None), ("微信", False, -0.4)]


# --- trials


def test_all_candidates_go_to_the_index_in_one_batch():
    engine = OneBatchEngine([0.5])
    try_on_index([candidate("办证"), candidate("毕业")], engine)
    assert [[request.text for request in batch] for batch in engine.batches] == [["办证", "毕业"]]


def test_trial_asks_for_the_newest_hundred_live_items():
    engine = OneBatchEngine([0.5])
    try_on_index([candidate()], engine)
    request = engine.batches[0][0]
    assert (request.order, request.size, request.live) == (Order.RECENT, 100, True)


def test_trial_keeps_counts_ids_and_risks():
    (found,) = try_on_index([candidate()], OneBatchEngine([0.5, None, 0.25]))
    assert (found.first, found.risks, found.counts.removed) == ((1, 2, 3), (0.5, 0.0, 0.25), 2)


def test_rescore_puts_new_risks_and_keeps_what_it_does_not_know():
    before = trial("办证", {1: 0.1, 2: 0.2})
    (after,) = rescore([before], {2: 0.9})
    assert after == replace(before, risks=(0.1, 0.9))


# --- proposals


def test_score_is_the_risk_of_the_unseen_over_their_number_and_one():
    assert expected_share(trial("办证", {7: 0.9, 8: 0.6, 9: 0.1}), {8}) == (pytest.approx(1.0 / 3), 2)


def test_riskier_results_are_proposed_first():
    found = propose([trial("甲", {1: 0.2, 2: 0.2}), trial("乙", {3: 0.9, 4: 0.9})], seen=set(), floor=0.0)
    assert [(each.candidate.text, each.rank) for each in found] == [("乙", 1), ("甲", 2)]


def test_one_lucky_result_does_not_beat_many_good_ones():
    one, many = trial("甲", {1: 0.95}), trial("乙", dict.fromkeys(range(2, 12), 0.8))
    assert [each.candidate.text for each in propose([one, many], seen=set(), floor=0.0)] == ["乙", "甲"]


def test_seen_items_count_for_nothing():
    seen_one, new_one = trial("甲", {1: 0.9, 2: 0.9}), trial("乙", {3: 0.4, 4: 0.4})
    found = propose([seen_one, new_one], seen={1, 2}, floor=0.0)
    assert [each.candidate.text for each in found] == ["乙"]


def test_forecast_counts_the_unseen_and_the_overlap():
    accepted = {3, 4}
    (found,) = propose([trial("甲", {1: 0.9, 2: 0.9, 3: 0.9, 5: 0.9})], seen={1}, accepted=accepted, floor=0.0)
    assert (found.unseen, found.overlap, found.novelty) == (3, 1, 0.5)


def test_phrase_that_only_repeats_an_earlier_proposal_is_left_out():
    first = trial("毕业证", dict.fromkeys(range(10), 0.9))
    nearly = trial("毕业证书", dict.fromkeys(range(1, 9), 0.9))
    assert [each.candidate.text for each in propose([first, nearly], seen=set(), floor=0.0)] == ["毕业证"]


def test_phrase_that_only_repeats_accepted_queries_is_left_out():
    nearly = trial("毕业证", dict.fromkeys(range(10), 0.9))
    assert propose([nearly], seen=set(), accepted=set(range(9)), floor=0.0) == []


def test_nothing_is_proposed_when_nothing_reaches_the_floor():
    assert propose([trial("甲", {1: 0.01, 2: 0.02})], seen=set(), floor=0.1) == []


def test_phrase_without_a_match_is_never_proposed():
    assert propose([trial("甲", {})], seen=set(), floor=0.0) == []


def test_no_more_than_the_limit_is_proposed():
    trials = [trial(str(at), {2 * at: 0.9, 2 * at + 1: 0.9}) for at in range(20)]
    assert len(propose(trials, seen=set(), limit=3, floor=0.0)) == 3


def test_of_two_phrases_that_retrieve_the_same_the_longer_is_proposed():
    found = propose([trial("办证", {1: 0.9, 2: 0.9}), trial("办证件", {1: 0.9, 2: 0.9})], seen=set(), floor=0.0)
    assert [each.candidate.text for each in found] == ["办证件"]


def test_equal_scores_of_equal_length_keep_the_order_of_the_trials():
    trials = [trial(name, {at: 0.5}) for at, name in enumerate("丙甲乙")]
    assert [each.candidate.text for each in propose(trials, seen=set(), floor=0.0)] == ["丙", "甲", "乙"]


# --- a whole queue


def test_queue_is_played_by_what_is_new_over_all_reports():
    shared = dict.fromkeys(range(10), 0.9)
    reports = [[trial("甲", shared)], [trial("乙", shared), trial("丙", {20: 0.5, 21: 0.5})]]
    assert [(play.report, play.trial.candidate.text) for play in play_order(reports, floor=0.0)] == [
        (0, "甲"),
        (1, "丙"),
    ]


def test_a_report_gets_at_most_its_share_of_queries():
    reports = [[trial(str(at), {at: 0.9}) for at in range(5)], [trial("乙", {9: 0.1})]]
    plays = play_order(reports, most=2, floor=0.0)
    assert [play.report for play in plays] == [0, 0, 1]


def test_a_report_with_nothing_worth_it_gets_no_query():
    plays = play_order([[trial("甲", {1: 0.01})], [trial("乙", {2: 0.9})]], floor=0.2)
    assert [play.report for play in plays] == [1]


def test_play_order_does_not_change_what_was_given():
    seen = {5}
    play_order([[trial("甲", {1: 0.9})]], seen=seen, floor=0.0)
    assert seen == {5}

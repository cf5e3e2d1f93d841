"""The pure builders, on pairs written by hand; the rows follow from eq. (1), (2) and (4)."""

from collections.abc import Sequence
from typing import Any

import pytest

from extraction.prompts import get_prompt
from training.datasets.builders import (
    Candidate,
    Scored,
    build_added,
    build_d,
    build_d_cat,
    build_d_comp,
    build_d_pol,
    build_ranked,
    build_ranked_pol,
    eligible,
    grouped,
)
from training.datasets.card import PairFigures
from training.datasets.options import Mix, Options, OptionsError
from training.datasets.pairs import DropReason, Drops, Evidence, Pair, Side, side_of

ZH = get_prompt("zh-1")
GOOD, BAD = Evidence(toxic=3, judged=5), Evidence(toxic=1, judged=20)  # p = 0.6 of 5, p = 0.05 of 20


def make_pair(text: str = "低价代开发票加微信", phrase: str = "加微信", **kwargs: Any) -> Pair:
    return Pair(**{"id": "1-1", "text": text, "phrase": phrase, "key": " ".join(phrase)} | kwargs)


def kept(pairs: Sequence[Pair], **options: Any) -> tuple[list[str], dict[DropReason, int]]:
    """The phrases that D keeps of these pairs, and the drops."""
    drops = Drops()
    for_preferences = options.pop("for_preferences", False)
    found = eligible(pairs, Options(**options), drops, for_preferences=for_preferences)
    return [pair.phrase for pair in found], dict(drops)


# --- D, eq. (1) -----------------------------------------------------------------------------------------------------


def test_row_of_d_has_the_columns_of_trl_and_ours():
    (row,) = build_d([make_pair(id="7-9", policy="fraud")], Options(), Drops())
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert "低价代开发票加微信" in row["prompt"][1]["content"]
    assert row["completion"] == [{"role": "assistant", "content": ZH.lead_in + "加微信"}]
    assert (row["id"], row["policy"], row["source"]) == ("7-9", "fraud", "human")
    assert (row["content"], row["queries"], row["lengths"]) == ("低价代开发票加微信", ["加微信"], [9])


def test_phrase_of_two_to_ten_characters_is_kept_whatever_it_found():
    text = "一二三四五六七八九十百"
    pairs = [make_pair(text, text[:length]) for length in (1, 2, 10, 11)]
    assert kept(pairs) == ([text[:2], text[:10]], {DropReason.TOO_SHORT: 1, DropReason.TOO_LONG: 1})


def test_without_max_length_a_long_phrase_needs_an_exposure():
    text = "一二三四五六七八九十百千"
    pairs = [
        make_pair(text, text[:10]),
        make_pair(text, text[:11]),
        make_pair(text, text[:12], evidence=Evidence(shown=1)),
    ]
    assert kept(pairs, max_length=None) == ([text[:10], text[:12]], {DropReason.NOTHING_EXPOSED: 1})


def test_length_counts_words_in_spaced_languages():
    text = "buy cheap genuine looking diplomas from us today without any waiting at all"
    words = text.split()
    phrases = [" ".join(words[:10]), " ".join(words[:11]), "diplomas", "b"]
    pairs = [make_pair(text, phrase, key=phrase) for phrase in phrases]
    expected = [" ".join(words[:10]), "diplomas"]
    assert kept(pairs) == (expected, {DropReason.TOO_LONG: 1, DropReason.TOO_SHORT: 1})


def test_phrase_must_stand_in_the_text_verbatim():
    assert kept([make_pair("加.微.信办证", "加微信")]) == ([], {DropReason.NOT_IN_TEXT: 1})


@pytest.mark.parametrize("phrase", ["开发票，加微信", "发票\n加微信"])
def test_phrase_that_an_answer_cannot_hold_is_dropped(phrase):
    assert kept([make_pair(f"低价{phrase}", phrase)]) == ([], {DropReason.UNSAYABLE: 1})


def test_equal_phrase_of_the_same_text_is_kept_once():
    pairs = [make_pair(id="1-1"), make_pair(id="2-5"), make_pair("加微信办证", id="3-1")]
    assert kept(pairs) == (["加微信", "加微信"], {DropReason.REPEATED: 1})


MODEL = {"source": "model", "suggester": "search", "kind": "accepted"}


def test_model_query_is_learned_only_with_a_hit():
    pairs = [
        make_pair(phrase="加微信", **MODEL),
        make_pair(phrase="代开发票", evidence=Evidence(toxic=1, judged=9), **MODEL),
        make_pair(phrase="低价代开", evidence=Evidence(toxic=0, judged=9)),
    ]
    assert kept(pairs) == (["代开发票", "低价代开"], {DropReason.MIX: 1})
    assert kept(pairs, mix=Mix.ALL) == (["加微信", "代开发票", "低价代开"], {})
    assert kept(pairs, mix=Mix.HUMAN) == (["低价代开"], {DropReason.MIX: 2})


def test_preferences_learn_from_model_queries_without_a_hit_too():
    pairs = [make_pair(**MODEL, evidence=Evidence(toxic=0, judged=30))]
    assert kept(pairs, for_preferences=True) == (["加微信"], {})
    assert kept(pairs, for_preferences=True, mix=Mix.HUMAN) == ([], {DropReason.MIX: 1})


def test_the_mix_decides_before_repeats_are_dropped():
    pairs = [make_pair(**MODEL), make_pair(id="2-1")]
    assert kept(pairs) == (["加微信"], {DropReason.MIX: 1})


def test_english_prompt_separates_by_its_own_comma():
    pair = make_pair("cheap diploma, with stamp", "diploma, with", key="diploma with")
    assert kept([pair], prompt_version="en-1") == ([], {DropReason.UNSAYABLE: 1})
    assert kept([pair]) == (["diploma, with"], {})


# --- D_cat, eq. (2) -------------------------------------------------------------------------------------------------


def group_of(count: int, **kwargs: Any) -> list[Pair]:
    return [
        make_pair(f"文本{number:02}微信{number:02}", f"微信{number:02}", id=str(number), **kwargs)
        for number in range(count)
    ]


def test_texts_and_phrases_of_a_group_are_joined_by_commas():
    group = [
        make_pair("低价代开发票加微信", "代开发票", id="a"),
        make_pair("低价代开发票加微信", "加微信", id="b"),
        make_pair("办证请加微信", "办证", id="c", source="model"),
    ]
    (row,) = build_d_cat([group], Options(), Drops())
    assert row["content"] == "低价代开发票加微信，办证请加微信"
    assert row["queries"] == ["代开发票", "加微信", "办证"]
    assert row["completion"][0]["content"] == "关键词：\n代开发票，加微信，办证"
    assert (row["id"], row["source"], row["lengths"]) == ("a+1", "mixed", [9, 6])


def test_up_to_twenty_different_texts_are_sampled():
    (row,) = build_d_cat([group_of(23)], Options(), Drops())
    assert len(row["lengths"]) == len(row["queries"]) == 20
    texts = row["content"].split("，")
    assert len(set(texts)) == 20
    assert texts == sorted(texts)  # in the order of the group


def test_sample_depends_on_the_seed_and_its_own_group_alone():
    first, second = group_of(23), [make_pair("别的文本加微信", id="z")]
    alone = list(build_d_cat([first], Options(), Drops()))
    assert list(build_d_cat([second, first], Options(), Drops()))[1] == alone[0]
    assert list(build_d_cat([first], Options(seed=1), Drops())) != alone


def test_equal_phrases_of_a_sample_are_said_once():
    group = [
        make_pair("办证加微信", id="a"),
        make_pair("贷款加微信", id="b"),
        make_pair("贷款加.微.信", "加.微.信", id="c", key="加 微 信"),
    ]
    (row,) = build_d_cat([group], Options(), Drops())
    assert row["queries"] == ["加微信"]


def test_sample_takes_no_more_than_fits():
    group = group_of(10)  # 8 + 4 characters each, and one comma behind each text and phrase
    (row,) = build_d_cat([group], Options(max_characters=56), Drops())
    assert len(row["lengths"]) == 4
    assert len(row["content"]) + len("，".join(row["queries"])) <= 56


def test_group_of_which_no_text_fits_is_a_counted_drop():
    drops = Drops()
    assert list(build_d_cat([[make_pair("一" * 30 + "加微信")]], Options(max_characters=20), drops)) == []
    assert drops == {DropReason.NO_ROOM: 1}


def test_union_adds_no_sample_that_is_a_row_of_d():
    drops = Drops()
    pair = make_pair()
    two = [make_pair(phrase="代开发票", id="2-1"), make_pair(phrase="加微信", id="2-2")]
    rows = list(build_added([[pair], two], Options(), drops))
    assert [row["queries"] for row in rows] == [["代开发票", "加微信"]]
    assert drops == {DropReason.SAME_AS_PAIR: 1}


def test_groups_go_by_policy_and_similarity():
    pairs = [make_pair(f"办理毕业证书当天出图第{number}号", "毕业证书", id=number, policy="a") for number in "一二三四"]
    pairs += [make_pair("办理毕业证书当天出图第五号", "毕业证书", id="五", policy="b")]
    assert [[pair.id for pair in group] for group in grouped(pairs, Options())] == [["一", "二", "三", "四"], ["五"]]


# --- D_comp, eq. (4) ------------------------------------------------------------------------------------------------


def make_side(toxic: int, judged: int, **options: Any) -> Side:
    return side_of(Evidence(toxic=toxic, judged=judged), Options(**options))


def test_preferred_has_more_than_a_twentieth_of_five_judged():
    assert make_side(1, 5) is Side.PREFERRED
    assert make_side(1, 4) is Side.UNKNOWN
    assert make_side(2, 39) is Side.PREFERRED  # 5.1 %


def test_dispreferred_has_at_most_a_twentieth_of_twenty_judged():
    assert make_side(1, 20) is Side.DISPREFERRED  # 5 % exactly
    assert make_side(0, 20) is Side.DISPREFERRED
    assert make_side(0, 19) is Side.UNKNOWN
    assert make_side(0, 5) is Side.UNKNOWN  # says nothing about 5 %


def test_nothing_judged_is_unknown():
    assert make_side(0, 0) is Side.UNKNOWN


def test_threshold_of_d_comp2_is_zero():
    assert make_side(1, 100, threshold=0.0) is Side.PREFERRED
    assert make_side(1, 100) is Side.DISPREFERRED
    assert make_side(0, 100, threshold=0.0) is Side.DISPREFERRED


def test_wilson_bound_takes_phrases_from_both_sides():
    # 1 of 5: 3.6 % to 62 %; 3 of 5: 23 % to 88 %; 0 of 20: 0 to 16 %; 0 of 80: 0 to 4.6 %
    assert make_side(1, 5, use_wilson=True) is Side.UNKNOWN
    assert make_side(3, 5, use_wilson=True) is Side.PREFERRED
    assert make_side(0, 20, use_wilson=True) is Side.UNKNOWN
    assert make_side(0, 80, use_wilson=True) is Side.DISPREFERRED


def test_preferred_phrases_of_a_group_stand_against_dispreferred_ones():
    group = [
        make_pair("低价代开发票加微信", "代开发票", id="a", evidence=GOOD),
        make_pair("低价代开发票加微信", "加微信", id="b", evidence=BAD),
        make_pair("办证请加扣扣", "办证", id="c", evidence=GOOD),
        make_pair("天气不错", "天气", id="d", evidence=Evidence(toxic=0, judged=19)),
    ]
    (row,) = build_d_comp([group], Options(), Drops())
    assert row["content"] == "低价代开发票加微信，办证请加扣扣"  # the text without a known phrase is left out
    assert (row["chosen_queries"], row["rejected_queries"]) == (["代开发票", "办证"], ["加微信"])
    assert row["chosen"][0]["content"] == "关键词：\n代开发票，办证"
    assert row["rejected"][0]["content"] == "关键词：\n加微信"
    assert row["chosen_scores"] == [(0.6, 5), (0.6, 5)]
    assert row["rejected_scores"] == [(0.05, 20)]


def test_group_without_both_sides_is_a_counted_drop():
    drops = Drops()
    groups = [group_of(3, evidence=GOOD), group_of(3, evidence=BAD), group_of(3)]
    assert list(build_d_comp(groups, Options(), drops)) == []
    assert drops == {DropReason.ONE_SIDED: 3}


def test_sample_of_a_large_group_keeps_both_sides():
    good = group_of(60, evidence=GOOD)
    bad = make_pair("别的文本办证", "办证", id="bad", evidence=BAD)
    (row,) = build_d_comp([[*good, bad]], Options(), Drops())
    assert len(row["lengths"]) == 20
    assert row["rejected_queries"] == ["办证"]


def test_group_whose_sides_do_not_fit_together_is_a_counted_drop():
    drops = Drops()
    group = [make_pair(evidence=GOOD), make_pair("一" * 18 + "办证", "办证", id="b", evidence=BAD)]
    assert list(build_d_comp([group], Options(max_characters=30), drops)) == []
    assert drops == {DropReason.NO_ROOM: 1}


# --- ranked lists ---------------------------------------------------------------------------------------------------


def test_ranked_list_orders_the_phrases_of_a_group_by_precision():
    group = [
        make_pair("低价代开发票加微信", "加微信", id="a", evidence=Evidence(toxic=1, judged=10)),
        make_pair("低价代开发票加微信", "代开发票", id="b", evidence=Evidence(toxic=9, judged=10)),
        make_pair("办证请加扣扣", "办证", id="c", evidence=Evidence(toxic=5, judged=10)),
        make_pair("办证请加扣扣", "扣扣", id="d"),
    ]
    (row,) = build_ranked([group], Options(), Drops())
    assert row["candidate_queries"] == [["代开发票"], ["办证"], ["加微信"]]
    assert row["candidates"][0] == [{"role": "assistant", "content": "关键词：\n代开发票"}]
    assert row["rewards"] == pytest.approx([1.0, 0.5, 0.0])
    assert row["candidate_scores"] == [(0.9, 10), (0.5, 10), (0.1, 10)]


def test_list_without_a_difference_is_a_counted_drop():
    drops = Drops()
    assert list(build_ranked([group_of(4, evidence=GOOD), group_of(4)], Options(), drops)) == []
    assert drops == {DropReason.NO_GAP: 1, DropReason.FEW_CANDIDATES: 1}


# --- D_pol ----------------------------------------------------------------------------------------------------------


def make_scored(*scores: float) -> Scored:
    candidates = tuple(Candidate(f"词{number}", score, 10 + number) for number, score in enumerate(scores))
    return Scored("7", "词0词1词2词3", "fraud", candidates)


def test_best_candidate_stands_against_the_worst():
    (row,) = build_d_pol([make_scored(0.2, 0.9, 0.0, 0.9)], Options(), Drops())
    assert (row["chosen_queries"], row["rejected_queries"]) == (["词1"], ["词2"])
    assert (row["chosen_scores"], row["rejected_scores"]) == ([(0.9, 11)], [(0.0, 12)])
    assert (row["id"], row["source"], row["content"]) == ("7", "model", "词0词1词2词3")


def test_pair_needs_a_gap_and_two_candidates():
    drops = Drops()
    scored = [make_scored(0.5, 0.55), make_scored(0.5), make_scored()]
    assert list(build_d_pol(scored, Options(gap=0.06), drops)) == []
    assert drops == {DropReason.NO_GAP: 1, DropReason.FEW_CANDIDATES: 2}


def test_long_list_keeps_best_and_worst_and_spreads_the_rest():
    (row,) = build_ranked_pol([make_scored(0.1, 0.2, 0.3, 0.4, 0.5)], Options(list_size=3), Drops())
    assert row["candidate_queries"] == [["词4"], ["词2"], ["词0"]]
    assert row["rewards"] == pytest.approx([1.0, 0.5, 0.0])


# --- card and options -----------------------------------------------------------------------------------------------


def test_card_says_how_many_phrases_the_wilson_bound_takes_away():
    pairs = [
        make_pair(phrase="加微信", evidence=Evidence(toxic=1, judged=5)),
        make_pair(phrase="加微信", id="2-1", evidence=Evidence(toxic=1, judged=5)),
        make_pair(phrase="代开发票", evidence=Evidence(toxic=4, judged=5)),
        make_pair(phrase="低价", evidence=Evidence(toxic=0, judged=25)),
    ]
    figures = PairFigures(Options())
    assert list(figures.passing(pairs)) == pairs
    card = figures.as_json()
    assert card["queries_by_side"] == {"preferred": 2, "dispreferred": 1, "unknown": 0}
    assert card["wilson_takes_away"] == {"preferred": 1, "dispreferred": 1}
    assert (card["pairs"], card["distinct_queries"]) == (4, 3)


def test_card_gives_shares_with_their_counts():
    figures = PairFigures(Options())
    list(figures.passing([make_pair(), make_pair(), make_pair(), make_pair(**MODEL)]))
    card = figures.as_json()
    assert card["by_source"] == {"human": {"count": 3, "share": 0.75}, "model": {"count": 1, "share": 0.25}}
    assert card["by_suggester"]["search"] == {"count": 1, "share": 0.25}
    assert (card["mean_text_length"], card["mean_query_length"]) == (9.0, 3.0)


def test_options_travel_through_json():
    options = Options(max_length=None, mix=Mix.HUMAN, seed=4)
    assert Options.from_json(options.as_json()) == options
    assert Options.from_json({}) == Options()


@pytest.mark.parametrize(
    "values",
    [
        {"max_length": 1},
        {"max_length": "10"},
        {"threshold": 1.0},
        {"threshold": 0.0, "use_wilson": True},
        {"list_size": 1},
        {"mix": "some"},
        {"prompt_version": "xx-1"},
        {"until": "2026-01-01T00:00:00"},
        {"until": "yesterday"},
        {"no_such": 1},
    ],
)
def test_wrong_options_are_refused(values):
    with pytest.raises(OptionsError):
        Options.from_json(values)

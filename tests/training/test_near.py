"""Near-duplicate clusters and groups, on texts whose 3-grams can be counted by hand."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extraction.text import MatchMode, get_analysis
from training.near import NEAR, groups, near_duplicate_clusters, near_to

A = "a b c d e f"  # 3-grams abc bcd cde def
NEXT = "a b c d e x"  # shares 3 of 4, Jaccard 3 / 5
HALF = "a b c d y z"  # shares 2 of 4, Jaccard 2 / 6
FAR = "p q r s t u"


def test_texts_that_share_half_of_their_3_grams_are_one_cluster():
    clusters = near_duplicate_clusters({1: A, 2: NEXT, 3: FAR})
    assert clusters[1] == clusters[2] != clusters[3]


def test_exactly_half_is_near():
    # 3-grams abc bcd against abc bcd cde def: 2 of 4
    clusters = near_duplicate_clusters({1: "a b c d", 2: A})
    assert clusters[1] == clusters[2]


def test_less_than_half_is_not_near():
    clusters = near_duplicate_clusters({1: A, 2: HALF})
    assert clusters[1] != clusters[2]


def test_texts_are_linked_through_others():
    # NEXT shares 3 of 5 with A, and abc bcd of abc bcd cde dex with HALF ∪ … : the link is "a b c d e"
    link = "a b c d"
    assert len(set(near_duplicate_clusters({1: A, 2: HALF}).values())) == 2
    assert len(set(near_duplicate_clusters({1: A, 2: HALF, 3: link}).values())) == 1


def test_texts_are_compared_after_normalisation():
    clusters = near_duplicate_clusters({1: "加微信办证件", 2: "加.微.信，辦證件！", 3: "出售二手书桌"})
    assert clusters[1] == clusters[2] != clusters[3]


def test_short_texts_are_near_only_to_equal_ones():
    clusters = near_duplicate_clusters({1: "加微", 2: "加，微", 3: "加信", 4: "加微信"})
    assert clusters[1] == clusters[2]
    assert len(set(clusters.values())) == 3


def test_texts_without_a_token_are_each_alone():
    clusters = near_duplicate_clusters({1: "", 2: "", 3: "！！"})
    assert len(set(clusters.values())) == 3


def test_no_texts_give_no_clusters():
    assert near_duplicate_clusters({}) == {}


def test_key_depends_neither_on_ids_nor_on_order():
    first = near_duplicate_clusters({1: A, 2: NEXT, 3: FAR})
    again = near_duplicate_clusters({30: FAR, 20: A, 10: NEXT})
    assert [first[1], first[3]] == [again[20], again[30]]
    assert again[10] == again[20]


def brute_force(texts: dict[int, str]) -> set[frozenset[int]]:
    """Clusters by comparing every pair."""
    rules = get_analysis()
    sets = {id_: grams_of(rules.tokens(text, MatchMode.PHRASE)) for id_, text in texts.items()}
    clusters = {id_: {id_} for id_ in texts}
    for one in texts:
        for other in texts:
            both, either = sets[one] & sets[other], sets[one] | sets[other]
            if either and len(both) >= NEAR * len(either) and clusters[one] is not clusters[other]:
                clusters[one] |= clusters[other]
                for member in clusters[one]:
                    clusters[member] = clusters[one]
    return {frozenset(cluster) for cluster in clusters.values()}


def grams_of(tokens: list[str]) -> set[tuple[str, ...]]:
    return {tuple(tokens[at : at + 3]) for at in range(max(1, len(tokens) - 2))} if tokens else set()


def partition(clusters: dict[int, str]) -> set[frozenset[int]]:
    return {frozenset(id_ for id_ in clusters if clusters[id_] == key) for key in clusters.values()}


_texts = st.lists(st.text(alphabet="abc 加微", max_size=14), max_size=12).map(
    lambda texts: {number: " ".join(text) for number, text in enumerate(texts)}
)


@settings(max_examples=60, deadline=None)
@given(_texts)
def test_clusters_are_those_of_comparing_every_pair(texts):
    assert partition(near_duplicate_clusters(texts)) == brute_force(texts)


@settings(max_examples=60, deadline=None)
@given(_texts, st.integers(1, 4))
def test_near_to_finds_the_clusters_of_the_seeds(texts, count):
    seeds = [texts[number] for number in range(min(count, len(texts)))]
    together = near_duplicate_clusters(texts | {-1 - number: seed for number, seed in enumerate(seeds)})
    keys = {together[-1 - number] for number, seed in enumerate(seeds) if seed.strip()}
    assert near_to(seeds, texts.items()) == {id_ for id_ in texts if together[id_] in keys}


def test_near_to_follows_links_through_other_texts():
    assert near_to([HALF], [(1, "a b c d"), (2, A), (3, FAR)]) == {1, 2}


def test_nothing_is_near_to_no_seed():
    assert near_to([], [(1, A)]) == near_to([""], [(1, "")]) == frozenset()
    assert near_to([A], []) == frozenset()


def test_clusters_are_the_same_in_small_steps(monkeypatch):
    draw = random.Random(3)
    texts = {number: " ".join(draw.choices("abcd", k=9)) for number in range(120)}
    whole = near_duplicate_clusters(texts)
    monkeypatch.setattr("training.near._CANDIDATES", 50)
    monkeypatch.setattr("training.near._CHECKED", 7)
    monkeypatch.setattr("training.near._BATCH", 11)
    assert near_duplicate_clusters(texts) == whole
    assert partition(whole) == brute_force(texts)


# --- groups ---------------------------------------------------------------------------------------------------------

DIPLOMAS = [f"办理毕业证书当天出图第{number}号" for number in "一二三四五六七八"]
LOANS = [f"无抵押贷款秒到账户利息低第{number}号" for number in "一二三四五六七八"]


def members(texts: list[tuple[str, str]], *, seed: int = 0, size: int = 10) -> list[list[int]]:
    return [group.tolist() for group in groups(texts, seed=seed, size=size)]


def test_similar_texts_are_one_group():
    texts = [("goods", text) for pair in zip(DIPLOMAS, LOANS, strict=True) for text in pair]
    assert members(texts, size=8) == [list(range(0, 16, 2)), list(range(1, 16, 2))]


def test_no_group_has_two_policies():
    texts = [("one", text) for text in DIPLOMAS] + [("two", text) for text in DIPLOMAS]
    assert members(texts, size=8) == [list(range(8)), list(range(8, 16))]


def test_every_text_is_in_one_group():
    draw = random.Random(5)
    texts = [(draw.choice("pq"), "".join(draw.choices("毕业证书贷款抵押微信", k=12))) for _number in range(150)]
    found = members(texts)
    assert sorted(position for group in found for position in group) == list(range(150))
    assert [group[0] for group in found] == sorted(group[0] for group in found)
    assert 15 <= len(found) <= 20


def test_copies_share_a_group_and_do_not_fill_it():
    texts = [("goods", DIPLOMAS[0])] * 30 + [("goods", text) for text in DIPLOMAS]
    assert members(texts, size=8) == [list(range(38))]


def test_groups_are_the_same_for_the_same_seed():
    draw = random.Random(5)
    texts = [("p", "".join(draw.choices("毕业证书贷款抵押微信", k=12))) for _number in range(150)]
    assert members(texts, seed=4) == members(texts, seed=4)
    assert members(texts, seed=4) != members(texts, seed=5)


def test_texts_of_no_word_are_grouped_too():
    assert members([("p", ""), ("p", "！"), ("p", "")]) == [[0, 1, 2]]


def test_no_texts_give_no_groups():
    assert groups([]) == []


@pytest.mark.parametrize("alphabet", ["毕业证书贷款抵押微信", "毕"])
def test_large_policies_are_cut_into_cells(monkeypatch, alphabet):
    monkeypatch.setattr("training.near._CELL", 40)
    draw = random.Random(6)
    texts = [("p", "".join(draw.choices(alphabet, k=8)) + "！" * number) for number in range(300)]
    found = groups(texts)
    assert sorted(np.concatenate(found).tolist()) == list(range(300))
    assert max(map(len, found)) <= 40

"""The measures, on rankings small enough to count by hand: full, empty, partly judged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics import (
    Figures,
    Interval,
    Ranking,
    aggregate,
    bootstrap_ratio,
    bootstrap_sum,
    compare,
    expected_at,
    found_by_report,
    novel_unique,
    query_figures,
    random_orders,
    unique_at,
    wilson_interval,
)

TOXIC = {1: True, 2: False, 3: True, 4: False, 5: True}
RANKINGS = [
    Ranking("r1", "加微", (1, 2, 3)),
    Ranking("r2", "办证", (3, 4)),
    Ranking("r2", "无", ()),
    Ranking("r3", "天气", (2, 4)),
]


def test_figures_of_a_query():
    figures = query_figures(RANKINGS[0], TOXIC)
    assert (figures.retrieved, figures.hits, figures.unjudged) == (3, 2, 0)
    assert figures.is_effective
    assert figures.is_good


def test_query_is_good_from_half_toxic_on():
    assert query_figures(Ranking("r", "q", (1, 2)), TOXIC).is_good
    assert not query_figures(Ranking("r", "q", (1, 2, 4)), TOXIC).is_good


def test_query_without_results_is_neither_effective_nor_good():
    figures = query_figures(Ranking("r", "q", ()), TOXIC)
    assert not figures.is_effective
    assert not figures.is_good


def test_only_the_first_hundred_results_count():
    deep = Ranking("r", "q", tuple(range(1000, 1100)) + (1,))
    assert query_figures(deep, TOXIC).hits == 0
    assert aggregate([deep], TOXIC).reviewed == 100


def test_aggregate_counts_repeats_in_hits_and_not_in_unique():
    figures = aggregate(RANKINGS, TOXIC)
    assert figures == Figures(queries=4, effective=2, good=2, hits=3, retrieved=7, unjudged=0, unique=2, reviewed=4)


def test_query_without_results_stays_in_the_query_hit_rate():
    assert aggregate(RANKINGS, TOXIC).query_hit_rate == 2 / 4


def test_precision_is_hits_over_results_reviewed():
    assert aggregate(RANKINGS, TOXIC).precision == 3 / 7


def test_no_queries_give_zeros():
    figures = aggregate([], TOXIC)
    assert (figures.query_hit_rate, figures.precision, figures.unique) == (0.0, 0.0, 0)


def test_unjudged_result_is_no_hit_and_is_counted():
    figures = aggregate([Ranking("r", "q", (1, 77, 78)), Ranking("s", "p", (77,))], TOXIC)
    assert (figures.hits, figures.unjudged) == (1, 2)


def test_unique_at_a_budget_stops_inside_a_ranking():
    assert [unique_at(RANKINGS, TOXIC, budget=budget) for budget in range(5)] == [0, 1, 1, 2, 2]


def test_item_seen_before_costs_nothing():
    rankings = [Ranking("r1", "a", (2, 4)), Ranking("r2", "b", (2, 4, 1))]
    assert unique_at(rankings, TOXIC, budget=3) == 1


def test_budget_beyond_the_results_finds_all():
    assert unique_at(RANKINGS, TOXIC, budget=1000) == aggregate(RANKINGS, TOXIC).unique


def test_find_is_credited_to_the_report_that_showed_it_first():
    assert found_by_report(RANKINGS, TOXIC, budget=100) == {"r1": 2, "r2": 0}


def test_random_orders_hold_every_ranking_and_are_the_same_for_a_seed():
    once, again = (list(random_orders(RANKINGS, seed=3)) for _ in range(2))
    assert once == again
    assert len(once) == 20
    assert all(sorted(order, key=RANKINGS.index) == RANKINGS for order in once)
    assert len({tuple(map(RANKINGS.index, order)) for order in once}) > 1


def test_chance_finds_the_toxic_share_of_each_group_reviewed():
    groups = {1: "forum", 2: "forum", 3: "forum", 4: "news", 5: "news"}  # forum 2 of 3 toxic, news 1 of 2
    assert expected_at(RANKINGS, TOXIC, groups, budget=3) == pytest.approx(3 * 2 / 3)
    assert expected_at(RANKINGS, TOXIC, groups, budget=4) == pytest.approx(3 * 2 / 3 + 1 / 2)


def test_reviewing_everything_leaves_nothing_over_chance():
    groups = dict.fromkeys(TOXIC, "all")
    everything = [Ranking("r", "q", tuple(TOXIC))]
    assert expected_at(everything, TOXIC, groups, budget=5) == unique_at(everything, TOXIC, budget=5)


def test_novel_unique_leaves_out_the_reports_own_cluster():
    rankings = [Ranking("r1", "a", (1, 3, 5))]
    found = novel_unique(rankings, TOXIC, item_clusters={1: "c1", 3: "c2"}, report_clusters={"r1": "c1"})
    assert found == 2


def test_item_of_the_own_cluster_is_novel_when_another_report_finds_it():
    rankings = [Ranking("r1", "a", (1,)), Ranking("r2", "b", (1,))]
    assert novel_unique(rankings, TOXIC, item_clusters={1: "c1"}, report_clusters={"r1": "c1", "r2": "c2"}) == 1


def test_item_without_a_cluster_is_novel_to_a_report_without_one():
    assert novel_unique([Ranking("r1", "a", (1,))], TOXIC, item_clusters={}, report_clusters={"r1": ""}) == 1


def test_wilson_interval_of_a_known_case():
    interval = wilson_interval(8, 10)
    assert (interval.low, interval.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_wilson_interval_of_nothing_says_nothing():
    assert wilson_interval(0, 0) == Interval(0.0, 1.0)


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_interval_holds_the_share(successes, more):
    trials = successes + more
    interval = wilson_interval(successes, trials)
    assert 0 <= interval.low <= successes / trials <= interval.high <= 1


def test_bootstrap_of_equal_values_is_a_point():
    assert bootstrap_sum([2.0] * 50) == Interval(100.0, 100.0)


def test_bootstrap_interval_has_the_width_of_the_normal_one():
    values = [0.0, 1.0] * 200
    interval = bootstrap_sum(values)
    assert (interval.low, interval.high) == (pytest.approx(180.4, abs=3), pytest.approx(219.6, abs=3))


def test_bootstrap_is_the_same_for_a_seed():
    values = [(at % 7) ** 1.5 for at in range(100)]
    assert bootstrap_sum(values, seed=1) == bootstrap_sum(values, seed=1) != bootstrap_sum(values, seed=2)


def test_bootstrap_of_no_reports_is_zero():
    assert bootstrap_sum([]) == Interval(0.0, 0.0)
    assert bootstrap_ratio([], []) == Interval(0.0, 0.0)


def test_bootstrap_ratio_draws_parts_and_wholes_together():
    assert bootstrap_ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == Interval(0.5, 0.5)


def test_bootstrap_ratio_counts_an_empty_draw_as_zero():
    assert bootstrap_ratio([0.0, 0.0], [0.0, 0.0]) == Interval(0.0, 0.0)


def test_compare_counts_wins_ties_and_losses_over_all_reports():
    comparison = compare({"a": 3, "b": 1}, {"b": 1, "c": 2}, ["a", "b", "c", "d"])
    assert (comparison.difference, comparison.wins, comparison.ties, comparison.losses) == (1, 1, 2, 1)


def test_clear_gain_has_its_interval_above_zero():
    reports = [str(at) for at in range(40)]
    assert compare(dict.fromkeys(reports, 2), dict.fromkeys(reports, 1), reports).is_gain
    assert not compare(dict.fromkeys(reports, 1), dict.fromkeys(reports, 1), reports).is_gain

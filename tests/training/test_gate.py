"""Measures on a toy set with figures by hand, and each rule of the gate."""

from dataclasses import replace
from typing import Any

import pytest

from training.gate import Asked, Figures, Found, Labels, Leaks, Measured, compare, decide_gate, measure, sentence
from training.models import GateVerdict

REPORTS = [1, 2, 3]
ASKED = Asked(hit_rate_margin=0.01, precision_margin=0.02, judged_at_least=0.9)
LABELS = Labels(toxic={10: True, 11: True, 12: False, 13: False, 14: True}, judged={10, 11, 12, 13, 14, 15})
"""Text 15 was judged "can't tell"; nobody judged text 16."""


def query(report, confidence, *ids, start=0):
    return Found(report=report, start=start, end=start + 2, confidence=confidence, ids=ids)


QUERIES = [
    query(1, -0.5, 10, 12),
    query(1, -2.0, 13, start=5),
    query(2, -0.1, 10, 11, 16),
    query(2, -3.0, start=4),  # finds nothing
    query(2, -1.0, 15, 14, start=9),
]


def measured(queries=QUERIES, labels=LABELS) -> Measured:
    return measure(queries, REPORTS, labels)


# --- measures -------------------------------------------------------------------------------------------------------


def test_the_measures_by_hand():
    figures = measured().figures
    assert (figures.reports, figures.queries, figures.effective) == (3, 5, 3)
    assert figures.query_hit_rate == 3 / 5
    assert (figures.hits, figures.results, figures.results_judged) == (4, 8, 6)
    assert figures.precision == 4 / 6
    assert (figures.texts, figures.texts_judged) == (7, 6)
    assert figures.judged_at_100 == 6 / 7
    assert (figures.unique, figures.budget) == (3, 15)
    assert figures.mean_queries == 5 / 3


def test_what_each_report_adds_is_kept_in_their_order():
    parts = measured().parts
    assert parts["queries"] == [2, 3, 0]
    assert parts["hits"] == [1, 3, 0]
    # Text 10 is found by both; the more confident query of report 2 shows it first.
    assert parts["unique"] == [0, 3, 0]


def test_the_budget_is_five_texts_a_report_and_the_most_confident_query_is_played_first():
    labels = Labels(toxic=dict.fromkeys(range(20), True), judged=set(range(20)))
    found = [query(1, -1.0, *range(4)), query(1, -2.0, *range(10, 14), start=3)]
    assert measure(found, [1], labels).figures.unique == 5
    only_the_second = Labels(toxic={12: True, 13: True, 10: True}, judged=set(range(20)))
    assert measure(found, [1], only_the_second).figures.unique == 1  # four texts, then 10 and no further


def test_what_nobody_judged_is_no_hit_and_leaves_precision_alone():
    figures = measured([query(1, -1.0, 10, 16)]).figures
    assert (figures.hits, figures.precision) == (1, 1.0)


def test_cant_tell_is_judged_but_neither_toxic_nor_normal():
    figures = measured([query(1, -1.0, 10, 15)]).figures
    assert figures.judged_at_100 == 1.0
    assert (figures.results_judged, figures.precision) == (1, 1.0)


def test_an_adapter_without_a_query_has_zeros_and_no_shares():
    figures = measured([]).figures
    assert (figures.queries, figures.unique, figures.query_hit_rate, figures.mean_queries) == (0, 0, 0.0, 0.0)
    assert (figures.precision, figures.judged_at_100) == (None, None)
    assert figures.intervals["unique"] == (0.0, 0.0)


def test_every_figure_has_an_interval_around_it():
    figures = measured().figures
    for name in ("hits", "queries", "effective", "unique", "query_hit_rate", "precision", "mean_queries"):
        low, high = figures.intervals[name]
        assert low <= getattr(figures, name) <= high


def test_the_comparison_is_paired_and_counts_reports():
    ours = measured()
    theirs = measured([query(1, -1.0, 10, 11, 14), query(3, -1.0, 12)])
    compared = compare(ours, theirs)
    unique = compared["unique"]
    assert (unique["difference"], unique["wins"], unique["ties"], unique["losses"]) == (0, 1, 1, 1)
    assert compared["hits"]["difference"] == 1
    assert compared["query_hit_rate"]["difference"] == pytest.approx(3 / 5 - 1 / 2)
    assert compared["precision"]["difference"] == pytest.approx(4 / 6 - 3 / 4)
    assert compared["precision"]["low"] <= compared["precision"]["difference"] <= compared["precision"]["high"]


def test_beside_itself_nothing_differs():
    for figures in compare(measured(), measured()).values():
        assert (figures["difference"], figures["low"], figures["high"]) == (0, 0, 0)


# --- the gate -------------------------------------------------------------------------------------------------------


def of(**changes) -> Figures:
    """Figures that are better than NOTHING and judged in full."""
    values: dict[str, Any] = {
        "unique": 30,
        "query_hit_rate": 0.5,
        "effective": 50,
        "queries": 100,
        "precision": 0.4,
        "hits": 400,
        "results_judged": 1_000,
        "texts": 900,
        "texts_judged": 900,
        "judged_at_100": 1.0,
        **changes,
    }
    return replace(measured([]).figures, **values)


NOBODY = measured([]).figures
GAIN = {"unique": {"difference": 10.0, "low": 2.0, "high": 18.0, "wins": 12, "ties": 80, "losses": 4}}


def decide(ours=None, theirs=None, comparison=None, leaks=None, to_judge=0):
    return decide_gate(
        ours or of(),
        theirs or of(unique=20),
        comparison or GAIN,
        leaks=leaks or Leaks(),
        asked=ASKED,
        to_judge=to_judge,
    )


def broken(rules) -> list[str]:
    return [rule.rule for rule in rules if not rule.holds]


def test_all_rules_hold_and_the_gate_passes():
    rules, verdict = decide()
    assert (broken(rules), verdict) == ([], GateVerdict.PASSES)


def test_nobody_served_is_a_baseline_of_zero():
    rules, verdict = decide(theirs=NOBODY)
    assert (broken(rules), verdict) == ([], GateVerdict.PASSES)


@pytest.mark.parametrize("low", [0.0, -3.0])
def test_an_interval_that_touches_zero_is_no_gain(low):
    rules, verdict = decide(comparison={"unique": {**GAIN["unique"], "low": low}})
    assert (broken(rules), verdict) == (["unique"], GateVerdict.REFUSES)


@pytest.mark.parametrize(("rate", "refused"), [(0.49, False), (0.5 - 0.0101, True), (0.6, False)])
def test_the_query_hit_rate_may_fall_by_its_margin(rate, refused):
    rules, _verdict = decide(ours=of(query_hit_rate=rate))
    assert broken(rules) == (["query_hit_rate"] if refused else [])


@pytest.mark.parametrize(("precision", "refused"), [(0.38, False), (0.3799, True), (0.9, False)])
def test_precision_may_fall_by_its_margin(precision, refused):
    rules, _verdict = decide(ours=of(precision=precision))
    assert broken(rules) == (["precision"] if refused else [])


def test_a_leak_refuses_although_everything_else_holds():
    rules, verdict = decide(leaks=Leaks(texts={"dataset sft-1": 2}))
    assert (broken(rules), verdict) == (["leak"], GateVerdict.REFUSES)


def test_training_data_that_cannot_be_looked_into_refuses_too():
    assert decide(leaks=Leaks(unknown=["adapter x"]))[1] == GateVerdict.REFUSES


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_too_little_judged_on_either_side_decides_nothing_and_says_how_much_is_missing(side):
    sides = {"theirs": of(unique=20)} | {side: of(unique=20, judged_at_100=0.89)}
    rules, verdict = decide(**sides, to_judge=17)
    assert verdict == GateVerdict.UNDECIDED
    judged = next(rule for rule in rules if rule.rule == "judged")
    assert judged.figures["to_judge"] == 17
    assert "Judge 17 more" in sentence({"rule": judged.rule, "figures": judged.figures})


def test_nine_tenths_judged_is_enough():
    assert decide(ours=of(judged_at_100=0.9))[1] == GateVerdict.PASSES


def test_a_leak_is_not_left_undecided_since_judging_does_not_mend_it():
    verdict = decide(ours=of(judged_at_100=0.1), leaks=Leaks(texts={"base small-1": 1}))[1]
    assert verdict == GateVerdict.REFUSES


def test_an_adapter_that_finds_nothing_is_refused_and_not_left_undecided():
    flat = {"unique": {"difference": 0.0, "low": 0.0, "high": 0.0, "wins": 0, "ties": 3, "losses": 0}}
    rules, verdict = decide(ours=NOBODY, theirs=NOBODY, comparison=flat)
    assert (broken(rules), verdict) == (["unique"], GateVerdict.REFUSES)


def test_every_rule_is_a_sentence_with_its_figures_and_their_counts():
    said = [sentence({"rule": rule.rule, "figures": rule.figures}) for rule in decide()[0]]
    assert said == [
        "Unique toxic items among 15 reviewed: 30 against 20, difference +10, 95% interval +2.0 to +18.0; the "
        "interval must be above 0.",
        "Query hit rate: 0.500 (50 of 100) against 0.500 (50 of 100), difference +0.000; it may fall by 0.010.",
        "Precision@100 among judged: 0.400 (400 of 1000) against 0.400 (400 of 1000), difference +0.000; it may fall "
        "by 0.020.",
        "Texts of its training that are nearly the same as one of the 3 test reports: 0.",
        "Judged of the texts found: 100.0% of 900, 100.0% of 900; 90% needed.",
    ]

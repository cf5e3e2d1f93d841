"""Rates of counts and their intervals, and where their lines go in a chart."""

from pathlib import Path

import numpy as np
import pytest

from audit.insights.charts import Dot, line_chart
from audit.insights.figures import (
    Agreement,
    Increment,
    Mean,
    Rate,
    acceptance_of_models,
    acceptance_of_people,
    detection_increment,
    edited_of_models,
    equal_to_human,
    judged_at_10,
    not_judged,
    precision,
)
from audit.insights.measures import COUNTS, PART_OF, Count


def test_the_headline_from_counts():
    """1,415 of 2,324 suggestions are 60.9 %, 494 of 2,818 equal to a human query 17.5 %, 1,072 over 1,852 +57.9 %."""
    totals = {
        Count.SUGGESTIONS_ACCEPTED: 1_400,
        Count.SUGGESTIONS_EDITED: 15,
        Count.SUGGESTIONS_REJECTED: 909,
        Count.SUGGESTIONS_EQUAL: 494,
        Count.OWN_MADE: 1_354,
        Count.OWN_RUN: 1_059,
        Count.FOUND_HUMAN: 1_852,
        Count.FOUND_ADDED: 1_072,
    }
    assert round(acceptance_of_models(totals).value, 3) == 0.609
    assert edited_of_models(totals) == Rate(15, 2_324)
    assert round(acceptance_of_people(totals).value, 3) == 0.782
    assert round(equal_to_human(totals).value, 3) == 0.175
    assert round(detection_increment(totals).value, 3) == 0.579


def test_without_counts_there_is_no_rate():
    assert acceptance_of_models({}) == Rate(0, 0)
    assert not acceptance_of_models({}).is_enough
    with pytest.raises(ZeroDivisionError):
        _ = acceptance_of_models({}).value


def test_unjudged_stays_out_of_precision_and_is_told_apart():
    """1 toxic, 3 normal, 2 that could not be told, 1 disputed, 50 unjudged: 1 of 4, and 53 left out."""
    totals = {
        Count.SHOWN_TOXIC: 1,
        Count.SHOWN_NORMAL: 3,
        Count.SHOWN_CANT_TELL: 2,
        Count.SHOWN_DISPUTED: 1,
        Count.SHOWN_UNJUDGED: 50,
    }
    assert precision(totals) == Rate(1, 4)
    assert not_judged(totals) == 53


def test_judged_at_k_is_a_share_of_results():
    assert judged_at_10({Count.FIRST_10: 25, Count.FIRST_10_JUDGED: 20}) == Rate(20, 25)


# --- the interval of an increment -----------------------------------------------------------------------------------


def increment(human, added):
    return Increment(
        len(human), int(human.sum()), int(added.sum()), (human**2).sum(), (added**2).sum(), (human * added).sum()
    )


def draw(explorations, rng):
    """Explorations that differ in size: what people find and what models add rise together."""
    size = rng.gamma(2.0, 2.0, explorations)
    return rng.poisson(size), rng.poisson(0.6 * size)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """The truth is 0.6; 95 % of 400 intervals of 120 explorations each should hold it."""
    rng = np.random.default_rng(3)
    held = 0
    for _time in range(400):
        low, high = increment(*draw(120, rng)).interval
        held += low <= 0.6 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_the_interval_is_about_that_of_a_bootstrap_over_explorations():
    rng = np.random.default_rng(5)
    human, added = draw(150, rng)
    picks = rng.integers(0, 150, (2_000, 150))
    low, high = np.percentile(added[picks].sum(axis=1) / human[picks].sum(axis=1), [2.5, 97.5])
    ours = increment(human, added).interval
    assert ours == pytest.approx((low, high), abs=0.03)


def test_sums_of_two_weeks_give_the_interval_of_both_together():
    rng = np.random.default_rng(7)
    (human, added), (more_human, more_added) = draw(40, rng), draw(60, rng)
    one, other = increment(human, added), increment(more_human, more_added)
    fields = ("explored", "human", "added", "human_sq", "added_sq", "cross")
    both = Increment(*(getattr(one, name) + getattr(other, name) for name in fields))
    assert both.interval == increment(np.concatenate([human, more_human]), np.concatenate([added, more_added])).interval


@pytest.mark.parametrize(
    "few", [Increment(1, 12, 4, 144, 16, 48), Increment(9, 12, 0, 20, 0, 0), Increment(3, 0, 4, 0, 8, 0)]
)
def test_there_is_no_interval_without_a_spread(few):
    assert few.interval is None


# --- means and agreement --------------------------------------------------------------------------------------------


def test_a_mean_from_its_sums():
    """2, 4, 6: mean 4, spread 4, half width 1.96 · √(4/3)."""
    mean = Mean(3, 12.0, 56.0)
    assert mean.value == 4
    assert mean.interval == pytest.approx((4 - 2.263, 4 + 2.263), abs=0.001)


def test_agreement_and_what_of_it_is_beyond_chance():
    """8 of 10 pairs agree, with 10 toxic and 10 normal verdicts: alpha = 1 - 19 · 4 / 200 = 0.62."""
    agreement = Agreement(4, 4, 0, 2, 0, 0)
    assert agreement.rate == Rate(8, 10)
    assert agreement.alpha == pytest.approx(0.62)


def test_where_all_said_the_same_chance_says_it_too():
    assert Agreement(7, 0, 0, 0, 0, 0).alpha is None
    assert Agreement(0, 0, 0, 0, 0, 0).alpha is None


# --- charts ---------------------------------------------------------------------------------------------------------

WEEKS = [f"W{number:02}" for number in range(1, 13)]


def test_a_week_with_too_little_interrupts_the_line():
    line = [Dot(0.5, (0.4, 0.6))] * 5 + [None] + [Dot(0.6, (0.5, 0.7))] * 6
    chart = line_chart(WEEKS, [line, [None] * 12], ("model", "human"), top=1.0)
    model, human = chart.series
    assert (len(model.marks), len(model.strokes)) == (11, 9)
    assert (human.marks, human.lowest) == ([], None)
    assert chart.is_drawn


def test_the_newest_week_is_named_and_no_more_than_six_are():
    chart = line_chart(WEEKS, [[None] * 12, [None] * 12], ("model", "human"), top=1.0)
    assert [tick.label for tick in chart.columns] == ["W02", "W04", "W06", "W08", "W10", "W12"]
    assert not chart.is_drawn


def test_a_wide_interval_is_cut_at_the_edge():
    chart = line_chart(["W01"], [[Dot(0.5, (0.1, 9.0))], [None]], ("model", "queries"))
    assert chart.rows[-1].value == 1.0
    assert chart.series[0].marks[0].high == chart.rows[-1].at


def test_an_increment_of_nothing_can_be_drawn():
    chart = line_chart(["W01"], [[Dot(0.0, None)], [None]], ("model", "queries"))
    assert chart.series[0].marks[0].y == chart.rows[0].at


# --- the list of counts ---------------------------------------------------------------------------------------------


def test_every_count_has_its_part_and_its_sentence():
    assert set(PART_OF) == {count.value for count in Count}
    assert all(sentence.endswith(".") for counts in COUNTS.values() for sentence in counts.values())


def test_the_documentation_lists_every_count():
    text = (Path(__file__).resolve().parents[2] / "docs" / "insights.md").read_text(encoding="utf-8")
    for part, counts in COUNTS.items():
        for count, about in counts.items():
            assert f"| {part.value} | `{count.value}` | {about} |" in text, count

"""Confidence against decisions, and how many proposals are worth an auditor's reading."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extraction.calibration import (
    FEWEST_OF_A_KIND,
    Calibration,
    count_to_show,
    expected_yield,
    fit_calibration,
    reading_cost,
)


def decided(count: int, *, slope: float, intercept: float) -> tuple[list[float], list[bool]]:
    """Confidences from -6 to 0, each accepted with its logistic probability."""
    draw, truth = random.Random(0), Calibration(slope, intercept, 0, 0)
    confidences = [draw.uniform(-6, 0) for _ in range(count)]
    return confidences, [draw.random() < truth.probability(value) for value in confidences]


# --- calibration


@pytest.mark.parametrize("confidence", [-5.0, -3.0, -1.0])
def test_fit_finds_the_probability_behind_the_decisions(confidence):
    found = fit_calibration(*decided(4000, slope=1.5, intercept=4.0))
    assert found is not None
    assert found.probability(confidence) == pytest.approx(Calibration(1.5, 4.0, 0, 0).probability(confidence), abs=0.03)


def test_fit_counts_its_decisions():
    confidences, accepted = decided(500, slope=1.0, intercept=3.0)
    found = fit_calibration(confidences, accepted)
    assert found is not None
    assert (found.decisions, found.accepted) == (500, sum(accepted))


@pytest.mark.parametrize(("yes", "no"), [(0, 0), (0, 500), (500, 0), (FEWEST_OF_A_KIND - 1, 500)])
def test_too_few_of_a_kind_say_nothing(yes, no):
    assert fit_calibration([-1.0] * (yes + no), [True] * yes + [False] * no) is None


def test_one_confidence_for_all_gives_the_share_of_accepted():
    found = fit_calibration([-1.0] * 100, [True] * 75 + [False] * 25)
    assert found is not None
    assert found.probability(-1.0) == found.probability(-9.0) == pytest.approx(0.75)


def test_confidence_that_falls_as_acceptance_rises_is_noise():
    found = fit_calibration([-1.0] * 50 + [-2.0] * 50, [False] * 40 + [True] * 60)
    assert found is not None
    assert found.probability(-1.0) == found.probability(-2.0) == pytest.approx(0.6)


def test_decisions_that_the_confidence_parts_cleanly_stay_finite():
    found = fit_calibration([-1.0] * 50 + [-2.0] * 50, [True] * 50 + [False] * 50)
    assert found is not None
    assert 0 < found.probability(-2.0) < 0.1
    assert 0.9 < found.probability(-1.0) < 1


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_probability_rises_and_stays_one(low, high):
    found = Calibration(2.0, 1.0, 100, 50)
    low, high = min(low, high), max(low, high)
    assert 0 <= found.probability(low) <= found.probability(high) <= 1


# --- yield


def test_yield_is_acceptance_times_the_chance_of_a_find():
    assert expected_yield(0.5, 0.1, 2) == pytest.approx(0.5 * (1 - 0.81))


@pytest.mark.parametrize(("acceptance", "share", "results"), [(0.0, 0.5, 9), (0.9, 0.0, 9), (0.9, 0.5, 0)])
def test_nothing_comes_of_what_is_rejected_or_finds_nothing(acceptance, share, results):
    assert expected_yield(acceptance, share, results) == 0


# --- how many


def test_proposals_are_shown_while_their_yield_exceeds_the_cost():
    assert count_to_show([0.5, 0.3, 0.11, 0.09, 0.01], cost=0.1) == 3


@pytest.mark.parametrize("expected", [[], [0.1], [0.05, 0.02]])
def test_nothing_is_shown_that_is_not_worth_its_reading(expected):
    assert count_to_show(expected, cost=0.1) == 0


def test_good_one_behind_a_weak_one_is_shown_with_it():
    assert count_to_show([0.05, 0.4], cost=0.1) == 2
    assert count_to_show([0.05, 0.14], cost=0.1) == 0


def test_quick_readers_see_more():
    expected = [0.4, 0.2, 0.1, 0.05, 0.02]
    slow, quick = reading_cost(reading_s=18, effective_s=120), reading_cost(reading_s=4, effective_s=120)
    assert count_to_show(expected, cost=slow) == 2
    assert count_to_show(expected, cost=quick) == 4


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 1))
def test_no_other_count_is_worth_more(expected, cost):
    def net(count: int) -> float:
        return math.fsum(one - cost for one in expected[:count])

    shown = count_to_show(expected, cost=cost)
    assert all(net(count) <= net(shown) + 1e-9 for count in range(len(expected) + 1))

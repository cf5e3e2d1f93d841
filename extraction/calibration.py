"""From what a model believes to what an auditor will do with it, and how many proposals that makes worth showing.

A model's confidence orders its queries and means nothing by itself. Fitted against decisions, it becomes the
probability that a query like it is accepted. Times the probability that it then finds something, that is the expected
yield of a proposal: effective queries, a number from 0 to 1. Reading a proposal costs time, in which the auditor would
have come nearer to the next effective query anyway. A report's proposals are shown as long as their yield outweighs
that cost, so that there are many where they are good and none where they are not.

>>> count_to_show([0.5, 0.2, 0.03], cost=reading_cost(reading_s=6, effective_s=120))
2
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_OF_A_KIND = 20
"""Accepted and rejected ones that a fit needs: ten of the rarer for each of its two parameters, the usual rule."""


@dataclass(frozen=True)
class Calibration:
    """P(accepted) = 1 / (1 + exp(-(slope * confidence + intercept))), and how many decisions say so."""

    slope: float
    intercept: float
    decisions: int
    accepted: int

    def probability(self, confidence: float) -> float:
        """Probability that a query of this confidence is accepted."""
        return _logistic(self.slope * confidence + self.intercept)


def fit_calibration(confidences: Sequence[float], accepted: Sequence[bool]) -> Calibration | None:
    """Platt's scaling: a logistic regression of the decisions on the confidence, or on any one signal that should tell.

    Two parameters and not an isotonic curve, which needs a thousand decisions to do better (Niculescu-Mizil and Caruana
    2005). A confidence that falls as acceptance rises is taken for noise: then all have the same probability. None
    where there are too few decisions of either kind.
    """
    from sklearn.linear_model import LogisticRegression

    values, is_accepted = np.asarray(confidences, dtype=float), np.asarray(accepted, dtype=bool)
    yes, no = int(is_accepted.sum()), int((~is_accepted).sum())
    if min(yes, no) < FEWEST_OF_A_KIND:
        return None
    middle, spread = float(values.mean()), float(values.std())
    if spread > 0:
        fitted = LogisticRegression().fit(((values - middle) / spread).reshape(-1, 1), is_accepted)
        slope = float(fitted.coef_[0, 0]) / spread
        if slope > 0:
            return Calibration(slope, float(fitted.intercept_[0]) - slope * middle, yes + no, yes)
    return Calibration(0.0, math.log(yes / no), yes + no, yes)


def expected_yield(acceptance: float, share: float, results: int) -> float:
    """Probability that a proposal is accepted and then finds something: acceptance * (1 - (1 - share)^results).

    `share` is the expected share of toxic ones among its `results` that nobody has seen. They are taken as independent
    of each other, which flatters a phrase whose results are all of one kind.
    """
    return acceptance * (1.0 - (1.0 - share) ** results)


def reading_cost(*, reading_s: float, effective_s: float) -> float:
    """What reading one proposal costs, in effective queries: the share of the time that one otherwise takes.

    `reading_s`: seconds from seeing a proposal to deciding on it. `effective_s`: seconds of work for each query that
    found something, whoever proposed it.
    """
    return reading_s / effective_s


def count_to_show(expected: Sequence[float], *, cost: float) -> int:
    """How many of a report's proposals to show, in their order: as many as make sum(yield - cost) largest.

    With yields that fall, these are the ones whose yield exceeds the cost. Where one of little yield stands before a
    good one, both are shown if the good one makes up for it. 0 where nothing is worth its reading.
    """
    count, largest, net = 0, 0.0, 0.0
    for shown, one in enumerate(expected, start=1):
        net += one - cost
        if net > largest:
            count, largest = shown, net
    return count


def _logistic(value: float) -> float:
    """Without overflow on either side."""
    return 1.0 / (1.0 + math.exp(-value)) if value >= 0 else 1.0 - 1.0 / (1.0 + math.exp(value))

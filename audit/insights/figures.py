"""From counts to rates, each with the counts that it rests on and its 95 % interval. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, sqrt

from audit.figures import ENOUGH, wilson_interval
from audit.insights.measures import Count

Z = 1.959964
Totals = Mapping[str, float]
"""Count → its sum; a count that is missing is zero."""


def total(totals: Totals, *counts: Count) -> int:
    return round(sum(totals.get(count, 0.0) for count in counts))


@dataclass(frozen=True)
class Rate:
    """`part` of `whole`, with Wilson's interval. Under ten there is no share to speak of, only the counts."""

    part: int
    whole: int

    @property
    def is_enough(self) -> bool:
        return self.whole >= ENOUGH

    @property
    def value(self) -> float:
        """Raises ZeroDivisionError where nothing was counted: that is no 0 %."""
        return self.part / self.whole

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.part, self.whole)


@dataclass(frozen=True)
class Increment:
    """Σa over Σh of explorations, from the sums that are stored: what models added to what people found.

    The interval is that of a ratio estimator: the residuals a - R·h of the explorations give its variance
    (Cochran, Sampling Techniques, 6.4), on the logarithm, since a ratio is not below zero. Whole explorations vary, not
    items: what one exploration finds stands or falls together.
    """

    explored: int
    human: int
    added: int
    human_sq: float
    added_sq: float
    cross: float

    @property
    def is_enough(self) -> bool:
        return self.human >= ENOUGH

    @property
    def value(self) -> float:
        """Raises ZeroDivisionError where people found nothing to compare with."""
        return self.added / self.human

    @property
    def interval(self) -> tuple[float, float] | None:
        """None where there is no spread to see: one exploration, or nothing added."""
        if self.explored < 2 or not self.human or not self.added:
            return None
        ratio = self.value
        squares = max(0.0, self.added_sq - 2 * ratio * self.cross + ratio**2 * self.human_sq)
        error = sqrt(self.explored / (self.explored - 1) * squares) / self.human
        spread = exp(Z * error / ratio)
        return ratio / spread, ratio * spread


@dataclass(frozen=True)
class Mean:
    """A mean of `count` values from their sum and the sum of their squares, with a normal interval."""

    count: int
    sum: float
    squares: float
    clipped: int = 0

    @property
    def is_enough(self) -> bool:
        return self.count >= ENOUGH

    @property
    def value(self) -> float:
        return self.sum / self.count

    @property
    def interval(self) -> tuple[float, float]:
        spread = max(0.0, self.squares - self.sum**2 / self.count) / max(1, self.count - 1)
        half = Z * sqrt(spread / self.count)
        return max(0.0, self.value - half), self.value + half


@dataclass(frozen=True)
class Agreement:
    """Pairs of people by what they said of one text."""

    both_toxic: int
    both_normal: int
    both_cant_tell: int
    toxic_normal: int
    toxic_cant_tell: int
    normal_cant_tell: int

    @property
    def rate(self) -> Rate:
        agreed = self.both_toxic + self.both_normal + self.both_cant_tell
        return Rate(agreed, agreed + self.toxic_normal + self.toxic_cant_tell + self.normal_cant_tell)

    @property
    def alpha(self) -> float | None:
        """Krippendorff's alpha of nominal values, each pair a unit of two: 1 is agreement, 0 is what chance gives.

        None where everybody said the same: chance alone would then agree too.
        """
        said = (
            2 * self.both_toxic + self.toxic_normal + self.toxic_cant_tell,
            2 * self.both_normal + self.toxic_normal + self.normal_cant_tell,
            2 * self.both_cant_tell + self.toxic_cant_tell + self.normal_cant_tell,
        )
        all_said = sum(said)
        expected = all_said**2 - sum(one**2 for one in said)
        if not expected:
            return None
        differ = 2 * (self.rate.whole - self.rate.part)
        return 1 - (all_said - 1) * differ / expected


def acceptance_of_models(totals: Totals) -> Rate:
    taken = total(totals, Count.SUGGESTIONS_ACCEPTED, Count.SUGGESTIONS_EDITED)
    return Rate(taken, taken + total(totals, Count.SUGGESTIONS_REJECTED))


def edited_of_models(totals: Totals) -> Rate:
    return Rate(total(totals, Count.SUGGESTIONS_EDITED), acceptance_of_models(totals).whole)


def acceptance_of_people(totals: Totals) -> Rate:
    return Rate(total(totals, Count.OWN_RUN), total(totals, Count.OWN_MADE))


def equal_to_human(totals: Totals) -> Rate:
    equal = total(totals, Count.SUGGESTIONS_EQUAL)
    return Rate(equal, equal + acceptance_of_models(totals).whole)


def detection_increment(totals: Totals) -> Increment:
    return Increment(
        total(totals, Count.EXPLORED),
        total(totals, Count.FOUND_HUMAN),
        total(totals, Count.FOUND_ADDED),
        totals.get(Count.FOUND_HUMAN_SQ, 0.0),
        totals.get(Count.FOUND_ADDED_SQ, 0.0),
        totals.get(Count.FOUND_CROSS, 0.0),
    )


def hit_query_increment(totals: Totals) -> Increment:
    return Increment(
        total(totals, Count.EXPLORED),
        total(totals, Count.HIT_HUMAN),
        total(totals, Count.HIT_ADDED),
        totals.get(Count.HIT_HUMAN_SQ, 0.0),
        totals.get(Count.HIT_ADDED_SQ, 0.0),
        totals.get(Count.HIT_CROSS, 0.0),
    )


def precision(totals: Totals) -> Rate:
    """Toxic among the exposures whose text can be told: p(k|S). Unjudged is unknown, and left out."""
    return Rate(total(totals, Count.SHOWN_TOXIC), total(totals, Count.SHOWN_TOXIC, Count.SHOWN_NORMAL))


def not_judged(totals: Totals) -> int:
    """Exposures that precision leaves out."""
    return total(totals, Count.SHOWN_CANT_TELL, Count.SHOWN_DISPUTED, Count.SHOWN_UNJUDGED)


def judged_at_10(totals: Totals) -> Rate:
    return Rate(total(totals, Count.FIRST_10_JUDGED), total(totals, Count.FIRST_10))


def judged_at_100(totals: Totals) -> Rate:
    return Rate(total(totals, Count.FIRST_100_JUDGED), total(totals, Count.FIRST_100))


def query_hit_rate(totals: Totals) -> Rate:
    return Rate(total(totals, Count.QUERIES_HIT), total(totals, Count.QUERIES_RUN))


def time_per_judgment(totals: Totals) -> Mean:
    return Mean(
        total(totals, Count.JUDGMENTS_TIMED),
        totals.get(Count.JUDGMENTS_S, 0.0),
        totals.get(Count.JUDGMENTS_S2, 0.0),
        total(totals, Count.JUDGMENTS_CLIPPED),
    )


def time_per_decision(totals: Totals) -> Mean:
    return Mean(
        total(totals, Count.DECISIONS_TIMED),
        totals.get(Count.DECISIONS_S, 0.0),
        totals.get(Count.DECISIONS_S2, 0.0),
        total(totals, Count.DECISIONS_CLIPPED),
    )


def agreement(totals: Totals) -> Agreement:
    return Agreement(
        *(
            total(totals, count)
            for count in (
                Count.BOTH_TOXIC,
                Count.BOTH_NORMAL,
                Count.BOTH_CANT_TELL,
                Count.TOXIC_NORMAL,
                Count.TOXIC_CANT_TELL,
                Count.NORMAL_CANT_TELL,
            )
        )
    )

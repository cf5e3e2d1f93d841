"""Figures as people read them: a share never stands without the count that it rests on."""

from dataclasses import dataclass
from math import sqrt

ENOUGH = 10  # judged results below which a share says too little to be shown


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share (95 % by default).

    >>> low, high = wilson_interval(31, 50)
    >>> round(low, 3), round(high, 3)
    (0.482, 0.741)
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no share")
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Share:
    """`toxic` of `judged`, with its interval as percentages for the drawing (strings: an SVG knows no locale)."""

    toxic: int
    judged: int

    @property
    def is_enough(self) -> bool:
        return self.judged >= ENOUGH

    @property
    def percent(self) -> int:
        return round(100 * self.toxic / self.judged)

    @property
    def dot(self) -> str:
        return f"{100 * self.toxic / self.judged:.1f}%"

    @property
    def low(self) -> str:
        return f"{100 * wilson_interval(self.toxic, self.judged)[0]:.1f}%"

    @property
    def high(self) -> str:
        return f"{100 * wilson_interval(self.toxic, self.judged)[1]:.1f}%"


def share_of(toxic: int | None, judged: int | None) -> Share | None:
    """The share, or None where nobody judged anything yet: unjudged is unknown, never 0 %."""
    return Share(toxic, judged) if judged and toxic is not None else None

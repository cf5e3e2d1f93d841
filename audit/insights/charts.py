"""Where the lines of a chart go, in per cent of the width and pixels of the height. No script draws it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

HEIGHT = 200
TOP, BOTTOM = 18.0, 174.0
LEFT, RIGHT = 8.0, 96.0
LABELS = 6
"""Weeks named below the plot at most, so that the names do not touch on a narrow page."""
APART = 0.5
"""Per cent of the width by which two series stand apart, so that one interval does not hide the other."""
STEPS = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)


@dataclass(frozen=True)
class Dot:
    """A share of a week, and its interval where there is one."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Tick:
    at: str
    value: float
    label: str = ""


@dataclass(frozen=True)
class Mark:
    """A drawn dot: its place, and the ends of its interval."""

    x: str
    y: str
    low: str
    high: str


@dataclass(frozen=True)
class Stroke:
    x1: str
    y1: str
    x2: str
    y2: str


@dataclass(frozen=True)
class Series:
    name: str
    marks: list[Mark]
    strokes: list[Stroke]
    lowest: float | None
    highest: float | None

    @property
    def is_hollow(self) -> bool:
        """The first series has filled dots and a solid line; told apart without colour."""
        return self.name != "model"


@dataclass(frozen=True)
class Chart:
    """`rows` are the grid lines with their values, `columns` the names of weeks below."""

    rows: list[Tick]
    columns: list[Tick]
    series: list[Series]
    gaps: int
    """Weeks of which a series has too little to show."""

    @property
    def is_drawn(self) -> bool:
        return any(one.marks for one in self.series)


def line_chart(
    labels: Sequence[str], lines: Sequence[Sequence[Dot | None]], names: Sequence[str], *, top: float | None = None
) -> Chart:
    """Lines over weeks; a week without a dot interrupts its line. Without `top` the scale goes as far as the intervals,
    but not beyond twice the highest value: a wide one is cut at the edge.
    """
    dots = [dot for line in lines for dot in line if dot is not None]
    step, scale = _scale(dots) if top is None else (0.25, top)
    xs = [LEFT + (RIGHT - LEFT) * (place + 0.5) / len(labels) for place in range(len(labels))]
    every = -(-len(labels) // LABELS) or 1
    return Chart(
        rows=[Tick(_px(step * n, scale), step * n) for n in range(round(scale / step) + 1)],
        columns=[Tick(f"{xs[n]:.2f}%", n, labels[n]) for n in range(len(labels) - 1, -1, -every)][::-1],
        series=[
            _series(name, line, [x + shift for x in xs], scale)
            for name, line, shift in zip(names, lines, (-APART, APART), strict=True)
        ],
        gaps=max((sum(dot is None for dot in line) for line in lines), default=0),
    )


def _scale(dots: Sequence[Dot]) -> tuple[float, float]:
    """(step between grid lines, top of the scale)."""
    highest = max((dot.value for dot in dots), default=1.0) or 1.0
    ends = [dot.interval[1] for dot in dots if dot.interval is not None]
    wanted = max(1.1 * highest, min(2 * highest, max(ends, default=0.0)))
    step = next((step for step in STEPS if wanted / step <= 4), wanted / 4)
    return step, step * -(-wanted // step)


def _series(name: str, line: Sequence[Dot | None], xs: Sequence[float], scale: float) -> Series:
    marks = [_mark(dot, x, scale) if dot is not None else None for dot, x in zip(line, xs, strict=True)]
    values = [dot.value for dot in line if dot is not None]
    return Series(
        name,
        [mark for mark in marks if mark is not None],
        [Stroke(one.x, one.y, other.x, other.y) for one, other in pairwise(marks) if one and other],
        min(values, default=None),
        max(values, default=None),
    )


def _mark(dot: Dot, x: float, scale: float) -> Mark:
    low, high = dot.interval or (dot.value, dot.value)
    return Mark(f"{x:.2f}%", _px(dot.value, scale), _px(low, scale), _px(min(high, scale), scale))


def _px(value: float, scale: float) -> str:
    return f"{BOTTOM - (BOTTOM - TOP) * value / scale:.1f}"

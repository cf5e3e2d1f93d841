"""The rounds as one SVG: a panel for each suite, toxic items found so far by each arm.

So far, because an arm that found more in one round has less left for the next. Drawn by hand like the benchmark's
(docs/decisions/0021).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement

from training.simulation.settings import Arm

WIDTH, HEIGHT, LEFT, TOP, FOOT, RIGHT = 760, 260, 56, 40, 34, 110
INK, QUIET = "#1f2933", "#7b8794"
COLOURS = {
    Arm.HUMAN: "#7b8794",
    Arm.FROZEN: "#b45309",
    Arm.RISK: "#047857",
    Arm.FULL: "#1d4ed8",
    Arm.UNGATED: "#9d174d",
}

Mark = tuple[str, dict[str, str], str]
Row = Mapping[str, Any]


def write_plot(rows: Sequence[Row], path: Path) -> None:
    """Draw the rounds of each arm: the mean over the seeds, and a bar from the smallest to the largest."""
    played = _so_far([row for row in rows if row["arm"]])
    suites = sorted({row["suite"] for row in played})
    size = {"width": str(WIDTH), "height": str(HEIGHT * len(suites)), "viewBox": f"0 0 {WIDTH} {HEIGHT * len(suites)}"}
    root = Element("svg", size | {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "font-family": "sans-serif"})
    SubElement(root, "title").text = "Toxic items found so far, by round and arm"
    SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#ffffff"})
    for place, suite in enumerate(suites):
        group = SubElement(root, "g", {"transform": f"translate(0 {HEIGHT * place})"})
        for tag, attributes, text in _panel(suite, [row for row in played if row["suite"] == suite]):
            SubElement(group, tag, attributes).text = text
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _so_far(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with what its arm and seed had found by then."""
    found: Counter[tuple[str, str, int]] = Counter()
    summed: list[Row] = []
    for row in sorted(rows, key=lambda row: row["round"]):
        own = row["suite"], row["arm"], row["seed"]
        found[own] += row["toxic_found"]
        summed.append({**row, "so_far": found[own]})
    return summed


def _panel(suite: str, rows: Sequence[Row]) -> Iterator[Mark]:
    rounds = max(row["round"] for row in rows)
    most = max(float(max(row["so_far"] for row in rows)), 1.0)
    yield _text(12, 22, f"{suite}: toxic items found so far", INK, size=14)
    for value in (0.0, most / 2, most):
        y = f"{_y(value, most):.1f}"
        yield "line", {"x1": str(LEFT), "x2": str(WIDTH - RIGHT), "y1": y, "y2": y, "stroke": "#e4e7eb"}, ""
        yield _text(12, _y(value, most) + 4, f"{value:,.0f}", QUIET)
    for number in range(1, rounds + 1):
        yield _text(_x(number, rounds) - 24, HEIGHT - 12, f"round {number}", QUIET)
    arms = [arm for arm in Arm if any(row["arm"] == arm for row in rows)]
    for place, arm in enumerate(arms):
        yield _text(WIDTH - RIGHT + 12, TOP + 18 * place, arm.value, COLOURS[arm])
        yield from _curve(arm, [row for row in rows if row["arm"] == arm], rounds, most, shift=4 * place)


def _curve(arm: Arm, rows: Sequence[Row], rounds: int, most: float, *, shift: int) -> Iterator[Mark]:
    points = []
    for number in sorted({row["round"] for row in rows}):
        values = [row["so_far"] for row in rows if row["round"] == number]
        x, mean = _x(number, rounds) + shift, _y(fmean(values), most)
        low, high = (f"{_y(value, most):.1f}" for value in (min(values), max(values)))
        points.append(f"{x:.1f},{mean:.1f}")
        yield "line", {"x1": f"{x:.1f}", "x2": f"{x:.1f}", "y1": low, "y2": high, "stroke": COLOURS[arm]}, ""
        yield "circle", {"cx": f"{x:.1f}", "cy": f"{mean:.1f}", "r": "3.5", "fill": COLOURS[arm]}, ""
    yield "polyline", {"points": " ".join(points), "fill": "none", "stroke": COLOURS[arm], "stroke-width": "2"}, ""


def _x(number: int, rounds: int) -> float:
    width = WIDTH - LEFT - RIGHT - 40
    return LEFT + 20 + (width * (number - 1) / (rounds - 1) if rounds > 1 else width / 2)


def _y(value: float, most: float) -> float:
    return HEIGHT - FOOT - value / most * (HEIGHT - FOOT - TOP)


def _text(x: float, y: float, text: str, fill: str, *, size: int = 12) -> Mark:
    return "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "fill": fill, "font-size": str(size)}, text

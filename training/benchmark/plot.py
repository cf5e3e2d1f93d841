"""U@5 of every method with its interval, as one SVG: a panel for each suite and index.

Written by hand, because two kinds of marks are all it needs (docs/decisions/0021).
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement

from training.benchmark.evaluator import Row

WIDTH, LABELS, LINE, HEAD, FOOT, FIGURE = 760, 170, 20, 34, 14, 60
INK, QUIET, MARK = "#1f2933", "#7b8794", "#1d4ed8"


def write_plot(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows; in each panel the best method stands on top, and the scale begins at 0."""
    panels = [list(panel) for _key, panel in groupby(rows, key=lambda row: (row.suite, row.split, row.index))]
    heights = [HEAD + LINE * len(panel) + FOOT for panel in panels]
    size = {"width": str(WIDTH), "height": str(sum(heights)), "viewBox": f"0 0 {WIDTH} {sum(heights)}"}
    root = Element("svg", size | {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "font-family": "sans-serif"})
    SubElement(root, "title").text = "Distinct toxic items in the review budget (U@5), 95 % intervals over reports"
    SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#ffffff"})
    for place, panel in enumerate(panels):
        group = SubElement(root, "g", {"transform": f"translate(0 {sum(heights[:place])})"})
        for tag, attributes, text in _panel(sorted(panel, key=lambda row: -row.u_at_5)):
            SubElement(group, tag, attributes).text = text
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _panel(rows: Sequence[Row]) -> Iterator[tuple[str, dict[str, str], str]]:
    """The elements of a panel: its title, and for each row name, interval, mean and figure."""
    most = max(*(row.intervals["u_at_5"][1] for row in rows), 1.0)
    first = rows[0]
    yield _text(12, 22, f"{first.suite}, {first.split}, {first.index}: U@5", INK, size=14)
    for place, row in enumerate(rows):
        y = HEAD + LINE * place + LINE / 2
        low, high = (_x(value, most) for value in row.intervals["u_at_5"])
        yield _text(12, y + 4, row.method, INK)
        yield "line", {"x1": low, "x2": high, "y1": f"{y}", "y2": f"{y}", "stroke": QUIET, "stroke-width": "2"}, ""
        yield "circle", {"cx": _x(row.u_at_5, most), "cy": f"{y}", "r": "4", "fill": MARK}, ""
        yield _text(WIDTH - FIGURE + 8, y + 4, f"{row.u_at_5:,.0f}", INK)


def _x(value: float, most: float) -> str:
    return f"{LABELS + value / most * (WIDTH - LABELS - FIGURE - 8):.1f}"


def _text(x: float, y: float, text: str, fill: str, *, size: int = 12) -> tuple[str, dict[str, str], str]:
    return "text", {"x": f"{x}", "y": f"{y}", "fill": fill, "font-size": f"{size}"}, text

"""Phrases marked in a text: which stretches are marked, where several overlap."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mark:
    """A stretch of a text (code points) and how it is shown; of overlapping marks the first given wins."""

    start: int
    end: int
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Segment:
    text: str
    mark: Mark | None


def segments(text: str, marks: Iterable[Mark]) -> Iterator[Segment]:
    """The text cut at its marks, in order, nothing lost and nothing twice.

    A mark that overlaps one given before it is left out; one that reaches past the text is cut.

    >>> [part.text for part in segments("abcdef", [Mark(1, 3), Mark(2, 5), Mark(5, 9)])]
    ['a', 'bc', 'de', 'f']
    """
    taken: list[Mark] = []
    for mark in marks:
        start, end = max(0, mark.start), min(len(text), mark.end)
        if start < end and all(end <= other.start or other.end <= start for other in taken):
            taken.append(Mark(start, end, mark.attributes))
    at = 0
    for mark in sorted(taken, key=lambda mark: mark.start):
        if at < mark.start:
            yield Segment(text[at : mark.start], None)
        yield Segment(text[mark.start : mark.end], mark)
        at = mark.end
    if at < len(text):
        yield Segment(text[at:], None)

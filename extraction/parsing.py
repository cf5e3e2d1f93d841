"""Answers of a language model read as text: cut into phrases, and each phrase found in the report or dropped.

Our own model answers under a constraint and needs none of this. A server without one, and a table of somebody else's
answers, number their lines, put phrases in quotes, repeat the lead-in and invent words.

>>> [part.text for part in split_answer('关键词：1. "加微信"\\n2. 代开发票')]
['加微信', '代开发票']
>>> locate("加微信", "请加.微.信", get_analysis("qx-1"))
(1, 6)
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from extraction.prompts import PROMPTS
from extraction.text import Analysis, MatchMode

_SEPARATOR = re.compile(
    r"""
      [\r\n，、;；|]
    | (?<!\d),              # a comma between digits parts thousands, not phrases, ...
    | ,(?!\d{3}(?!\d))      # ... where three of them follow
    """,
    re.VERBOSE,
)
_BULLET = re.compile(
    r"""
    \s*
    (?:
        [-*•·●○▪–—]+\s+                         # - phrase
      | [(（\[【]\d{1,2}[)）\]】][.、:：]?\s*    # (1) phrase
      | \d{1,2}(?:[)）、:：]|[.．](?!\d))\s*     # 1. phrase, but not 3.15
      | [\u2460-\u2473]\s*                       # a digit in a circle
    )?
    """,
    re.VERBOSE,
)
_LEAD_IN = re.compile(
    r"\s*(?:{})\s*[:：]\s*".format("|".join(re.escape(prompt.lead_in.strip(" :：\n")) for prompt in PROMPTS.values())),
    re.IGNORECASE,
)
_WRAPPING = " \t\u3000\"'`*“”‘’「」『』[]"


@dataclass(frozen=True)
class Part:
    """A phrase of an answer: `text` is `answer[start:end]`."""

    text: str
    start: int
    end: int


def split_answer(answer: str) -> list[Part]:
    """The phrases of an answer, in order, without numbering, bullets, quotes and a repeated lead-in."""
    parts = (_bare(answer, start, end) for line in _lines(answer) for start, end in _pieces(answer, *line))
    return [part for part in parts if part.text]


def locate(phrase: str, source: str, analysis: Analysis) -> tuple[int, int] | None:
    """Where the phrase first stands in the reported text, verbatim or else in a disguise that normalisation lifts.

    None if it is not there: nothing that the text does not say becomes a query.
    """
    if not phrase:
        return None
    at = source.find(phrase)
    if at >= 0:
        return at, at + len(phrase)
    found = analysis.find(source, analysis.key(phrase, MatchMode.PHRASE), MatchMode.PHRASE)
    return found[0] if found else None


def _lines(answer: str) -> Iterator[tuple[int, int]]:
    """Ranges of the lines without bullet or number: "1、加微信" has to lose its number before it is cut at "、"."""
    for line in re.finditer(r"[^\r\n]+", answer):
        yield _after_marks(answer, line.start(), line.end()), line.end()


def _pieces(answer: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for separator in _SEPARATOR.finditer(answer, start, end):
        yield start, separator.start()
        start = separator.end()
    yield start, end


def _bare(answer: str, start: int, end: int) -> Part:
    start = _after_marks(answer, start, end)
    while start < end and answer[start] in _WRAPPING:
        start += 1
    while start < end and answer[end - 1] in _WRAPPING:
        end -= 1
    return Part(answer[start:end], start, end)


def _after_marks(answer: str, start: int, end: int) -> int:
    """Behind a bullet or number, the lead-in, and a number again ("关键词：1. …")."""
    for mark in (_BULLET, _LEAD_IN, _BULLET):
        found = mark.match(answer, start, end)
        start = found.end() if found else start
    return start

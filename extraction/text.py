"""How text is read: one versioned normaliser, its tokens, and their places in the raw text.

Toxic text is disguised, so index and query pass through the same pure function (SPEC section 4). An `Analysis` is that
function with a name; whatever is stored in normalised form stores the name beside it.

Folded by "qx-1": width, letter case, compatibility forms, zero-width and other invisible characters, variation
selectors, traditional to simplified Chinese (one character to one). Kept: emoji, pinyin, homophones. An operator adds
homophones and emoji stand-ins as a table of extra folds (settings.FOLDS_FILE); the name then carries its digest:
"qx-1+1a2b3c4d".

>>> analysis = get_analysis("qx-1")
>>> analysis.tokens("加.微 信:VX１２３", MatchMode.PHRASE)
['加', '微', '信', 'vx123']
>>> analysis.find("请加.微.信", analysis.key("加微信", MatchMode.PHRASE), MatchMode.PHRASE)
[(1, 6)]
"""

import hashlib
import json
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

from django.conf import settings

from extraction.errors import AnalysisUnknown

CURRENT_ANALYSIS = "qx-1"
DATA = Path(__file__).parent / "data"

# Last block of plane 16: by these characters the engines write ASCII separators (extraction/search/streams.py).
RESERVED = range(0x10FF00, 0x10FF80)


class MatchMode(StrEnum):
    """What counts as one token: a word or character (phrase), or every code point (characters)."""

    PHRASE = "phrase"
    CHARACTERS = "characters"


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the half-open range of code points of the raw text that it came from."""

    text: str
    start: int
    end: int


# --- what is dropped, what is folded --------------------------------------------------------------------------------

_INVISIBLE = frozenset(
    [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)]
    + [*range(0xE0000, 0xE1000), *RESERVED]
)
_SPACES = frozenset({"Cc", "Zs", "Zl", "Zp"})
_NOTHING = frozenset({"Cf", "Cs"})


class _Folds(dict[int, str | int]):
    """A table for `str.translate`: drops the invisible, makes every separator a space, applies the given folds."""

    def __missing__(self, point: int) -> str | int:
        category = unicodedata.category(chr(point))
        if point in _INVISIBLE or category in _NOTHING:
            folded: str | int = ""
        else:
            folded = " " if category in _SPACES else point
        self[point] = folded
        return folded


@lru_cache(maxsize=1)
def _traditional_to_simplified() -> dict[int, str | int]:
    lines = (DATA / "traditional_to_simplified.txt").read_text(encoding="utf-8").splitlines()
    traditional, simplified = (line for line in lines if not line.startswith("#"))
    return {ord(old): new for old, new in zip(traditional, simplified, strict=True)}


# Marks that decorate any script (strike-through, rings, keycaps): where they do not compose, phrase mode ignores them.
_DECORATION = frozenset([*range(0x300, 0x370), *range(0x1AB0, 0x1B00), *range(0x1DC0, 0x1E00), *range(0x20D0, 0x2100)])

# Scripts written without spaces between words, where one character is one token.
_UNSPACED = (
    (0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF),
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x303C), (0x3041, 0x318F), (0x31A0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0xA4CF), (0xA960, 0xA97F), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF), (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF), (0x16FE0, 0x18DFF), (0x1AFF0, 0x1B2FF), (0x20000, 0x3FFFF),
)  # fmt: skip
_UNSPACED_STARTS = [start for start, _end in _UNSPACED]
_HAN = re.compile(
    "[\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_KANA = re.compile("[\u3041-\u30ff\u31f0-\u31ff]")
_HANGUL = re.compile("[\u1100-\u11ff\uac00-\ud7af]")
_LATIN = re.compile("[a-z\u00e0-\u024f\u1e00-\u1eff]+")


def _is_unspaced(point: int) -> bool:
    row = bisect_right(_UNSPACED_STARTS, point) - 1
    return row >= 0 and point <= _UNSPACED[row][1]


# --- tokens of a normalised text ------------------------------------------------------------------------------------


class _Tokenizer(Protocol):
    """Cuts a normalised text into phrase tokens; `spans` gives each with its range in the normalised text."""

    def tokens(self, normalised: str) -> list[str]: ...

    def spans(self, normalised: str) -> Iterator[tuple[str, int, int]]: ...


class _Kinds(dict[int, str | int]):
    """A table for `str.translate`: a code point of a run stays, one that is a token alone gets spaces around it."""

    def __init__(self, kind: Callable[[int], str]) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, point: int) -> str | int:
        found = self._kind(point)
        self[point] = value = (
            point if found == "run" else {"alone": f" {chr(point)} ", "ends": " ", "ignored": ""}[found]
        )
        return value


class _KindTokenizer:
    def __init__(self, kind: Callable[[int], str]) -> None:
        self._kinds = _Kinds(kind)

    def tokens(self, normalised: str) -> list[str]:
        return normalised.translate(self._kinds).split()

    def spans(self, normalised: str) -> Iterator[tuple[str, int, int]]:
        run, start, end = "", 0, 0
        for index, char in enumerate(normalised):
            kind = self._kinds[ord(char)]
            if kind == "":
                continue
            if kind == ord(char):
                start = start if run else index
                run, end = run + char, index + 1
                continue
            if run:
                yield run, start, end
                run = ""
            if kind != " ":
                yield char, index, index + 1
        if run:
            yield run, start, end


class _PatternTokenizer:
    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def tokens(self, normalised: str) -> list[str]:
        return self._pattern.findall(normalised)

    def spans(self, normalised: str) -> Iterator[tuple[str, int, int]]:
        return ((found.group(), *found.span()) for found in self._pattern.finditer(normalised))


def _kind_qx(point: int) -> str:
    if point in _DECORATION:
        return "ignored"
    category = unicodedata.category(chr(point))
    if category[0] in "LN" or category in ("Mn", "Mc"):
        return "alone" if _is_unspaced(point) or category == "No" else "run"
    if category == "Co" or (point > 0x2000 and category in ("So", "Cn")):
        return "alone"
    return "ends"


def _kind_bench_zh(point: int) -> str:
    if point < 0x80:
        return "run" if chr(point).isalnum() else "alone" if point == ord("*") else "ends"
    if _HAN.match(chr(point)) or (point > 0x2000 and unicodedata.category(chr(point)) == "So"):
        return "alone"
    return "ends"


# --- analysis -------------------------------------------------------------------------------------------------------


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _lower(text: str) -> str:
    """Lower case without looking at neighbours, as offsets need it (Python treats a last sigma apart)."""
    return text.replace("\u03a3", "\u03c3").lower()


def _lower_straight(text: str) -> str:
    return _lower(text).replace("\u2019", "'")


def _is_boundary(char: str) -> bool:
    """True if nothing before `char` can compose with it: a normaliser never looks across such a place."""
    first = unicodedata.normalize("NFKD", char)[0]
    is_joining_jamo = "\u1160" <= first <= "\u11ff"
    return not (unicodedata.combining(first) or unicodedata.category(first)[0] == "M" or is_joining_jamo)


_EXTENDS = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0000-\U000e0fff]")


@dataclass(frozen=True)
class Analysis:
    """A set of rules with its version: normalise, cut into tokens, find the place in the raw text. Pure and picklable.

    `name` names the rules for good: a change that alters any output needs a new name. `folds` is the operator's table,
    (character, replacement) pairs that are applied to normalised text.
    """

    name: str
    folds: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __reduce__(self) -> tuple[type["Analysis"], tuple[object, ...]]:
        return Analysis, (self.name, self.folds)  # without the tables, which are made again

    @property
    def base(self) -> str:
        """The name of the rules without the operator's table."""
        return self.name.partition("+")[0]

    @cached_property
    def _rules(self) -> "_Rules":
        return _RULES[self.base]

    @cached_property
    def _before(self) -> _Folds:
        return _Folds(self._rules.folds())

    @cached_property
    def _after(self) -> _Folds:
        return _Folds({**self._rules.folds(), **{ord(old): new for old, new in self.folds}})

    def _fold(self, text: str) -> str:
        """Fold text without its invisible characters. At a boundary, fold(a + b) = fold(a) + fold(b)."""
        folded = _nfkc(self._rules.lower(_nfkc(text))).translate(self._after)
        return _nfkc(folded) if self.folds else folded

    def normalise(self, text: str) -> str:
        """The text as index and query see it. Idempotent; "" if nothing remains.

        >>> get_analysis("qx-1").normalise("Ｖ\\u200b信 ❤️ 免費")
        'v信 ❤ 免费'
        """
        folded = self._fold(text.translate(self._before))
        return re.sub(" {2,}", " ", folded).strip(" ")

    def tokens(self, text: str, mode: MatchMode) -> list[str]:
        """The tokens of a raw text, in order. In characters mode a space is a token too."""
        return self.tokens_of_normalised(self.normalise(text), mode)

    def tokens_of_normalised(self, normalised: str, mode: MatchMode) -> list[str]:
        """The tokens of what `normalise` gave: for an index that keeps the normalised text."""
        return list(normalised) if mode is MatchMode.CHARACTERS else self._rules.tokenizer.tokens(normalised)

    def key(self, text: str, mode: MatchMode) -> str:
        """The canonical form of a query: two queries with one key match the same items. "" if nothing remains.

        Tokens joined by one space. In characters mode every token is one code point, so `key[::2]` gives them back.
        """
        return " ".join(self.tokens(text, mode))

    def spans(self, text: str, mode: MatchMode) -> list[Token]:
        """The tokens with their ranges in the raw text (code points), right for every class of disguise.

        A token that came from a part of a ligature has the range of the whole ligature. The ranges of neighbours never
        overlap otherwise, and leave out what was dropped between them.
        """
        chars, places = self._offsets(text)
        if mode is MatchMode.CHARACTERS:
            return [Token(char, *place) for char, place in zip(chars, places, strict=True)]
        return [
            Token(token, places[start][0], places[end - 1][1])
            for token, start, end in self._rules.tokenizer.spans(chars)
        ]

    def find(self, raw: str, key: str, mode: MatchMode) -> list[tuple[int, int]]:
        """Where the query with this key stands in the raw text: ranges in order, non-overlapping, leftmost first."""
        wanted = split_key(key, mode)
        if not wanted:
            return []
        spans = self.spans(raw, mode)
        return [
            (spans[at].start, spans[at + len(wanted) - 1].end)
            for at in occurrences([token.text for token in spans], wanted)
        ]

    def matches(self, text: str, key: str, mode: MatchMode) -> bool:
        """True if the query with this key matches the text: the reference that every engine is tested against."""
        wanted = split_key(key, mode)
        return bool(wanted) and next(occurrences(self.tokens(text, mode), wanted), None) is not None

    def is_spaced(self, text: str) -> bool:
        """True if the text is mainly in a language that puts spaces between words, so that lengths count in words."""
        tokens = self.tokens(text, MatchMode.PHRASE)
        unspaced = sum(len(token) == 1 and _is_unspaced(ord(token)) for token in tokens)
        words = sum(token[0].isalpha() and not _is_unspaced(ord(token[0])) for token in tokens)
        return words > 0 and unspaced < 0.3 * (unspaced + words)

    def definition(self) -> str:
        """All that is needed to make this analysis again, as JSON: an index stores it and is searched with it."""
        return json.dumps({"name": self.name, "folds": dict(self.folds)}, ensure_ascii=False, sort_keys=True)

    def _offsets(self, raw: str) -> tuple[str, list[tuple[int, int]]]:
        """The normalised text, and for each of its code points the raw range that it came from."""
        chars: list[str] = []
        places: list[tuple[int, int]] = []
        for segment, start, end in self._segments(raw):
            for char in self._fold(segment):
                if char == " " and (not chars or chars[-1] == " "):
                    continue
                chars.append(char)
                places.append((start, end))
        if chars and chars[-1] == " ":
            chars.pop()
            places.pop()
        return "".join(chars), places

    def _segments(self, raw: str) -> Iterator[tuple[str, int, int]]:
        """Cut the raw text where nothing composes across, without the invisible; ranges keep variation selectors."""
        segment, start, end = "", 0, 0
        for index, char in enumerate(raw):
            kept = char.translate(self._before)
            if not kept:
                if segment and end == index and _EXTENDS.match(char):
                    end = index + 1
                continue
            if segment and _is_boundary(kept):
                yield segment, start, end
                segment = ""
            start = start if segment else index
            segment, end = segment + kept, index + 1
        if segment:
            yield segment, start, end


@dataclass(frozen=True)
class _Rules:
    lower: Callable[[str], str]
    tokenizer: _Tokenizer
    folds: Callable[[], Mapping[int, str | int]] = dict


_RULES = {
    "qx-1": _Rules(str.casefold, _KindTokenizer(_kind_qx), _traditional_to_simplified),
    # The token rules of the labelled suites, word for word: nothing but NFKC and lower case.
    "bench-zh-1": _Rules(_lower, _KindTokenizer(_kind_bench_zh)),
    "bench-en-1": _Rules(_lower_straight, _PatternTokenizer(r"[a-z0-9]+(?:'[a-z]+)?|\*")),
}


def split_key(key: str, mode: MatchMode) -> list[str]:
    """The tokens of a key that `Analysis.key` made for this mode."""
    return list(key[::2]) if mode is MatchMode.CHARACTERS else key.split()


def occurrences(tokens: Sequence[str], wanted: Sequence[str]) -> Iterator[int]:
    """The places where `wanted` (not empty) stands in `tokens`, leftmost first, without overlap."""
    at, last = 0, len(tokens) - len(wanted)
    while at <= last:
        if tokens[at] == wanted[0] and list(tokens[at : at + len(wanted)]) == list(wanted):
            yield at
            at += len(wanted)
        else:
            at += 1


# --- names ----------------------------------------------------------------------------------------------------------


def get_analysis(name: str = CURRENT_ANALYSIS) -> Analysis:
    """The analysis of that name. The current one includes the site's table of extra folds, and says so in its own name.

    Raises AnalysisUnknown for a name that is not installed, or for a table of folds that the site no longer has.
    """
    current = _current(str(getattr(settings, "FOLDS_FILE", "") or ""))
    if name in (CURRENT_ANALYSIS, current.name):
        return current
    if name in _RULES:
        return _plain(name)
    raise AnalysisUnknown(f"No text analysis is called {name!r} here; the current one is {current.name!r}.")


@lru_cache
def _plain(name: str) -> Analysis:
    return Analysis(name)


@lru_cache
def _current(folds_file: str) -> Analysis:
    """Read once per process: a changed table serves after a restart, and then asks for a rebuild of the index."""
    return with_folds(CURRENT_ANALYSIS, read_folds(Path(folds_file))) if folds_file else _plain(CURRENT_ANALYSIS)


@lru_cache
def analysis_of(definition: str) -> Analysis:
    """The analysis that an index was built with, from what `Analysis.definition` gave when it was built."""
    values = json.loads(definition)
    name, folds = str(values["name"]), tuple(sorted(values["folds"].items()))
    if name.partition("+")[0] not in _RULES:
        raise AnalysisUnknown(f"The index was built with the text analysis {name!r}, which is not installed.")
    return Analysis(name, folds)


def with_folds(base: str, folds: Mapping[str, str]) -> Analysis:
    """An analysis with an operator's table on top: one character each, folded to any text.

    Both sides are normalised first. Raises ValueError for what is not one character, for a fold to nothing, and for a
    chain (a to b, b to c).
    """
    plain = Analysis(base)
    table = {plain.normalise(old): plain.normalise(new) for old, new in folds.items()}
    table = {old: new for old, new in table.items() if old != new}
    for old, new in table.items():
        if len(old) != 1:
            raise ValueError(f"An extra fold starts from one character; {old!r} is not one.")
        if not new or not _is_boundary(new[0]):
            raise ValueError(f"The extra fold of {old!r} must lead to text that can stand alone.")
        if any(char in table for char in new):
            raise ValueError(f"The extra fold {old!r} → {new!r} leads to a character that is folded itself.")
    pairs = tuple(sorted(table.items()))
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:8]
    return Analysis(f"{base}+{digest}" if pairs else base, pairs)


def read_folds(path: Path) -> dict[str, str]:
    """The operator's table of extra folds, a JSON object of character to text: {"薇": "微", "💰": "钱"}."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict) or not all(isinstance(new, str) for new in values.values()):
        raise ValueError(f"{path}: a table of folds is a JSON object of character to text.")
    return values


# --- raw text -------------------------------------------------------------------------------------------------------

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean_text(raw: str) -> str:
    """Without NUL and lone surrogates, which no database stores. Applied at every entrance, before hashing."""
    return _UNSTORABLE.sub("", raw)


def detect_language(text: str) -> str:
    """The language by the share of scripts: zh-Hans, zh-Hant, en, ja, ko or und. A latin word weighs as one character.

    Latin script is called English: telling the languages that share it apart is the importer's business.
    """
    lowered = _nfkc(text).casefold()
    han, words = _HAN.findall(lowered), _LATIN.findall(lowered)
    counts = {
        "zh": len(han),
        "ja": len(_KANA.findall(lowered)),
        "ko": len(_HANGUL.findall(lowered)),
        "en": len(words),
    }
    total = sum(counts.values())
    if not total or total < sum(map(str.isalpha, lowered)) - sum(map(len, words)):
        return "und"
    if counts["ja"] >= 0.15 * total and counts["ja"] + counts["zh"] > counts["en"]:
        return "ja"
    language = max(counts, key=lambda name: counts[name])
    return _chinese_script(han) if language == "zh" else language


def _chinese_script(han: list[str]) -> str:
    """Traditional if more characters exist only there than only in simplified; what fits both counts as simplified."""
    traditional, simplified = _one_script_only()
    only_traditional = sum(map(traditional.__contains__, han))
    only_simplified = sum(map(simplified.__contains__, han))
    return "zh-Hant" if only_traditional > only_simplified else "zh-Hans"


@lru_cache(maxsize=1)
def _one_script_only() -> tuple[frozenset[str], frozenset[str]]:
    """The characters that exist only in traditional, and only in simplified Chinese."""
    table = _traditional_to_simplified()
    traditional = frozenset(map(chr, table))
    return traditional, frozenset(map(str, table.values())) - traditional

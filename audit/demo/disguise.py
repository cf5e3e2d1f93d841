"""The ways in which a word is hidden from a plain search; applied to the phrases that a template marks with ⟦ and ⟧."""

import random
import re
from collections.abc import Callable

_MARKED = re.compile(r"⟦([^⟧]*)⟧")
_ZERO_WIDTH = ("\u200b", "\u200c", "\u2060", "\ufeff")
_SEPARATORS = (".", "·", "-", "/", "、", "~", " ", "*", "丨")
_LATIN_SEPARATORS = (".", "-", " ", "_", "*")
_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_TRADITIONAL = str.maketrans(
    "证业学历书驾单钱贷网赢发开税项实号认级费满离陈办驶执计约职务订资报国质货损丢",
    "證業學歷書駕單錢貸網贏發開稅項實號認級費滿離陳辦駛執計約職務訂資報國質貨損丟",
)
_LEET = str.maketrans("aeio", "4310")

Disguise = Callable[[str, random.Random], str]


def zero_width(word: str, rng: random.Random) -> str:
    """An invisible character inside the word: 毕\u200b业证."""
    at = rng.randrange(1, max(len(word), 2))
    return word[:at] + rng.choice(_ZERO_WIDTH) + word[at:]


def split(word: str, rng: random.Random) -> str:
    """One separator between all the characters: 毕.业.证."""
    return rng.choice(_LATIN_SEPARATORS if word.isascii() else _SEPARATORS).join(word)


def break_once(word: str, rng: random.Random) -> str:
    """One separator somewhere inside: dip loma."""
    at = rng.randrange(1, max(len(word), 2))
    return word[:at] + rng.choice((" ", ".", "-")) + word[at:]


def widen(word: str, rng: random.Random) -> str:
    """Latin letters and digits in full width: ｖｘ."""
    return word.translate(_WIDE)


def traditional(word: str, rng: random.Random) -> str:
    """Traditional characters where the small table of this file knows one: 畢業證 keeps what it does not know."""
    return word.translate(_TRADITIONAL)


def leet(word: str, rng: random.Random) -> str:
    """Digits that look like the letters: d1pl0m4, one or all of them."""
    return word.translate(_LEET)


def plain(word: str, rng: random.Random) -> str:
    """The word as it is."""
    return word


# What the normaliser undoes (a plain word stays findable) and what it does not.
FOLDED_ZH: tuple[Disguise, ...] = (plain, zero_width, split, traditional)
FOLDED_EN: tuple[Disguise, ...] = (plain, zero_width, widen)
MIXED_ZH: tuple[Disguise, ...] = (plain, plain, plain, plain, split, zero_width, widen, traditional)
MIXED_EN: tuple[Disguise, ...] = (plain, plain, plain, plain, break_once, zero_width, widen)
HARD_EN: tuple[Disguise, ...] = (leet, split, break_once)


def apply(text: str, disguises: tuple[Disguise, ...], rng: random.Random) -> str:
    """Disguise every marked phrase of the text and drop the marks."""
    return _MARKED.sub(lambda match: rng.choice(disguises)(match[1], rng), text)

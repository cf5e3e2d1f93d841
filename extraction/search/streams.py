"""How tokens are written for an engine: one line of text that an engine's simplest tokenizer cuts at spaces only.

The `ascii` tokenizer of FTS5 and the `whitespace` analyzer of Elasticsearch then give our tokens back unchanged: a
phrase query means the same in both, and no character of a query can be read as syntax.
"""

import hashlib
from collections.abc import Sequence

from extraction.text import RESERVED

_LONGEST_TOKEN = 80  # characters; engines cut or refuse long ones, each at its own length
_WIDE = "\u2e80"  # from here on: Han, kana, Hangul, emoji
_BETWEEN = "\x00"  # never part of a token: normalisers make control characters a space
_SHIFTS = {code: chr(RESERVED.start + code) for code in range(128) if not chr(code).isalnum()} | {0: " "}


def stream(tokens: Sequence[str]) -> str:
    """The tokens joined by spaces, other ASCII separators moved to plane 16, overlong tokens replaced by a digest.

    >>> stream(["加", "微", "vx123"])
    '加 微 vx123'
    """
    if any(len(token) > _LONGEST_TOKEN for token in tokens):
        tokens = [_shortened(token) for token in tokens]
    return _BETWEEN.join(tokens).translate(_SHIFTS)


def pairs(text: str) -> list[str]:
    """One token a character: itself with its follower where both are of a small alphabet, else itself.

    Each letter stands in nearly every item, so that a phrase of single letters would have the engine read most of the
    index; pairs are as many tokens, and rare. Han characters are rare enough alone.

    >>> pairs("加vx1")
    ['加', 'vx', 'x1', '1']
    """
    followers = text[1:] + _WIDE
    return [one + other if one < _WIDE > other else one for one, other in zip(text, followers, strict=bool(text))]


def pairs_of_query(text: str) -> tuple[list[str], bool]:
    """The tokens that this text has inside any item, and whether the last one is only the beginning of a token.

    >>> pairs_of_query("加vx1"), pairs_of_query("加v")
    ((['加', 'vx', 'x1'], False), (['加', 'v'], True))
    """
    tokens = pairs(text)
    is_open = text[-1] < _WIDE  # what follows it in an item is not known
    if is_open and text[-2:-1] and text[-2] < _WIDE:
        return tokens[:-1], False
    return tokens, is_open


def _shortened(token: str) -> str:
    if len(token) <= _LONGEST_TOKEN:
        return token
    return f"long{hashlib.blake2b(token.encode(), digest_size=20).hexdigest()}"

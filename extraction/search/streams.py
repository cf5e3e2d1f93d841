"""How tokens are written for an engine: one line of text that an engine's simplest tokenizer cuts at spaces only.

The `ascii` tokenizer of FTS5 and the `whitespace` analyzer of Elasticsearch then give our tokens back unchanged: a
phrase query means the same in both, and no character of a query can be read as syntax.
"""

import hashlib
from collections.abc import Sequence

from extraction.text import RESERVED

_LONGEST_TOKEN = 80  # characters; engines cut or refuse long ones, each at its own length
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


def _shortened(token: str) -> str:
    if len(token) <= _LONGEST_TOKEN:
        return token
    return f"long{hashlib.blake2b(token.encode(), digest_size=20).hexdigest()}"

"""Phrases found in texts: which of many queries match a text, in one pass over it."""

from collections.abc import Iterator, Sequence

from extraction.text import Analysis, MatchMode, split_key

_Tokens = tuple[str, ...]
_START = 3


class Phrases:
    """Numbered phrases; `found_in` matches as every engine does (`Analysis.matches`), for all phrases at once.

    Phrases are looked up by their first three tokens, then by length: the time for a text grows with the text, hardly
    with the number of phrases. Memory grows with the phrases alone.
    """

    def __init__(self, rules: Analysis) -> None:
        self._rules = rules
        self._numbers: dict[tuple[MatchMode, str], int] = {}
        self._keys: list[str] = []
        self._tables = {mode: _Table() for mode in MatchMode}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, text: str, mode: MatchMode) -> int | None:
        """The number of this phrase, the same for equal ones; None where nothing remains of it."""
        key = self._rules.key(text, mode)
        if not key:
            return None
        number = self._numbers.get((mode, key))
        if number is None:
            number = self._numbers[mode, key] = len(self._keys)
            self._keys.append(key)
            self._tables[mode].add(split_key(key, mode), number)
        return number

    def number_of(self, text: str, mode: MatchMode) -> int | None:
        """The number of a phrase that was added, else None."""
        return self._numbers.get((mode, self._rules.key(text, mode)))

    def key_of(self, number: int) -> str:
        return self._keys[number]

    def found_in(self, text: str) -> set[int]:
        """Numbers of the phrases that match a raw text."""
        normalised = self._rules.normalise(text)
        found: set[int] = set()
        for mode, table in self._tables.items():
            if table:
                found.update(table.found_in(self._rules.tokens_of_normalised(normalised, mode)))
        return found


class _Table:
    """`_short`: phrases of one and two tokens; `_long`: first three tokens → length → all tokens → number."""

    def __init__(self) -> None:
        self._short: dict[_Tokens, int] = {}
        self._long: dict[_Tokens, dict[int, dict[_Tokens, int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._short or self._long)

    def add(self, tokens: Sequence[str], number: int) -> None:
        phrase = tuple(tokens)
        if len(phrase) < _START:
            self._short[phrase] = number
        else:
            self._long.setdefault(phrase[:_START], {}).setdefault(len(phrase), {})[phrase] = number

    def found_in(self, tokens: Sequence[str]) -> Iterator[int]:
        for length in range(1, _START):
            yield from (self._short[phrase] for phrase in self._short.keys() & set(_grams(tokens, length)))
        known = self._long
        for at in [at for at, start in enumerate(_grams(tokens, _START)) if start in known]:
            for length, numbers in known[tuple(tokens[at : at + _START])].items():
                number = numbers.get(tuple(tokens[at : at + length]))
                if number is not None:
                    yield number


def _grams(tokens: Sequence[str], length: int) -> Iterator[_Tokens]:
    return zip(*(tokens[at:] for at in range(length)), strict=False)

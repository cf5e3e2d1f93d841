"""Phrases found in texts: which of many queries match a text, in one pass over it."""

from collections.abc import Iterable, Sequence

from extraction.text import Analysis, MatchMode, split_key

_Start = tuple[str, ...]


class Phrases:
    """Numbered phrases; `found_in` matches as every engine does (`Analysis.matches`), for all phrases at once.

    Phrases are looked up by their first two tokens, then by length: the time for a text grows with the text, hardly
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
    def __init__(self) -> None:
        self._single: dict[str, int] = {}
        self._longer: dict[_Start, dict[int, dict[str, int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._single or self._longer)

    def add(self, tokens: Sequence[str], number: int) -> None:
        if len(tokens) == 1:
            self._single[tokens[0]] = number
        else:
            by_length = self._longer.setdefault((tokens[0], tokens[1]), {})
            by_length.setdefault(len(tokens), {})["\n".join(tokens)] = number

    def found_in(self, tokens: Sequence[str]) -> Iterable[int]:
        if self._single:
            yield from (self._single[token] for token in self._single.keys() & set(tokens))
        for at, start in enumerate(zip(tokens, tokens[1:], strict=False)):
            for length, numbers in self._longer.get(start, {}).items():
                number = numbers.get("\n".join(tokens[at : at + length]))
                if number is not None:
                    yield number

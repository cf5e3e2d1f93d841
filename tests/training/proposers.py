"""An adapter's voice for tests: what it proposes is written down."""

from collections.abc import Mapping, Sequence

from extraction.generation import Proposed
from extraction.models import Adapter

Said = Mapping[str, Mapping[str, Sequence[tuple[str, float]]]]
"""Adapter name → text → its phrases (verbatim in the text), each with a confidence."""


class Scripted:
    """Proposes what was written down; a text that nobody wrote for gets nothing."""

    def __init__(self, said: Said) -> None:
        self._said = said
        self.asked: list[str | None] = []

    def __call__(self, adapter: Adapter) -> "Scripted":
        return self

    def propose(self, texts: Sequence[str], adapters: Sequence[str | None], *, limit: int = 8) -> list[list[Proposed]]:
        self.asked += adapters
        return [
            [_proposed(text, phrase, confidence) for phrase, confidence in self._phrases(adapter, text)][:limit]
            for text, adapter in zip(texts, adapters, strict=True)
        ]

    def _phrases(self, adapter: str | None, text: str) -> Sequence[tuple[str, float]]:
        return self._said.get(adapter or "", {}).get(text, ())


def _proposed(text: str, phrase: str, confidence: float) -> Proposed:
    start = text.index(phrase)
    return Proposed(phrase, start, start + len(phrase), confidence)

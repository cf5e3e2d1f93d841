"""A sequence of pairs on disk, so that a build needs the memory of one pair and 8 bytes for each of the others."""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Self, overload

from training.datasets.pairs import Evidence, Pair


class Spool(Sequence[Pair]):
    """Written once by `extend`, then read in any order. The file is the caller's to remove."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._starts = array("q")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def extend(self, pairs: Iterable[Pair]) -> None:
        at = self._file.seek(0, 2)
        for pair in pairs:
            self._starts.append(at)
            at += self._file.write(_line(pair))

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, at: int) -> Pair: ...
    @overload
    def __getitem__(self, at: slice) -> list[Pair]: ...
    def __getitem__(self, at: int | slice) -> Pair | list[Pair]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        self._file.seek(self._starts[at])
        return _read(self._file.readline())

    def __iter__(self) -> Iterator[Pair]:
        return (self[at] for at in range(len(self)))


_PLAIN = tuple(field.name for field in fields(Pair) if field.name != "evidence")


def _line(pair: Pair) -> bytes:
    counts = [pair.evidence.toxic, pair.evidence.judged, pair.evidence.shown]
    return json.dumps([*(getattr(pair, name) for name in _PLAIN), counts]).encode() + b"\n"


def _read(line: bytes) -> Pair:
    *values, counts = json.loads(line)
    return Pair(**dict(zip(_PLAIN, values, strict=True)), evidence=Evidence(*counts))

"""A small grammar: templates with slots, choices and numbers, expanded by a seeded generator.

``{name}`` is one of the phrases of that slot, ``<a|b|>`` one of the phrases between the bars (possibly none), and
``{n:10-95:5}`` a number from 10 to 95 in steps of 5. All three nest.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

Slots = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Slot:
    name: str


@dataclass(frozen=True)
class Number:
    low: int
    high: int
    step: int


@dataclass(frozen=True)
class Choice:
    branches: tuple["Parts", ...]


Parts = tuple["str | Slot | Number | Choice", ...]


class GrammarError(ValueError):
    """A template that cannot be read or a slot that nobody fills."""


@cache
def parse(template: str) -> Parts:
    """Read a template; raises GrammarError for a bracket without its partner."""
    parts, end = _parse_until(template, 0, "")
    if end != len(template):
        raise GrammarError(f"Unexpected {template[end]!r} in {template!r}")
    return parts


def expand(template: str, slots: Slots, rng: random.Random) -> str:
    """One text of the template: ``expand("<出|转>{what}", {"what": ["台灯"]}, rng)`` gives 出台灯 or 转台灯."""
    return "".join(_expand_part(part, slots, rng) for part in parse(template))


def _expand_part(part: str | Slot | Number | Choice, slots: Slots, rng: random.Random) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Slot):
        if part.name not in slots:
            raise GrammarError(f"No slot is called {part.name!r}")
        return expand(rng.choice(slots[part.name]), slots, rng)
    if isinstance(part, Number):
        return str(rng.randrange(part.low, part.high + 1, part.step))
    branch = rng.choice(part.branches)
    return "".join(_expand_part(inner, slots, rng) for inner in branch)


def _parse_until(template: str, start: int, stops: str) -> tuple[Parts, int]:
    parts: list[str | Slot | Number | Choice] = []
    at = plain = start
    while at < len(template) and template[at] not in stops:
        if template[at] not in "{<":
            at += 1
            continue
        parts.append(template[plain:at])
        reader = _read_slot if template[at] == "{" else _read_choice
        part, at = reader(template, at + 1)
        parts.append(part)
        plain = at
    parts.append(template[plain:at])
    return tuple(part for part in parts if part != ""), at


def _read_slot(template: str, start: int) -> tuple[Slot | Number, int]:
    end = template.find("}", start)
    if end < 0:
        raise GrammarError(f"A brace stays open in {template!r}")
    name = template[start:end]
    if not name.startswith("n:"):
        return Slot(name), end + 1
    bounds, _, step = name.removeprefix("n:").partition(":")
    low, _, high = bounds.partition("-")
    return Number(int(low), int(high), int(step or 1)), end + 1


def _read_choice(template: str, start: int) -> tuple[Choice, int]:
    branches: list[Parts] = []
    at = start
    while True:
        parts, at = _parse_until(template, at, "|>")
        branches.append(parts)
        if at >= len(template):
            raise GrammarError(f"A choice stays open in {template!r}")
        if template[at] == ">":
            return Choice(tuple(branches)), at + 1
        at += 1

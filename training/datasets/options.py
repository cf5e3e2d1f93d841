"""Every setting of a build, with the defaults of SPEC section 5."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from extraction.prompts import CURRENT_PROMPT, PROMPTS
from extraction.text import CURRENT_ANALYSIS


class OptionsError(ValueError):
    """A setting has no such name or value, or two of them cannot stand together."""


class Mix(StrEnum):
    """Which sources the pairs of D come from. Too many of the model's own, and it learns its own echo."""

    HUMAN = "human"
    WITH_HITS = "with_hits"
    """All human queries; accepted model queries with at least one judged toxic match beside the report's own item."""
    ALL = "all"


class Reward(StrEnum):
    """How D_pol scores a candidate: s(q) of what it retrieves under the risk model, or p(k|S) of the log."""

    RISK = "risk"
    PRECISION = "precision"


@dataclass(frozen=True)
class Options:
    """Settings of a build. `as_json` and `from_json` carry them through a database row.

    until: nothing of the log from this moment on is read, no verdict and no undoing either; None: the moment of the
    build. max_length: longest phrase in characters, in spaced languages in words; None: eq. (1), no limit for a phrase
    that exposed anything and 10 for one that did not. min_judged_*: judged matches that a phrase needs on each side of
    `threshold` (0 of 5 says nothing about 5 %). group_size: different texts sampled from a group. max_characters of a
    joined content and its longest answer; leaves about 150 of 2,048 tokens for the rest of the prompt even where each
    character is a token. list_size: candidates of a ranked list. samples, temperature: what D_pol draws for a report;
    gap: the least difference of best and worst in it; pol_reports: the newest reports that it draws for.
    """

    until: datetime | None = None
    prompt_version: str = CURRENT_PROMPT
    analysis: str = CURRENT_ANALYSIS
    seed: int = 0
    max_length: int | None = 10
    mix: Mix = Mix.WITH_HITS
    threshold: float = 0.05
    min_judged_preferred: int = 5
    min_judged_dispreferred: int = 20
    use_wilson: bool = False
    group_size: int = 20
    max_characters: int = 1_900
    list_size: int = 8
    samples: int = 8
    temperature: float = 1.2
    gap: float = 0.05
    pol_reports: int = 2_000
    reward: Reward = Reward.RISK

    def __post_init__(self) -> None:
        if self.until is not None and self.until.tzinfo is None:
            raise OptionsError("until needs an offset from UTC.")
        if self.prompt_version not in PROMPTS:
            raise OptionsError(f"There is no prompt {self.prompt_version!r}, only {', '.join(PROMPTS)}.")
        if self.max_length is not None and self.max_length < 2:
            raise OptionsError(f"max_length is 2 or more, or none; not {self.max_length}.")
        if not 0 <= self.threshold < 1 or not 0 <= self.gap < 1:
            raise OptionsError(f"threshold and gap are shares: {self.threshold}, {self.gap}.")
        if self.use_wilson and not self.threshold:
            raise OptionsError("At a threshold of 0 no upper bound is low enough: the Wilson bound cannot be used.")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise OptionsError(f"{name} is at least {least}, not {getattr(self, name)}.")

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a JSON field."""
        return asdict(self) | {"until": self.until.isoformat() if self.until else None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Options":
        """The options that `as_json` wrote; what is missing has its default. Raises OptionsError."""
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise OptionsError(f"No setting of a dataset is called {', '.join(sorted(unknown))}.")
        try:
            return cls(**{name: _READ[name](value) if name in _READ else value for name, value in values.items()})
        except (ValueError, TypeError) as error:
            raise OptionsError(str(error)) from error


_LEAST = {
    "min_judged_preferred": 1,
    "min_judged_dispreferred": 1,
    "group_size": 1,
    "max_characters": 20,
    "list_size": 2,
    "samples": 1,
    "pol_reports": 1,
}
_READ: Mapping[str, Any] = {
    "until": lambda value: datetime.fromisoformat(value) if value else None,
    "mix": Mix,
    "reward": Reward,
}

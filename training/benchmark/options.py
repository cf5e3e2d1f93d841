"""What can be chosen about the methods of a benchmark, apart from which of them run."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class LearnFrom(StrEnum):
    """Which train items a risk model may learn from."""

    LOGGED = "logged"
    """What a live system would hold verdicts on: the reports and what their queries showed (the simulated log)."""
    ALL = "all"
    """Every labelled item."""
    IN_DOMAIN = "in-domain"
    """Items of those sources that hold toxic ones: the style of a source tells nothing then."""


@dataclass(frozen=True)
class Options:
    """Settings of the methods. What a method does not use changes nothing for it."""

    learn_from: LearnFrom = LearnFrom.LOGGED
    work: Path | None = None
    """Where trained models are kept between runs; None keeps none."""
    epochs: int | None = None
    """Of each trained baseline; None: as many as its paper says."""
    seq2seq: str = ""
    """An encoder-decoder by path, or by name with `@` and its commit; "": a small one, trained here from nothing."""
    llm: str = ""
    """The language model that is asked without training, given in the same way."""

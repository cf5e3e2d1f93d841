"""What is simulated: the arms, the size of the loop, and the person who works in it.

Everything random is drawn from (seed, what it is about), never from the order in which it is asked for: two arms that
ask about the same report and the same item get the same answer.
"""

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
"""The first morning of the warm-up, a Monday."""
BEFORE = START - timedelta(days=7)
"""When the collection and the frozen test reports came in."""
WORKDAY = timedelta(hours=8)
_NAMES = uuid.uuid5(uuid.NAMESPACE_URL, "https://example.invalid/qexplorer/simulation")


class SimulationError(Exception):
    """The simulation cannot run or go on; the sentence says why."""


class Arm(StrEnum):
    """What a team has. Each one adds exactly what its line says to the one before."""

    HUMAN = "human"
    """People's own queries only; results in the order of the risk model of the warm-up."""
    FROZEN = "frozen"
    """The suggestions of `search` and of the model, both as of the end of the warm-up."""
    RISK = "risk"
    """At the end of each round the risk model learns from the log."""
    FULL = "full"
    """So does the language model (SFT, DPO); the gate decides whether the new adapter serves."""
    UNGATED = "ungated"
    """As `full`, but every new adapter serves at once."""

    @property
    def suggests(self) -> bool:
        return self is not Arm.HUMAN

    @property
    def refits(self) -> bool:
        return self in (Arm.RISK, Arm.FULL, Arm.UNGATED)

    @property
    def trains(self) -> bool:
        return self in (Arm.FULL, Arm.UNGATED)


DEFAULT_ARMS = (Arm.HUMAN, Arm.FROZEN, Arm.RISK, Arm.FULL)


class Fault(StrEnum):
    """What is broken on purpose."""

    WORKER = "worker"
    """A worker is killed in the middle of an exploration, and one in the middle of a training."""
    ENGINE = "engine"
    """The index is taken away before an exploration runs, and again while its results are judged."""


@dataclass(frozen=True)
class Plan:
    """How large the loop is. `warm_up`: reports worked before the first round, without suggestions."""

    rounds: int = 3
    days: int = 5
    reports_a_day: int = 12
    reviews_a_day: int = 240
    warm_up: int = 100
    error: float = 0.03
    """Share of the items on which the auditor's verdict is wrong."""
    profile: str = "small"
    recipe: str = "small-pol"
    tests: int = 200
    """Reports of the test split that U@5 is measured on, at most."""
    frozen: int = 60
    """Reports of the dev split that the gate looks at, at most."""

    @property
    def a_round(self) -> int:
        """Reports of a round."""
        return self.days * self.reports_a_day

    @property
    def stream(self) -> int:
        """Reports that come in all."""
        return self.warm_up + self.rounds * self.a_round

    def digest(self, suite: Path) -> str:
        """Names the work of this plan on this suite."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        for name in ("items.jsonl.gz", "reports.jsonl"):
            digest.update((suite / name).read_bytes())
        return digest.hexdigest()[:12]


def chance(*about: object) -> float:
    """A number in [0, 1) for what it is about, always the same."""
    return int.from_bytes(hashlib.sha256(_joined(about)).digest()[:8]) / 2**64


def key_for(*about: object) -> uuid.UUID:
    """The key of the request that records this."""
    return uuid.uuid5(_NAMES, _joined(about).decode())


def _joined(about: tuple[object, ...]) -> bytes:
    return "\n".join(map(str, about)).encode()

"""What the site acknowledged to the simulated auditor: its own account, kept apart from the site's log.

A call that returned was acknowledged. The account holds nothing else, so whatever stands in it must stand in the log
exactly once, and the log must hold nothing that does not stand in it (`reconcile.py`).
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from audit.models import Decision, Exploration, Judgment, Report, Verdict

FILE = "tally.json"


@dataclass
class Tally:
    """Public ids of what was recorded, with what was said."""

    decisions: dict[str, str] = field(default_factory=dict)
    """Decision → its kind."""
    judgments: dict[str, str] = field(default_factory=dict)
    """Judgment → its verdict."""
    removed: list[str] = field(default_factory=list)
    """External ids of the items that were live and are judged toxic, in order."""
    pages: dict[str, list[int]] = field(default_factory=dict)
    """Exploration → how many items each of its pages showed."""
    closed: list[str] = field(default_factory=list)
    """Reports."""

    def note_decision(self, decision: Decision) -> None:
        self.decisions[str(decision.public_id)] = decision.kind

    def note_judgment(self, judgment: Judgment, external_id: str, *, is_live: bool) -> None:
        self.judgments[str(judgment.public_id)] = judgment.verdict
        if is_live and judgment.verdict == Verdict.TOXIC and external_id not in self.removed:
            self.removed.append(external_id)

    def note_exploration(self, exploration: Exploration) -> None:
        self.pages[str(exploration.public_id)] = []

    def note_page(self, exploration: Exploration, shown: int) -> None:
        self.pages[str(exploration.public_id)].append(shown)

    def note_closed(self, report: Report) -> None:
        self.closed.append(str(report.public_id))

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> "Tally":
        """The account of the rounds before; a new one where there is none."""
        path = folder / FILE
        return cls(**json.loads(path.read_text())) if path.exists() else cls()


@dataclass(frozen=True)
class Compared:
    """One line of the comparison: what was acknowledged, what the log holds, and how many of them differ."""

    what: str
    acknowledged: int
    logged: int
    differing: int

    @property
    def agrees(self) -> bool:
        return self.acknowledged == self.logged and not self.differing


def compared(what: str, acknowledged: Iterable[Hashable], logged: Iterable[Hashable]) -> Compared:
    """Compare as lists, in which each thing stands exactly once: twice in the log is as wrong as not at all.

    >>> compared("rows", ["a", "b"], ["b", "b"]).differing
    2
    """
    said, kept = Counter(iter(acknowledged)), Counter(iter(logged))
    differing = sum(said[one] != kept[one] for one in said | kept)
    return Compared(what, said.total(), kept.total(), differing)

"""Forecast against outcome: what proposals of a given score really expose. The suggester's floor comes from this."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from extraction.suggest import FLOOR, PROPOSAL_LIMIT, Trial, propose
from training.benchmark.readings import risk_of
from training.benchmark.suggester import scored_trials
from training.benchmark.suites import Answers, Task
from training.metrics import Verdicts

EDGES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class Outcome:
    """A proposal's score, and what it exposes that no earlier proposal of its report did: items, toxic ones."""

    score: float
    new: int
    toxic: int


@dataclass(frozen=True)
class Band:
    """All proposals whose score is at least `low` and below `high`."""

    low: float
    high: float
    proposals: int
    new: int
    toxic: int
    effective: int

    @property
    def precision(self) -> float:
        """Toxic share of what is new; 0 where nothing was proposed."""
        return self.toxic / self.new if self.new else 0.0


@dataclass(frozen=True)
class Calibration:
    """The bands, and how many of the reports get nothing at the product's floor."""

    bands: tuple[Band, ...]
    reports: int
    without: int


def calibrate(task: Task, answers: Answers) -> Calibration:
    """Propose for every report without a floor, nothing seen yet, and look at the labels: one band a range of score."""
    each = [list(_outcomes(trials, answers.verdicts)) for trials in scored_trials(task, risk_of(task))]
    outcomes = [outcome for own in each for outcome in own]
    return Calibration(
        bands=tuple(_band(low, high, outcomes) for low, high in pairwise(EDGES)),
        reports=len(each),
        without=sum(all(outcome.score < FLOOR for outcome in own) for own in each),
    )


def as_lines(calibration: Calibration) -> Iterator[str]:
    """The bands as a table of text."""
    yield f"{calibration.without} of {calibration.reports} reports get nothing at the floor of {FLOOR}."
    yield "score        proposals  effective      new    toxic  precision"
    for band in calibration.bands:
        figures = (
            f"{band.proposals:>9,}  {band.effective:>9,}  {band.new:>7,}  {band.toxic:>7,}  {band.precision:>9.3f}"
        )
        yield f"{band.low:.2f}-{band.high:.2f}    {figures}"


def _outcomes(trials: Sequence[Trial], verdicts: Verdicts) -> Iterator[Outcome]:
    shown: set[int] = set()
    for proposal in propose(trials, seen=frozenset(), limit=PROPOSAL_LIMIT, floor=0.0):
        new = set(proposal.first) - shown
        shown |= new
        yield Outcome(proposal.score, len(new), sum(verdicts[id] for id in new))


def _band(low: float, high: float, outcomes: Sequence[Outcome]) -> Band:
    inside = [outcome for outcome in outcomes if low <= outcome.score < high]
    return Band(
        low=low,
        high=high,
        proposals=len(inside),
        new=sum(outcome.new for outcome in inside),
        toxic=sum(outcome.toxic for outcome in inside),
        effective=sum(outcome.toxic > 0 for outcome in inside),
    )

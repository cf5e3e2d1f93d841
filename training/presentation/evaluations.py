"""Evaluations: two adapters' figures beside each other, and the rules of the gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.models import JobState
from training import gate
from training.models import Evaluation, GateVerdict
from training.presentation.adapters import adapter_rows


@dataclass(frozen=True)
class Measure:
    """One line of the comparison. `places` are the interval's and the dot's places on the scale, in per cent."""

    name: str
    ours: str
    theirs: str
    difference: str
    interval: str
    places: tuple[str, str, str, str] | None
    counts: str


_MEASURES: tuple[tuple[str, Any, int], ...] = (
    ("unique", gettext_lazy("Unique toxic items, five reviewed a report"), 0),
    ("hits", gettext_lazy("Number of hit@100"), 0),
    ("queries", gettext_lazy("Queries"), 0),
    ("effective", gettext_lazy("Effective queries"), 0),
    ("query_hit_rate", gettext_lazy("Query hit rate"), 3),
    ("precision", gettext_lazy("Precision@100, judged only"), 3),
)


@dataclass(frozen=True)
class EvaluationView:
    """An evaluation with its comparison, its rules in sentences, and what may follow."""

    evaluation: Evaluation

    @property
    def measures(self) -> list[Measure]:
        return [self._measure(name, str(title), digits) for name, title, digits in _MEASURES]

    @property
    def rules(self) -> list[tuple[bool, str]]:
        return [(rule["holds"], gate.sentence(rule)) for rule in self.evaluation.gate]

    @property
    def holding(self) -> int:
        return sum(rule["holds"] for rule in self.evaluation.gate)

    @property
    def passes(self) -> bool:
        return self.evaluation.verdict == GateVerdict.PASSES

    @property
    def reports(self) -> int:
        return len(self.evaluation.by_report)

    @property
    def is_open(self) -> bool:
        """Whether a person may decide about the adapter here: it has no role, and this is its newest evaluation."""
        adapter = self.evaluation.adapter
        newest = adapter.evaluations.filter(state=JobState.DONE).first()
        return self.evaluation == newest and adapter_rows([adapter])[0].is_open

    def _measure(self, name: str, title: str, digits: int) -> Measure:
        compared = self.evaluation.comparison.get(name)
        ours, theirs = (
            _figure(figures.get(name), digits)
            for figures in (self.evaluation.figures, self.evaluation.baseline_figures)
        )
        if compared is None:
            return Measure(title, ours, theirs, "", "", None, "")
        words = _("%(low)s to %(high)s")
        low, high = _signed(compared["low"], digits), _signed(compared["high"], digits)
        counts = [compared.get(key) for key in ("wins", "ties", "losses")]
        return Measure(
            title,
            ours,
            theirs,
            _signed(compared["difference"], digits),
            words % {"low": low, "high": high},
            _places(compared),
            " / ".join(intcomma(int(count)) for count in counts if count is not None),
        )


def _figure(value: float | None, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if digits else intcomma(int(value))


def _signed(value: float, digits: int) -> str:
    words = f"{value:+,.{digits}f}"
    return words.replace("-", "−") if float(words.replace(",", "")) else f"{0:.{digits}f}"


def _places(compared: Mapping[str, float]) -> tuple[str, str, str, str]:
    """Zero, low, difference and high on a scale that has 0 in it and a margin at both ends."""
    values = [compared["low"], compared["difference"], compared["high"]]
    least, most = min(0.0, *values), max(0.0, *values)
    width = (most - least) or 1.0
    zero, low, at, high = (f"{8 + 84 * (value - least) / width:.1f}%" for value in [0.0, *values])
    return zero, low, at, high

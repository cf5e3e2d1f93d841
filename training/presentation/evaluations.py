"""Evaluations: two adapters' figures beside each other, and the rules of the gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.models import JobState
from training import gate
from training.models import Evaluation, GateVerdict, ShadowScore
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
        return measures(self.evaluation.figures, self.evaluation.baseline_figures, self.evaluation.comparison)

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


@dataclass(frozen=True)
class ScoreView:
    """What an adapter proposed for live reports, scored beside who served."""

    score: ShadowScore

    @property
    def measures(self) -> list[Measure]:
        """Those of an evaluation, then what they rest on."""
        ours, theirs = self.score.figures, self.score.other_figures
        results = [intcomma(side["results_judged"]) for side in (ours, theirs)]
        return [
            *measures(ours, theirs, self.score.comparison),
            _uncompared(_("Results judged, for precision"), *results),
            _uncompared(_("judged@100, different texts"), _judged(ours), _judged(theirs)),
        ]


def measures(
    figures: Mapping[str, Any], others: Mapping[str, Any], comparison: Mapping[str, Mapping[str, float]]
) -> list[Measure]:
    """The lines of a comparison of two adapters' figures (gate.Figures and gate.compare, as they are kept)."""
    return [
        _measure(
            str(title),
            _figure(figures.get(name), digits),
            _figure(others.get(name), digits),
            comparison.get(name),
            digits,
        )
        for name, title, digits in _MEASURES
    ]


def _measure(title: str, ours: str, theirs: str, compared: Mapping[str, float] | None, digits: int) -> Measure:
    if compared is None:
        return _uncompared(title, ours, theirs)
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


def _uncompared(title: str, ours: str, theirs: str) -> Measure:
    return Measure(title, ours, theirs, "", "", None, "")


def _judged(figures: Mapping[str, Any]) -> str:
    """The share of the texts found that somebody has judged, with its count."""
    counts = {"judged": intcomma(figures["texts_judged"]), "texts": intcomma(figures["texts"])}
    return _("%(share)s, %(judged)s of %(texts)s") % {"share": _figure(figures["judged_at_100"], 3), **counts}


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

"""What an adapter is measured by on a frozen set, and the gate that lets it serve: pure functions of what its queries
found and of the verdicts on that.

Measures (QExplorer section 4.3, SPEC section 7), over the first 100 results of each query: number of hit@100, queries,
effective queries, query hit rate, precision@100, unique toxic items at a budget of five reviewed texts a report, mean
queries a report. A report without a query counts as zero everywhere and stays in every mean. Queries of all reports are
played together, the most confident first.

What nobody judged is unknown: it is no hit, and it is left out of precision. *judged@100* is the share of the different
texts found that somebody has judged; "can't tell" is a judgment, but neither toxic nor normal. While that share is too
small for either side, the gate does not decide.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from training import metrics
from training.metrics import Interval, Ranking
from training.models import GateVerdict

SUMS = ("unique", "hits", "effective", "queries")
RATIOS = (("query_hit_rate", "effective", "queries"), ("precision", "hits", "results_judged"))
"""(name, part, whole): the sum of the parts over that of the wholes."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Found:
    """A query of a report, as the place of its phrase in the reported text (code points), and the texts it found.

    `confidence`: mean log-probability of its tokens, nats. `ids`: item texts, newest first, at most 100.
    """

    report: int
    start: int
    end: int
    confidence: float
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Labels:
    """Standing, undisputed verdicts by item text: `toxic` True or False where it can be told, `judged` all of them."""

    toxic: Mapping[int, bool]
    judged: AbstractSet[int]


@dataclass(frozen=True)
class Figures:
    """An adapter on a frozen set. `precision`, `judged_at_100`: None where there is nothing to divide by."""

    reports: int
    queries: int
    effective: int
    query_hit_rate: float
    hits: int
    results: int
    """Results of all queries, repeats counted."""
    results_judged: int
    """Of them, toxic or normal: what precision rests on."""
    precision: float | None
    texts: int
    """Different texts among the results."""
    texts_judged: int
    judged_at_100: float | None
    unique: int
    """Distinct toxic texts within the budget."""
    budget: int
    mean_queries: float
    intervals: dict[str, tuple[float, float]]
    """95 % bootstrap over reports, by the name of the figure."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Measured:
    """Figures, and what each report adds to their sums: one value a report, in the order of the set."""

    figures: Figures
    parts: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Asked:
    """What the gate asks: how far the rates may fall, and the share of judged texts that it needs."""

    hit_rate_margin: float
    precision_margin: float
    judged_at_least: float


@dataclass(frozen=True)
class Rule:
    """One rule of the gate, whether it holds, and the figures that say so."""

    rule: str
    holds: bool
    figures: dict[str, Any]


@dataclass(frozen=True)
class Leaks:
    """Training texts that are nearly the same as a report of the set: how many, and in what.

    `unknown`: what cannot be looked into, which is as bad as a leak.
    """

    texts: dict[str, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.unknown) or any(self.texts.values())


# --- measures -------------------------------------------------------------------------------------------------------


def in_play(found: Iterable[Found]) -> list[Ranking]:
    """The queries of all reports as rankings, the most confident first; ties by report and place."""
    ordered = sorted(found, key=lambda one: (-one.confidence, one.report, one.start, one.end))
    return [Ranking(str(one.report), f"{one.start}-{one.end}", one.ids) for one in ordered]


def measure(found: Sequence[Found], reports: Sequence[int], labels: Labels) -> Measured:
    """Every measure of one adapter."""
    rankings = in_play(found)
    budget = metrics.REVIEWED_PER_REPORT * len(reports)
    counters = _parts(rankings, labels, budget)
    parts = {name: [counter[report] for report in reports] for name, counter in counters.items()}
    total = {name: sum(values) for name, values in parts.items()}
    texts = {id_ for ranking in rankings for id_ in ranking.ids}
    figures = Figures(
        reports=len(reports),
        queries=total["queries"],
        effective=total["effective"],
        query_hit_rate=_share(total["effective"], total["queries"]) or 0.0,
        hits=total["hits"],
        results=total["results"],
        results_judged=total["results_judged"],
        precision=_share(total["hits"], total["results_judged"]),
        texts=len(texts),
        texts_judged=len(texts & labels.judged),
        judged_at_100=_share(len(texts & labels.judged), len(texts)),
        unique=total["unique"],
        budget=budget,
        mean_queries=_share(total["queries"], len(reports)) or 0.0,
        intervals={
            **{name: _pair(metrics.bootstrap_sum(parts[name])) for name in SUMS},
            **{name: _pair(metrics.bootstrap_ratio(parts[part], parts[whole])) for name, part, whole in RATIOS},
            "mean_queries": _pair(metrics.bootstrap_ratio(parts["queries"], [1] * len(reports))),
        },
    )
    return Measured(figures, parts)


def _parts(rankings: Sequence[Ranking], labels: Labels, budget: int) -> dict[str, Counter[int]]:
    """What each report adds to each sum."""
    names = ("queries", "effective", "hits", "results", "results_judged", "unique")
    parts: dict[str, Counter[int]] = {name: Counter() for name in names}
    for ranking in rankings:
        of_query, report = metrics.query_figures(ranking, labels.toxic), int(ranking.report)
        parts["queries"][report] += 1
        parts["effective"][report] += of_query.is_effective
        parts["hits"][report] += of_query.hits
        parts["results"][report] += of_query.retrieved
        parts["results_judged"][report] += of_query.retrieved - of_query.unjudged
    for report_name, count in metrics.found_by_report(rankings, labels.toxic, budget=budget).items():
        parts["unique"][int(report_name)] += count
    return parts


def compare(ours: Measured, theirs: Measured) -> dict[str, dict[str, float]]:
    """Each figure of ours minus theirs on the same reports, with the 95 % interval of a paired bootstrap.

    Sums also say on how many reports ours is higher, equal and lower.
    """
    compared = {name: _compare_sums(ours.parts[name], theirs.parts[name]) for name in SUMS}
    for name, part, whole in RATIOS:
        sides = [(side.parts[part], side.parts[whole]) for side in (ours, theirs)]
        mine, other = (_share(sum(parts), sum(wholes)) or 0.0 for parts, wholes in sides)
        low, high = _pair(metrics.bootstrap_ratio_difference(sides[0], sides[1]))
        compared[name] = {"difference": mine - other, "low": low, "high": high}
    return compared


def _compare_sums(ours: Sequence[int], theirs: Sequence[int]) -> dict[str, float]:
    places = [str(place) for place in range(len(ours))]
    found = metrics.compare(dict(zip(places, ours, strict=True)), dict(zip(places, theirs, strict=True)), places)
    low, high = _pair(found.interval)
    counts = {"wins": found.wins, "ties": found.ties, "losses": found.losses}
    return {"difference": found.difference, "low": low, "high": high, **counts}


def _pair(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


# --- the gate -------------------------------------------------------------------------------------------------------


def decide_gate(
    ours: Figures,
    theirs: Figures,
    comparison: Mapping[str, Mapping[str, float]],
    *,
    leaks: Leaks,
    asked: Asked,
    to_judge: int,
) -> tuple[list[Rule], GateVerdict]:
    """The rules of SPEC section 7, and what follows. `theirs` is all zero where nobody serves.

    A leak refuses at once: judging more would not mend it. Else nothing is decided while too little is judged.
    """
    gain = comparison["unique"]
    rules = [
        Rule("unique", gain["low"] > 0, {"ours": ours.unique, "theirs": theirs.unique, "budget": ours.budget, **gain}),
        _may_fall(*RATIOS[0], ours, theirs, asked.hit_rate_margin),
        _may_fall(*RATIOS[1], ours, theirs, asked.precision_margin),
        _leak(leaks, ours.reports),
        _judged(ours, theirs, asked.judged_at_least, to_judge),
    ]
    holds = {rule.rule: rule.holds for rule in rules}
    if holds["leak"] and not holds["judged"]:
        return rules, GateVerdict.UNDECIDED
    return rules, GateVerdict.PASSES if all(holds.values()) else GateVerdict.REFUSES


def is_judged_enough(figures: Figures, at_least: float) -> bool:
    """Whether judged@100 is high enough to compare; an adapter that found nothing leaves nothing to judge."""
    return figures.judged_at_100 is None or figures.judged_at_100 >= at_least - _ROUNDING


def _may_fall(name: str, part: str, whole: str, ours: Figures, theirs: Figures, margin: float) -> Rule:
    """A rate holds if it has not fallen by more than the margin; figures beside the counts that they rest on."""
    mine, other = getattr(ours, name) or 0.0, getattr(theirs, name) or 0.0
    figures = {
        "ours": mine,
        "our_part": getattr(ours, part),
        "our_whole": getattr(ours, whole),
        "theirs": other,
        "their_part": getattr(theirs, part),
        "their_whole": getattr(theirs, whole),
        "difference": mine - other,
        "margin": margin,
    }
    return Rule(name, mine - other >= -margin - _ROUNDING, figures)


def _leak(leaks: Leaks, reports: int) -> Rule:
    figures = {"texts": sum(leaks.texts.values()), "where": leaks.texts, "unknown": leaks.unknown, "reports": reports}
    return Rule("leak", not leaks, figures)


def _judged(ours: Figures, theirs: Figures, at_least: float, to_judge: int) -> Rule:
    figures = {
        "ours": ours.judged_at_100,
        "our_texts": ours.texts,
        "theirs": theirs.judged_at_100,
        "their_texts": theirs.texts,
        "at_least": at_least,
        "to_judge": to_judge,
    }
    return Rule("judged", all(is_judged_enough(side, at_least) for side in (ours, theirs)), figures)


def sentence(rule: Mapping[str, Any]) -> str:
    """A rule as an evaluation keeps it, in one sentence with its figures."""
    figures: Mapping[str, Any] = rule["figures"]
    match rule["rule"]:
        case "unique":
            words = _(
                "Unique toxic items among %(budget)d reviewed: %(ours)d against %(theirs)d, difference "
                "%(difference)+.0f, 95%% interval %(low)+.1f to %(high)+.1f; the interval must be above 0."
            )
        case "query_hit_rate":
            words = _(
                "Query hit rate: %(ours).3f (%(our_part)d of %(our_whole)d) against %(theirs).3f (%(their_part)d of "
                "%(their_whole)d), difference %(difference)+.3f; it may fall by %(margin).3f."
            )
        case "precision":
            words = _(
                "Precision@100 among judged: %(ours).3f (%(our_part)d of %(our_whole)d) against %(theirs).3f "
                "(%(their_part)d of %(their_whole)d), difference %(difference)+.3f; it may fall by %(margin).3f."
            )
        case "judged":
            return _judged_sentence(figures)
        case _:
            return _leak_sentence(figures)
    return words % figures


def _judged_sentence(figures: Mapping[str, Any]) -> str:
    words = _(
        "Judged of the texts found: %(ours)s of %(our_texts)d, %(theirs)s of %(their_texts)d; %(at_least).0f%% needed."
    )
    more = _("Judge %(to_judge)d more, then it can be decided.") if figures["to_judge"] else ""
    shares = {side: _percent(figures[side]) for side in ("ours", "theirs")}
    return f"{words} {more}".strip() % {**figures, **shares, "at_least": 100 * figures["at_least"]}


def _leak_sentence(figures: Mapping[str, Any]) -> str:
    if figures["unknown"]:
        words = _("What it learned from cannot be looked into: %(what)s.")
        return words % {"what": ", ".join(figures["unknown"])}
    words = _("Texts of its training that are nearly the same as one of the %(reports)d test reports: %(texts)d.")
    return words % {"reports": figures["reports"], "texts": figures["texts"]}


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"

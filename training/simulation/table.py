"""The rows of a simulation as tables: the learning curve over the seeds, and the arms against one another."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from training import metrics
from training.simulation.settings import Arm

Row = Mapping[str, Any]
PAIRS = ((Arm.FROZEN, Arm.HUMAN), (Arm.RISK, Arm.FROZEN), (Arm.FULL, Arm.RISK), (Arm.UNGATED, Arm.FULL))
"""Arms that differ in one thing: the first has it."""


def curve(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each suite, arm and round: means over the seeds, with the smallest and the largest in brackets."""
    lines = [_HEAD]
    order = list(Arm)
    placed = sorted(rows, key=lambda row: (row["suite"], order.index(row["arm"]) if row["arm"] else -1, row["round"]))
    for (suite, arm, number), own in groupby(placed, key=lambda row: (row["suite"], row["arm"], row["round"])):
        lines.append([suite, arm or "warm-up", str(number), *_cells(list(own))])
    return lines


_HEAD = [
    "suite",
    "arm",
    "round",
    "reviewed",
    "toxic found",
    "per 1,000",
    "wrongly removed",
    "accepted: search",
    "model",
    "both",
    "detection +",
    "hit queries +",
    "site U@5 std",
    "fresh",
    "adapter U@5 std",
    "fresh",
    "gate",
    "D",
    "D_pol",
    "D_comp",
    "pooled",
    "s",
]


def _cells(own: Sequence[Row]) -> Iterator[str]:
    for name in ("reviewed", "toxic_found", "toxic_per_1000", "wrongly_removed"):
        yield _spread([row[name] for row in own])
    for proposer in ("search", "model", "both"):
        yield _share([row["acceptance"].get(proposer, (0, 0)) for row in own])
    yield _share([(row["hits_of_model_only"], row["hits_of_own"]) for row in own])
    yield _share([(row["hit_queries_model"], row["hit_queries_own"]) for row in own])
    for what in ("site", "adapter"):
        for kind in ("std", "fresh"):
            yield _spread([row["u_at_5"][what][kind] for row in own if what in row["u_at_5"]])
    yield ", ".join(filter(None, (gate_word(row) for row in own)))
    for kind in ("sft", "pol"):
        yield _spread([row["adapter"]["rows"].get(kind, 0) for row in own if row["adapter"]])
    for name in ("d_comp", "pooled"):
        yield _spread([row["adapter"][name] for row in own if row["adapter"]])
    yield _spread([sum(row["seconds"].values()) for row in own])


def gate_word(row: Row) -> str:
    """What became of the adapter of a round, with the difference in unique toxic items on the frozen set."""
    made = row["adapter"]
    if not made:
        return ""
    gate = made["gate"]
    if not gate:
        return str(made["state"])
    ours, theirs, low, high = gate["unique"]
    return f"{made['state']} ({ours} against {theirs}: {low:+.0f} to {high:+.0f})"


def differences(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each suite and pair of arms that differ in one thing, over all rounds and seeds.

    Toxic items found are paired by report, which both arms had in the same order: difference, 95 % interval (paired
    bootstrap over the reports of all seeds), reports won, tied and lost, and the difference of each seed.
    """
    lines = [
        [
            "suite",
            "arms",
            "toxic found: difference",
            "95 %",
            "won/tied/lost",
            "by seed",
            "U@5 of the site: std",
            "fresh",
        ]
    ]
    for suite in sorted({row["suite"] for row in rows}):
        for ours, theirs in PAIRS:
            sides = [[row for row in rows if row["suite"] == suite and row["arm"] == arm] for arm in (ours, theirs)]
            if all(sides):
                lines.append([suite, f"{ours} - {theirs}", *_difference(*sides), *_u_difference(*sides)])
    return lines


def _difference(ours: Sequence[Row], theirs: Sequence[Row]) -> list[str]:
    mine, others = _by_report(ours), _by_report(theirs)
    reports = sorted(mine.keys() & others.keys())
    found = metrics.compare(mine, others, reports)
    seeds = sorted({row["seed"] for row in ours})
    totals = [_total(ours, seed) - _total(theirs, seed) for seed in seeds]
    return [
        f"{found.difference:+.0f}",
        f"{found.interval.low:+.0f} to {found.interval.high:+.0f}",
        f"{found.wins}/{found.ties}/{found.losses}",
        ", ".join(f"{total:+d}" for total in totals),
    ]


def _by_report(rows: Sequence[Row]) -> dict[str, float]:
    return {
        f"{row['seed']} {row['round']:03} {place:05}": float(count)
        for row in rows
        for place, count in enumerate(row["found"])
    }


def _total(rows: Sequence[Row], seed: int) -> int:
    return sum(row["toxic_found"] for row in rows if row["seed"] == seed)


def _u_difference(ours: Sequence[Row], theirs: Sequence[Row]) -> list[str]:
    """After the last round, by seed; "" where one of the arms does not learn."""
    last = max(row["round"] for row in ours)
    mine, others = (
        {row["seed"]: row["u_at_5"].get("site") for row in side if row["round"] == last} for side in (ours, theirs)
    )
    both = [seed for seed in sorted(mine.keys() & others.keys()) if mine[seed] and others[seed]]
    return [", ".join(f"{mine[seed][kind] - others[seed][kind]:+d}" for seed in both) for kind in ("std", "fresh")]


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body))


def _spread(values: Sequence[float]) -> str:
    """The mean, and the smallest and largest where they differ."""
    if not values:
        return ""
    mean, low, high = fmean(values), min(values), max(values)
    return f"{mean:,.0f}" if low == high else f"{mean:,.0f} ({low:,.0f}-{high:,.0f})"


def _share(pairs: Sequence[Sequence[int]]) -> str:
    """Parts over wholes of all seeds together, in percent, with the whole."""
    part, whole = (sum(column) for column in zip(*pairs, strict=True))
    return f"{part / whole:.0%} of {whole:,}" if whole else ""

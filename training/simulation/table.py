"""The rows of a simulation as tables: the rounds, what was learned in them, and the arms against one another."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from training import metrics
from training.models import GateVerdict
from training.simulation.settings import Arm

Row = Mapping[str, Any]
Cell = Callable[[Sequence[Row]], str]
"""What stands in a column for the rows of one arm and round, one a seed."""
PAIRS = ((Arm.FROZEN, Arm.HUMAN), (Arm.RISK, Arm.FROZEN), (Arm.FULL, Arm.RISK), (Arm.UNGATED, Arm.FULL))
"""Arms that differ in one thing: the first has it."""


def curve(rows: Sequence[Row]) -> list[list[str]]:
    """What the days of each round brought: a line for each suite, arm and round."""
    return _table(rows, _WORK)


def learning(rows: Sequence[Row]) -> list[list[str]]:
    """What was learned at the end of each round, and what it is worth on the untouched test split."""
    return _table([row for row in rows if row["u_at_5"]], _LEARNING)


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, Cell]]) -> list[list[str]]:
    """Means over the seeds, with the smallest and the largest in brackets; shares of all seeds together."""
    order = list(Arm)
    placed = sorted(rows, key=lambda row: (row["suite"], order.index(row["arm"]) if row["arm"] else -1, row["round"]))
    lines = [["suite", "arm", "round", *(name for name, _cell in columns)]]
    for (suite, arm, number), group in groupby(placed, key=lambda row: (row["suite"], row["arm"], row["round"])):
        own = list(group)
        lines.append([suite, arm or "warm-up", str(number), *(cell(own) for _name, cell in columns)])
    return lines


def _mean_of(name: str) -> Cell:
    return lambda own: _spread([row[name] for row in own])


def _accepted(proposer: str) -> Cell:
    return lambda own: _share([row["acceptance"].get(proposer, (0, 0)) for row in own])


def _share_of(part: str, whole: str) -> Cell:
    return lambda own: _share([(row[part], row[whole]) for row in own])


def _u_at_5(what: str, kind: str) -> Cell:
    return lambda own: _spread([row["u_at_5"][what][kind] for row in own if what in row["u_at_5"]])


def _of_adapter(value: Callable[[Mapping[str, Any]], float]) -> Cell:
    return lambda own: _spread([value(row["adapter"]) for row in own if row["adapter"]])


_WORK: Sequence[tuple[str, Cell]] = (
    ("reviewed", _mean_of("reviewed")),
    ("toxic found", _mean_of("toxic_found")),
    ("per 1,000", _mean_of("toxic_per_1000")),
    ("wrongly removed", _mean_of("wrongly_removed")),
    ("accepted: search", _accepted("search")),
    ("model", _accepted("model")),
    ("both", _accepted("both")),
    ("detection +", _share_of("hits_of_model_only", "hits_of_own")),
    ("hit queries +", _share_of("hit_queries_model", "hit_queries_own")),
)
_LEARNING: Sequence[tuple[str, Cell]] = (
    ("site U@5 std", _u_at_5("site", "std")),
    ("fresh", _u_at_5("site", "fresh")),
    ("adapter U@5 std", _u_at_5("adapter", "std")),
    ("fresh", _u_at_5("adapter", "fresh")),
    ("gate", lambda own: "; ".join(filter(None, map(gate_word, own)))),
    ("D", _of_adapter(lambda made: made["rows"].get("sft", 0))),
    ("D_pol", _of_adapter(lambda made: made["rows"].get("pol", 0))),
    ("D_comp", _of_adapter(lambda made: made["d_comp"])),
    ("pooled", _of_adapter(lambda made: made["pooled"])),
    ("s", lambda own: _spread([sum(row["seconds"].values()) for row in own])),
)


def gate_word(row: Row) -> str:
    """What became of the adapter of a round, with the difference in unique toxic items on the frozen set."""
    made = row["adapter"]
    if not made:
        return ""
    gate = made["gate"]
    if not gate or gate["verdict"] == GateVerdict.UNDECIDED:  # nobody judged for it
        return str(made["state"])
    ours, theirs, low, high = gate["unique"]
    return f"{made['state']} ({ours} against {theirs}: {low:+.0f} to {high:+.0f})"


_HEAD = ["suite", "arms", "toxic found: difference", "95 %", "won/tied/lost", "by seed", "site U@5 std", "fresh"]


def differences(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each suite and pair of arms that differ in one thing, over all rounds and seeds.

    Toxic items found are paired by report, which both arms had in the same order: difference, 95 % interval (paired
    bootstrap over the reports of all seeds), reports won, tied and lost, and the difference of each seed.
    """
    lines = [_HEAD]
    for suite in sorted({row["suite"] for row in rows}):
        of_suite = [row for row in rows if row["suite"] == suite]
        for ours, theirs in PAIRS:
            sides = [[row for row in of_suite if row["arm"] == arm] for arm in (ours, theirs)]
            if all(sides):
                measured = [_sites(of_suite, arm) for arm in (ours, theirs)]
                lines.append([suite, f"{ours} - {theirs}", *_difference(*sides), *_u_difference(*measured)])
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


def _sites(rows: Sequence[Row], arm: Arm) -> dict[int, Mapping[str, int]]:
    """Seed → U@5 of what the site suggests after the last round. That of `frozen` is the warm-up's."""
    of_arm = [row for row in rows if row["arm"] == (None if arm is Arm.FROZEN else arm)]
    last = max((row["round"] for row in of_arm), default=0)
    return {row["seed"]: row["u_at_5"]["site"] for row in of_arm if row["round"] == last and "site" in row["u_at_5"]}


def _u_difference(mine: Mapping[int, Mapping[str, int]], others: Mapping[int, Mapping[str, int]]) -> list[str]:
    """By seed; "" where one of the arms suggests nothing."""
    both = sorted(mine.keys() & others.keys())
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

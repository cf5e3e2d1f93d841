"""One round of one arm: days of reports, then learning, then figures. Round 0 is the warm-up of all arms."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User

from audit import generating, outbox
from audit.models import SuggesterName, SuggesterSwitch
from audit.suggesting import suggest
from extraction.models import Adapter
from training.benchmark.suites import LabelledReport
from training.simulation import figures, learning
from training.simulation.auditor import Auditor, Worked
from training.simulation.faults import Faults
from training.simulation.ground import AUDITOR, World, arrive, index_all, stream_of
from training.simulation.settings import START, WORKDAY, Arm, Fault, Plan
from training.simulation.tally import Tally
from training.simulation.untouched import Untouched

Say = Callable[[str], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Day:
    """The reports of one day, and when it begins."""

    begins: datetime
    reports: Sequence[LabelledReport]


@dataclass(frozen=True)
class Turn:
    """One round to be simulated in this process's site. `arm` None: the warm-up, which is nobody's alone."""

    plan: Plan
    seed: int
    arm: Arm | None
    number: int
    faults: frozenset[Fault] = frozenset()


def play(turn: Turn, world: World, *, folder: Path, shared: Path, say: Say) -> Row:
    """Work the days, learn, measure; the row of the round."""
    plan, began = turn.plan, time.perf_counter()
    stream = stream_of(world.suite, turn.seed, plan.stream)
    days = days_of(stream, plan, turn.number)
    tally, faults = Tally.load(folder), Faults(turn.faults)
    auditor = Auditor(
        User.objects.get(username=AUDITOR),
        world.truth,
        seed=turn.seed,
        error=plan.error,
        tally=tally,
        workers=faults,
        now=days[0].begins,
    )
    _switch_suggesters(is_on=turn.arm is not None and turn.arm.suggests)
    worked = _work(world, plan, days, auditor, say)
    seconds = {"work": time.perf_counter() - began}
    learned = _learn(turn, days[-1].begins + timedelta(hours=12), auditor, faults, say)
    seconds["learn"] = time.perf_counter() - began - seconds["work"]
    untouched = _measure(turn, world, shared, learned)
    seconds["measure"] = time.perf_counter() - began - seconds["work"] - seconds["learn"]
    outbox.publish()
    tally.save(folder)
    return {
        "suite": world.suite.name,
        "seed": turn.seed,
        "arm": turn.arm,
        "round": turn.number,
        **figures.of_round(worked),
        **learned,
        "u_at_5": untouched,
        "faults": faults.happened,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def days_of(stream: Sequence[LabelledReport], plan: Plan, number: int) -> list[Day]:
    """The days of round `number`: those of the warm-up (0) come first, then `plan.days` each."""
    a_day, warm_up = plan.reports_a_day, -(-plan.warm_up // plan.reports_a_day)
    if number == 0:
        chosen, first = stream[: plan.warm_up], 0
    else:
        start = plan.warm_up + (number - 1) * plan.a_round
        chosen, first = stream[start : start + plan.a_round], warm_up + (number - 1) * plan.days
    return [
        Day(START + timedelta(days=first + place), chosen[place * a_day : (place + 1) * a_day])
        for place in range(-(-len(chosen) // a_day))
    ]


def _work(world: World, plan: Plan, days: Sequence[Day], auditor: Auditor, say: Say) -> list[Worked]:
    """Let every report of these days come and be worked; the day's reviews are shared out evenly as it goes on."""
    worked: list[Worked] = []
    for day in days:
        left = plan.reviews_a_day
        for place, report in enumerate(day.reports):
            auditor.now = max(auditor.now, day.begins + WORKDAY * place / len(day.reports))
            opened = arrive(world, report, auditor.now)
            generating.generate_ahead()
            suggest(opened, at=auditor.now)
            opened.refresh_from_db()
            worked.append(auditor.work(opened, left // (len(day.reports) - place)))
            left -= worked[-1].reviewed
            index_all()
        outbox.publish()
        reviewed, found = sum(one.reviewed for one in worked), sum(len(one.found) for one in worked)
        say(f"{day.begins:%d %b}: {len(worked)} reports, {reviewed} reviewed, {found} toxic")
    return worked


def _learn(turn: Turn, until: datetime, auditor: Auditor, faults: Faults, say: Say) -> Row:
    learned: Row = {"risk": {}, "adapter": {}}
    auditor.now = until
    if turn.arm is None or turn.arm.refits:
        learned["risk"] = learning.learn_risk(until)
        say("the risk model has learned")
    if turn.arm is None or turn.arm.trains:
        learned["adapter"] = learning.learn_queries(
            turn.plan,
            auditor,
            until=until,
            seed=turn.seed,
            gated=turn.arm is not Arm.UNGATED,
            mid_training=faults.mid_training,
        )
        say(f"adapter {learned['adapter']['adapter']}: {learned['adapter']['state']}")
    return learned


def _measure(turn: Turn, world: World, shared: Path, learned: Row) -> Row:
    """U@5 on the test split; {} for an arm in which nothing has changed since the warm-up."""
    if turn.arm is not None and not turn.arm.refits:
        return {}
    untouched = Untouched(world.suite, turn.plan, shared)
    measured = {"site": untouched.of_site()}
    name = learned["adapter"].get("adapter")
    if name:
        measured["adapter"] = untouched.of_adapter(Adapter.objects.get(name=name))
    untouched.close()
    return measured


def _switch_suggesters(*, is_on: bool) -> None:
    for name in SuggesterName:
        SuggesterSwitch.objects.update_or_create(suggester=name, policy=None, defaults={"is_on": is_on})

"""One step of a simulation in a process and on a site of its own: `python -m training.simulation.child TASK.json`.

The parent (`running.py`) has set the environment: the site is the folder QX_VAR_DIR, nothing of the operator's settings
is left. Each line on standard output is one line of progress.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import django

from training.simulation.settings import Arm, Fault, Plan

ROW = "row.json"
"""Beside the site: what the step has found."""


@dataclass(frozen=True)
class Task:
    """What a process does. `seed` None: the ground; `number` 0 and `arm` "": the warm-up."""

    suite: str
    shared: str
    plan: dict[str, Any]
    seed: int | None = None
    arm: str = ""
    number: int = 0
    faults: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Task":
        return cls(**json.loads(path.read_text()))


def main(path: Path) -> None:
    task = Task.read(path)
    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    from training.benchmark.suites import load_suite
    from training.simulation.ground import begin, lay, open_world, stream_of
    from training.simulation.queues import queue_server
    from training.simulation.reconcile import reconcile
    from training.simulation.rounds import Turn, play
    from training.simulation.tally import Tally

    plan, folder, shared = Plan(**task.plan), Path(settings.VAR_DIR), Path(task.shared)
    world = open_world(load_suite(Path(task.suite)), shared)
    call_command("migrate", verbosity=0)  # in every step: a kept folder may come from an earlier version
    if task.seed is None:
        lay(world, plan, folder)
        return
    arm = Arm(task.arm) if task.arm else None
    if arm is None:
        begin(world, stream_of(world.suite, task.seed, plan.stream))
    turn = Turn(plan, task.seed, arm, task.number, frozenset(map(Fault, task.faults)))
    with queue_server():
        row = play(turn, world, folder=folder, shared=shared, say=_say)
        row["compared"] = [asdict(one) for one in reconcile(Tally.load(folder))]
    (folder / ROW).write_text(json.dumps(row, ensure_ascii=False))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

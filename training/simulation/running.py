"""Run a simulation step by step, each in a process and a folder of its own, and go on where it was interrupted.

```
WORK/SUITE-DIGEST/shared/            indexes of the test split, the queries that people would run
                  ground/            the collection, the base
                  seed-0/warm-up/    the same, after the warm-up
                         full/1/     the site of an arm after its first round, with its row
```

A step works in a copy of the folder before it. When it is done its folder gets its name, with the row inside, in one
move: whatever is there under its name is finished. Of an arm's rounds only the newest keeps its site.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from django.conf import settings

from training.benchmark.suites import load_suite
from training.simulation.child import ROW, Task
from training.simulation.ground import stream_of
from training.simulation.settings import Arm, Fault, Plan, SimulationError

Row = dict[str, Any]
Say = Callable[[str], None]
PAGE_SIZE = 20
CHILD = "training.simulation.child"


@dataclass(frozen=True)
class Simulation:
    """One suite under one plan. `faults` strike in the first round of each arm."""

    suite: Path
    plan: Plan
    seeds: Sequence[int]
    arms: Sequence[Arm]
    work: Path
    say: Say
    faults: Sequence[Fault] = ()

    def rows(self) -> Iterator[Row]:
        """The warm-up of each seed, then the rounds arm by arm, each as soon as it is there. Raises SimulationError."""
        self._check()
        with _only_one(self._place):
            yield from self._steps()

    def _check(self) -> None:
        """Before hours of work: are there enough reports?"""
        suite = load_suite(self.suite)
        for seed in self.seeds:
            stream_of(suite, seed, self.plan.stream)

    def _steps(self) -> Iterator[Row]:
        self._place.joinpath("shared").mkdir(exist_ok=True)
        self._step(self._place / "ground", None, {})
        for seed in self.seeds:
            start = self._place / f"seed-{seed}" / "warm-up"
            yield self._step(start, self._place / "ground", {"seed": seed})
            for arm in self.arms:
                before = start
                for number in range(1, self.plan.rounds + 1):
                    here = start.with_name(arm.value) / str(number)
                    faults = [fault.value for fault in self.faults] if number == 1 else []
                    yield self._step(here, before, {"seed": seed, "arm": arm.value, "number": number, "faults": faults})
                    if before != start:
                        _keep_row_alone(before)
                    before = here

    @cached_property
    def _place(self) -> Path:
        name = f"{self.suite.resolve().name}-{self.plan.digest(self.suite)}"
        return self.work.resolve() / ("-".join([name, *sorted(self.faults)]))

    def _step(self, here: Path, before: Path | None, what: dict[str, Any]) -> Row:
        if not here.exists():
            self._run(here, before, what)
        row = here / ROW
        return dict(json.loads(row.read_text())) if row.exists() else {}

    def _run(self, here: Path, before: Path | None, what: dict[str, Any]) -> None:
        site = here.with_name(f"{here.name}.unfinished")
        shutil.rmtree(site, ignore_errors=True)
        if before is None:
            site.mkdir(parents=True)
        else:
            shutil.copytree(before, site, symlinks=True)
            site.joinpath(ROW).unlink(missing_ok=True)
        task = Task(str(self.suite.resolve()), str(self._place / "shared"), asdict(self.plan), **what)
        _run_child(task, site, partial(self._told, here))
        site.rename(here)

    def _told(self, here: Path, line: str) -> None:
        self.say(f"{here.relative_to(self.work.resolve())}: {line}")


@contextmanager
def _only_one(place: Path) -> Iterator[None]:
    """Of two in one folder, the second would take the sites from under the first. Raises SimulationError."""
    place.mkdir(parents=True, exist_ok=True)
    with place.joinpath("lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SimulationError(f"Another simulation works in {place}.") from error
        yield


def _run_child(task: Task, site: Path, told: Say) -> None:
    """Run one step to its end. It ends with this process, however that ends. Raises SimulationError."""
    path, log = site / "task.json", site / "step.log"
    task.write(path)
    command = [sys.executable, "-m", "training.tied", "0", CHILD, str(path)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(site),
            cwd=settings.BASE_DIR,
            start_new_session=True,
            text=True,
        ) as child,
    ):
        assert child.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in child.stdout:
            told(line.rstrip())
    if child.returncode:
        said = log.read_text(errors="replace").strip().splitlines()
        raise SimulationError(f"A step ended with status {child.returncode}: {said[-1] if said else ''} See {log}.")


def _environment(site: Path) -> dict[str, str]:
    """That of this process without the settings of its installation: the site is the folder, with its own database."""
    foreign = ("QX_", "ELASTICSEARCH_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and name not in ("DATABASE_URL", "REDIS_URL")
    }
    return kept | {
        "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE,
        "QX_VAR_DIR": str(site),
        "QX_SECRET_KEY": "simulation",
        "QX_PSEUDONYM_SECRET": "simulation",
        "QX_STATIC_MANIFEST": "0",
        "QX_LOG_LEVEL": "WARNING",
        "QX_PAGE_SIZE": str(PAGE_SIZE),
        "OMP_NUM_THREADS": "1",  # so that a training comes out the same
        "PYTHONHASHSEED": "0",
    }


def _keep_row_alone(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != ROW:
            path.unlink()

"""How fast the logs leave, and in how much memory: `python -m tests.benchmarks.export_memory 200000`.

Fills a database of its own with exposures and their chain, writes the flat file of it in a process of its own for each
format, and prints rows a second and the peak memory of that process (MB) as JSON.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import django

ROOT = Path(__file__).parent.parent.parent
RUN_LENGTH = 100
BATCH = 5000


def fill(count: int) -> None:
    """`count` exposures in runs of 100; every run serves two decisions, every third exposure is judged toxic."""
    from django.utils import timezone

    from audit.models import Exposure, Item, ItemText, Judgment, Removal, StandingVerdict
    from tests import factories as make

    now = timezone.now()
    user, policy = make.make_user(), make.make_policy()
    version = policy.current()
    report = make.make_report(policy=policy)
    first = 1_000_000
    for start in range(first, first + count, BATCH):
        ids = range(start, min(start + BATCH, first + count))
        digests = {number: sha256(str(number).encode()).hexdigest() for number in ids}
        Item.objects.bulk_create(
            Item(pk=n, platform="market", external_id=str(n), author_key=f"a{n}", created=now) for n in ids
        )
        ItemText.objects.bulk_create(
            ItemText(
                pk=n, item_id=n, text="x", text_hash=digests[n], norm_hash=digests[n], analysis="qx-1", language="en"
            )
            for n in ids
        )
        runs = {n: _run(make, report, user, n) for n in ids if n % RUN_LENGTH == 0}
        Exposure.objects.bulk_create(
            Exposure(
                pk=n,
                run=runs[n - n % RUN_LENGTH],
                rank=n % RUN_LENGTH + 1,
                page=1,
                position=n % RUN_LENGTH + 1,
                item_id=n,
                item_text_id=n,
                user=user,
                at=now - timedelta(seconds=count - n + first),
            )
            for n in ids
        )
        judged = [n for n in ids if n % 3 == 0]
        Judgment.objects.bulk_create(
            Judgment(pk=n, item_text_id=n, policy_version=version, verdict="toxic", exposure_id=n, user=user)
            for n in judged
        )
        StandingVerdict.objects.bulk_create(
            StandingVerdict(item_text_id=n, policy_version=version, verdict="toxic", judgment_id=n) for n in judged
        )
        Removal.objects.bulk_create(Removal(item_id=n, kind="removed", judgment_id=n, user=user) for n in judged)


def _run(make, report, user, number):
    from audit.models import Exploration, ExplorationQuery

    decisions = [make.make_decision(report=report, text=f"phrase {number}", user=user) for _number in range(2)]
    place = ExplorationQuery.objects.create(
        exploration=Exploration.objects.create(created_by=user), query=decisions[0].query, position=1, state="done"
    )
    place.decisions.set(decisions)
    return make.make_run(exploration_query=place, ranking=[])


def export(kind: str, out: str, since: str) -> None:
    """What `export_logs` does, without the part of the database file that SQLite keeps in memory to be quick."""
    from django.core.management import call_command
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("PRAGMA mmap_size=0")
        cursor.execute("PRAGMA cache_size=-2000")
    call_command("export_logs", stream="flat", format=kind, out=Path(out), since=since or None)


def measure(count: int, formats: list[str], part: int = 0) -> list[dict[str, object]]:
    """Rows a second and peak memory of the flat file of `count` exposures, and of the newest `part` of them alone."""
    figures: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"QX_VAR_DIR": folder, "QX_SECRET_KEY": "benchmark", "DATABASE_URL": ""}
        _python(["manage.py", "migrate", "-v0"], environment)
        filled = datetime.now(UTC)
        _python(["-m", "tests.benchmarks.export_memory", "fill", str(count)], environment)
        for kind in formats:
            for since in [(filled - timedelta(seconds=part)).isoformat(), ""] if part else [""]:
                command = ["-m", "tests.benchmarks.export_memory", "export", kind, f"{folder}/out", since]
                began = time.monotonic()
                peak_mb = float(_python(command, environment))
                seconds = time.monotonic() - began
                rows = json.loads(Path(f"{folder}/out/flat.v1.{kind}.manifest.json").read_text())["rows"]
                figures.append({"format": kind, "rows": rows, "rows_a_second": rows / seconds, "peak_mb": peak_mb})
    return figures


def _python(arguments: list[str], environment: dict[str, str]) -> str:
    """Run to the end; the last line that it said."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.rpartition("\n")[2] or "0"


def _peak_mb() -> float:
    """Most memory that this process held. Linux's `ru_maxrss` would count that of the process that started it too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(arguments: list[str]) -> None:
    if arguments[0] not in {"fill", "export"}:
        figures = measure(int(arguments[0]), arguments[1:] or ["jsonl", "csv", "parquet"])
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
        return
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qexplorer_site.settings")
    django.setup()
    if arguments[0] == "fill":
        fill(int(arguments[1]))
    else:
        export(*arguments[1:])
        sys.stdout.write(f"\n{_peak_mb()}")


if __name__ == "__main__":
    main(sys.argv[1:])

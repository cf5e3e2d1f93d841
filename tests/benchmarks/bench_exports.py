"""How fast the logs leave, and in how much memory, beside the plainest writer that could be written. A script:

    QX_VAR_DIR=/tmp/bench-exports QX_SECRET_KEY=bench python tests/benchmarks/bench_exports.py --rows 100000,1000000

The first run fills a database for each number of exposures in that folder (half a minute and 0.2 GB a million); later
runs measure alone. Each export runs in a process of its own, so that its peak of memory is its own. The plain writer is
Django's `.iterator()` over the stream's own columns into `csv.writer`: no pseudonyms, no masks, no decisions, no
verdicts, no parts that survive a kill, no digest. Speeds are by processor time: a busy machine stretches the clock.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qexplorer_site.settings")

import django  # noqa: E402

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

RUN = 100  # exposures of a run, which serves two decisions
REPEATS = 10  # an item is exposed so often
ALL = ["flat:csv", "flat:jsonl", "flat:parquet", "flat:plain", "exposures:csv", "exposures:plain", "trec_run:trec"]


def fill(rows: int) -> None:
    """`rows` exposures with their chain; a third of the item texts is judged, half of these toxic."""
    from tests import factories as make

    call_command("migrate", verbosity=0)
    user, policy = make.make_user("bench"), make.make_policy("forged")
    given = {
        "user": user.pk,
        "report": make.make_report(policy=policy).pk,
        "version": policy.current().pk,
        "rows": rows,
        "run": RUN,
        "runs": rows // RUN,
        "items": max(RUN, rows // REPEATS),
        "queries": max(1, rows // RUN // 10),
    }
    _comment, *statements = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").split("\n\n")
    database = connection.connection
    for setting in ("synchronous=OFF", "cache_size=-1000000", "foreign_keys=OFF"):
        database.execute(f"PRAGMA {setting}")
    dropped = _drop_indexes(database, "audit_exposure", "audit_item", "audit_itemtext")
    for statement in statements:
        database.execute(
            statement.replace("SELECT", f"{_COUNTING} SELECT", 1) if " n " in statement else statement, given
        )
    for statement in [*dropped, "ANALYZE"]:
        database.execute(statement)
    database.commit()


_COUNTING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"


def _drop_indexes(database: Any, *tables: str) -> list[str]:
    """What builds them again: that is faster after the rows."""
    marks = ", ".join("?" * len(tables))
    known = f"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ({marks})"  # noqa: S608
    found = database.execute(known, tables).fetchall()
    for name, _sql in found:
        database.execute(f"DROP INDEX {name}")
    return [sql for _name, sql in found]


def export(name: str, kind: str, out: Path) -> int:
    """Write one stream; the number of its rows. SQLite keeps as little of its file in memory as it can."""
    import csv

    from audit.logs import FileRequest, Privacy, Pseudonyms, Window, get_stream, write_file
    from audit.models import ExportFormat

    with connection.cursor() as cursor:
        cursor.execute("PRAGMA mmap_size=0")
        cursor.execute("PRAGMA cache_size=-2000")
    stream = get_stream(name)
    if kind != "plain":
        request = FileRequest(stream, ExportFormat(kind), Window(), Privacy(Pseudonyms("bench")))
        return write_file(request, out).rows
    paths = dict.fromkeys(path for column in stream.columns for path in column.paths)
    rows = 0
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(paths)
        for row in stream.model._default_manager.order_by("pk").values_list(*paths).iterator():
            writer.writerow(row)
            rows += 1
    return rows


def peak_mb() -> float:
    """Most memory that this process held (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024


def measure(rows: int, wanted: list[str], home: Path) -> None:
    folder = home / str(rows)
    environment = os.environ | {"QX_VAR_DIR": str(folder)}

    def process(*arguments: object) -> str:
        command = [sys.executable, __file__, *map(str, arguments)]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout

    done = folder / "filled"
    if not done.exists():
        begun = time.monotonic()
        process("--fill", rows)
        done.touch()
        print(f"{rows:,} exposures filled in {time.monotonic() - begun:.0f} s", flush=True)  # noqa: T201
    speeds: dict[str, float] = {}
    for one in wanted:
        out = folder / "out"
        written, seconds, worked, peak = map(float, process("--export", one, "--out", out).split())
        speeds[one] = written / worked
        size = out.stat().st_size / 1e6
        plain = speeds.get(f"{one.partition(':')[0]}:plain")
        beside = f"  {speeds[one] / plain:.2f} of the plain writer" if plain and "plain" not in one else ""
        print(  # noqa: T201
            f"{one:16} {written:>12,.0f} rows {seconds:7.1f} s by the clock, {worked:7.1f} s of the processor,"
            f" {speeds[one]:>8,.0f} rows a second of it, {peak:4.0f} MB peak, {size:8,.0f} MB file{beside}",
            flush=True,
        )
        out.unlink()
        out.with_name("out.manifest.json").unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="100000", help="Numbers of exposures, with commas.")
    parser.add_argument("--streams", default=",".join(ALL), help="STREAM:FORMAT, with commas; plain: the plain writer.")
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--export", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        fill(options.fill)
    elif options.export:
        begun, idle = time.monotonic(), time.process_time()
        name, _colon, kind = options.export.partition(":")
        rows = export(name, kind, options.out)
        print(rows, time.monotonic() - begun, time.process_time() - idle, peak_mb())  # noqa: T201
    else:
        wanted = sorted(options.streams.split(","), key=lambda one: not one.endswith("plain"))
        for rows in options.rows.split(","):
            measure(int(rows), wanted, Path(settings.VAR_DIR))


if __name__ == "__main__":
    main()

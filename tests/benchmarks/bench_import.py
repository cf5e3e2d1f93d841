"""How long an import of many items takes, scored and indexed, and how much memory.

    python -m tests.benchmarks.bench_import --items 1000000

Goal: one million items on two cores in at most 7 minutes and 700 MB. The installation it fills is a temporary one; with
DATABASE_URL or ELASTICSEARCH_URL set, those are used (and written to). On a machine that others use too, the larger of
the two CPU times says how long it takes on two free cores.
"""

import argparse
import json
import os
import random
import resource
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from threading import Event, Thread

SEED = 20260504
MEAN_CHARACTERS = 104
FRAGMENTS = (
    "今天天气不错", "下午一起吃饭吗", "这家店的面很好吃", "快递还没有到", "出二手自行车九成新", "有需要的联系我",
    "房租押一付一", "地铁站走路五分钟", "作业写完了没有", "周末去爬山", "手机屏幕碎了", "求推荐一部电影",
    "办证速度快", "加V信聊", "兼职日结", "看我主页", "免费领取资料", "私我发图", "名额有限先到先得", "包过不过退款",
    "see you at the station", "is this still available", "great value for money", "the battery died again",
)  # fmt: skip
CONTACTS = ("加.微.信", "ＶＸ", "v x", "威❤", "薇芯", "扣扣", "wei信", "Q Q")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    chosen = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="qx-bench-"))
    try:
        figures = run(folder, chosen.items)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def run(folder: Path, items: int) -> dict[str, float | int | str]:
    """Fill a fresh installation in `folder` with `items` synthetic items; the figures."""
    _set_up(folder)
    path = folder / "items.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in synthetic_lines(items))
    own_before = _cpu_seconds(resource.RUSAGE_SELF)
    with PeakMemory() as memory:
        began = time.perf_counter()
        _import(path)
        seconds = time.perf_counter() - began
    return {
        "items": items,
        "seconds": round(seconds, 1),
        "items_a_second": round(items / seconds),
        "peak_mb": round(memory.peak / 2**20),
        "importer_cpu_s": round(_cpu_seconds(resource.RUSAGE_SELF) - own_before, 1),
        "indexer_cpu_s": round(_cpu_seconds(resource.RUSAGE_CHILDREN), 1),
        "search_mb": round(sum(one.stat().st_size for one in folder.glob("search.sqlite3*")) / 2**20),
        "database_mb": round(sum(one.stat().st_size for one in folder.glob("db.sqlite3*")) / 2**20),
        "cores": os.cpu_count() or 0,
    } | _checked(items)


def synthetic_lines(items: int) -> Iterator[str]:
    """Items as JSON: ordinary talk of about 104 characters, every fourth with a disguised contact."""
    rng = random.Random(SEED)
    characters = [chr(0x4E00 + number) for number in rng.sample(range(0x5000), 3_000)]
    weights = list(accumulate(1 / (rank + 8) for rank in range(len(characters))))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(items):
        text = "".join(_pieces(rng, characters, weights))
        created = start + timedelta(seconds=20 * number)
        values = {
            "external_id": f"item-{number}",
            "text": text,
            "created": created.isoformat(),
            "author_key": f"author-{rng.randrange(50_000)}",
        }
        yield json.dumps(values, ensure_ascii=False)


def _pieces(rng: random.Random, characters: list[str], weights: list[float]) -> Iterator[str]:
    length = min(400, max(8, round(rng.expovariate(1 / MEAN_CHARACTERS))))
    while length > 0:
        if rng.random() < 0.3:
            piece = rng.choice(FRAGMENTS)
        else:
            piece = "".join(rng.choices(characters, cum_weights=weights, k=12)) + rng.choice("，。！ ")
        length -= len(piece)
        yield piece
    if rng.random() < 0.25:
        yield rng.choice(CONTACTS) + str(rng.randrange(10**6, 10**9))


def _set_up(folder: Path) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "qexplorer_site.settings",
        "QX_VAR_DIR": str(folder),
        "QX_SECRET_KEY": secrets.token_hex(16),
        "QX_SEARCH_INDEX": f"qx-bench-{os.getpid()}",
        "QX_LOG_LEVEL": "WARNING",
    }
    import django

    django.setup()
    from django.core.management import call_command

    from audit.indexing import rebuild

    call_command("migrate", verbosity=0)
    _serve_a_risk_model()
    rebuild()


def _serve_a_risk_model() -> None:
    """A model of the size that a site has after its first days: two thousand texts, the disguised contacts toxic."""
    import hashlib

    from extraction.artifacts import store_artifact
    from extraction.models import RiskModel
    from extraction.registry import promote_risk
    from extraction.risk import dumps, fit

    texts = [json.loads(line)["text"] for line in synthetic_lines(2_000)]
    labels = [int(any(contact in text for contact in CONTACTS)) for text in texts]
    data = dumps(fit(texts, labels, [1.0] * len(texts)))
    digest = hashlib.sha256(data).hexdigest()
    store_artifact(data, digest)
    positives = sum(labels)
    promote_risk(
        RiskModel.objects.create(
            version=1,
            digest=digest,
            analysis="qx-1",
            positives=positives,
            negatives=len(labels) - positives,
            unlabelled=0,
        )
    )


def _import(path: Path) -> None:
    from django.core.management import call_command

    call_command("import_items", path, platform="bench")


def _checked(items: int) -> dict[str, float | int | str]:
    """What is stored, scored and indexed in the end; all three are the number of items, or the figures are void."""
    from audit.models import Item
    from extraction.search import get_engine

    stored: dict[str, float | int | str] = {
        "stored": Item.objects.count(),
        "scored": Item.objects.exclude(risk=None).count(),
        "indexed": get_engine().health().documents,
        "behind": Item.objects.to_index().count(),
    }
    if not stored["stored"] == stored["scored"] == stored["indexed"] == items:
        raise SystemExit(f"The import is not complete: {stored}")
    return stored


def _cpu_seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


class PeakMemory:
    """The highest resident memory of this process and its children together, looked at every quarter of a second."""

    def __init__(self) -> None:
        self.peak = 0
        self._ended = Event()
        self._watcher = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._watcher.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.25):
            self.peak = max(self.peak, sum(_resident(pid) for pid in _family(os.getpid())))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _family(int(child))


def _resident(pid: int) -> int:
    """Resident bytes that are not shared with a file: mapped database pages belong to the system's cache."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


if __name__ == "__main__":
    sys.exit(main())

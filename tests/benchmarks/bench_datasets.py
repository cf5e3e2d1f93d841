"""How long a dataset takes from a log of a million rows, and how much memory; clustering is measured apart. A script:

    QX_VAR_DIR=/tmp/bench-datasets QX_SECRET_KEY=bench python tests/benchmarks/bench_datasets.py

The first run fills the database of that folder, or the one that DATABASE_URL names (a few minutes); later runs measure
alone. Each step runs in a process of its own, so that its peak of memory is its own; `--rows` fills a smaller log.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qexplorer_site.settings")

import django  # noqa: E402

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.management.color import no_style  # noqa: E402
from django.db import connection  # noqa: E402
from django.utils import timezone  # noqa: E402

from audit.models import (  # noqa: E402
    Decision,
    Exploration,
    ExplorationQuery,
    Exposure,
    Item,
    ItemText,
    Judgment,
    Policy,
    PolicyVersion,
    Query,
    QueryRun,
    Report,
    ReportEvent,
    Suggestion,
    SuggestionBatch,
)
from extraction.text import CURRENT_ANALYSIS, MatchMode, get_analysis  # noqa: E402
from tests.factories import make_evaluation_set, make_policy, make_user  # noqa: E402
from training.datasets import Options, build, preview  # noqa: E402
from training.datasets.builders import grouped  # noqa: E402
from training.datasets.pairs import Pair  # noqa: E402
from training.datasets.spool import Spool  # noqa: E402
from training.models import DatasetKind, EvaluationSet  # noqa: E402
from training.near import near_duplicate_clusters  # noqa: E402

BATCH = 2_000
DECISIONS = 2  # of a report, one accepted and one own; each has its own run
SHOWN = 14  # items that a run exposed
JUDGED_OF = 2  # every second of them was judged
ROWS_A_REPORT = 2 + DECISIONS * (2 + SHOWN + SHOWN // JUDGED_OF)
"""The report's judgment and closing; of each decision itself, its run, exposures, judgments."""
CAMPAIGNS = 2_000
WORDS_OF_A_TEXT = 48
_draw = np.random.default_rng(5)
WORDS = ["".join(map(chr, _draw.integers(0x4E00, 0x4E00 + 1_500, length))) for length in _draw.integers(1, 4, 4_000)]


def text_of(number: int) -> str:
    """About a hundred characters; texts of one campaign share the first two thirds."""
    return "".join([*words(number % CAMPAIGNS, 2 * WORDS_OF_A_TEXT // 3), *words(~number, WORDS_OF_A_TEXT // 3)])


def words(seed: int, count: int) -> Iterator[str]:
    """Drawn by a linear congruence, which costs less than what is measured; low numbers come up more often."""
    state = seed * 2_654_435_761 % 2**32
    for _time in range(count):
        state = (1_664_525 * state + 1_013_904_223) % 2**32
        yield WORDS[state * state // 2**32 * len(WORDS) // 2**32]


def is_toxic(item: int) -> bool:
    return item // CAMPAIGNS % 2 == 0


# --- the log --------------------------------------------------------------------------------------------------------


def fill(reports: int) -> None:
    """Reported items come first, with as many others behind them as runs show."""
    call_command("migrate", verbosity=0)
    user = make_user("bench", role="auditor")
    policies = [make_policy(f"policy-{number}") for number in range(5)]
    versions = [policy.current() for policy in policies]
    items = reports * 5
    make_items(items)
    for start in range(0, reports, BATCH):
        ids = range(start + 1, min(start + BATCH, reports) + 1)
        make_reports(ids, user, policies, versions)
        make_work(ids, user, versions, items)
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [Item, ItemText, Report, Query, Judgment]):
            cursor.execute(statement)
    make_evaluation_set("bench", reports=list(Report.objects.filter(pk__lte=100)))


def make_items(count: int) -> None:
    now = timezone.now() - timedelta(days=90)
    for start in range(0, count, BATCH):
        ids = range(start + 1, min(start + BATCH, count) + 1)
        Item.objects.bulk_create(Item(pk=pk, platform="market", external_id=f"i{pk}", created=now) for pk in ids)
        ItemText.objects.bulk_create(
            ItemText(
                pk=pk,
                item_id=pk,
                text=text_of(pk),
                text_hash=sha256(str(pk).encode()).hexdigest(),
                norm_hash=sha256(str(pk).encode()).hexdigest(),
                analysis=CURRENT_ANALYSIS,
                language="zh-Hans",
            )
            for pk in ids
        )


def make_reports(ids: Sequence[int], user: User, policies: Sequence[Policy], versions: Sequence[PolicyVersion]) -> None:
    at = timezone.now() - timedelta(days=60)
    Report.objects.bulk_create(
        Report(
            pk=pk,
            item_id=pk,
            item_text_id=pk,
            policy=policies[pk % 5],
            status="closed",
            outcome="confirmed",
            confirmed=at,
            closed=at,
            due=at,
        )
        for pk in ids
    )
    Judgment.objects.bulk_create(
        Judgment(item_text_id=pk, report_id=pk, policy_version=versions[pk % 5], verdict="toxic", user=user, at=at)
        for pk in ids
    )
    ReportEvent.objects.bulk_create(
        ReportEvent(report_id=pk, kind="closed", outcome="confirmed", user=user, at=at) for pk in ids
    )


def make_work(ids: Sequence[int], user: User, versions: Sequence[PolicyVersion], items: int) -> None:
    """Two decisions of each report, five to eight characters each, explored at once: one phrase of what the texts of
    its campaign share, and one that only this text has.
    """
    at = timezone.now() - timedelta(days=50)
    rules = get_analysis()
    texts = {pk: text_of(pk) for pk in ids}
    places = [(pk, number, (pk - 1) * DECISIONS + number) for pk in ids for number in range(1, DECISIONS + 1)]
    place_of = {1: 9, 2: 72}
    phrase_of = {row: texts[pk][place_of[number] :][: 5 + pk % 4] for pk, number, row in places}
    query_of = queries_of(set(phrase_of.values()), rules.name)
    keys = {phrase: query_of[rules.key(phrase, MatchMode.PHRASE)] for phrase in set(phrase_of.values())}
    SuggestionBatch.objects.bulk_create(
        SuggestionBatch(
            pk=pk,
            report_id=pk,
            item_text_id=pk,
            policy_version=versions[pk % 5],
            suggester="search",
            suggester_version="1",
            index_generation="items-1",
        )
        for pk in ids
    )
    Suggestion.objects.bulk_create(
        Suggestion(
            pk=pk,
            batch_id=pk,
            report_id=pk,
            query_id=keys[phrase_of[row]],
            text=phrase_of[row],
            rank=1,
            estimate=0.5,
            novelty=1,
        )
        for pk, number, row in places
        if number == 1
    )
    Decision.objects.bulk_create(
        Decision(
            pk=row,
            report_id=pk,
            suggestion_id=pk if number == 1 else None,
            kind="accepted" if number == 1 else "own",
            source="model" if number == 1 else "human",
            query_id=keys[phrase_of[row]],
            text=phrase_of[row],
            span_start=place_of[number],
            span_end=place_of[number] + len(phrase_of[row]),
            arm="visible",
            user=user,
            at=at,
        )
        for pk, number, row in places
    )
    Exploration.objects.bulk_create(Exploration(pk=pk, created_by=user, state="done", at=at) for pk in ids)
    ExplorationQuery.objects.bulk_create(
        ExplorationQuery(pk=row, exploration_id=pk, query_id=keys[phrase_of[row]], position=row, state="done")
        for pk, _number, row in unique_queries(places, phrase_of, keys)
    )
    runs = unique_queries(places, phrase_of, keys)
    QueryRun.objects.bulk_create(
        QueryRun(
            pk=row,
            exploration_query_id=row,
            query_id=keys[phrase_of[row]],
            engine="fts5",
            index_generation="items-1",
            analysis=CURRENT_ANALYSIS,
            live=SHOWN,
            removed=0,
            ranking=[],
            took_ms=3,
            at=at,
        )
        for _pk, _number, row in runs
    )
    found = {row: shown_items(pk, row, items) for pk, _number, row in runs}
    Exposure.objects.bulk_create(
        (
            Exposure(
                pk=(row - 1) * SHOWN + rank,
                run_id=row,
                rank=rank,
                item_id=item,
                item_text_id=item,
                page=1,
                position=rank,
                user=user,
                at=at,
            )
            for row, shown in found.items()
            for rank, item in enumerate(shown, start=1)
        ),
        batch_size=BATCH,
    )
    Judgment.objects.bulk_create(
        (
            Judgment(
                item_text_id=item,
                exposure_id=(row - 1) * SHOWN + rank,
                policy_version=versions[item % 5],
                verdict="toxic" if is_toxic(item) else "normal",
                user=user,
                at=at,
            )
            for row, shown in found.items()
            for rank, item in enumerate(shown, start=1)
            if rank % JUDGED_OF == 0
        ),
        batch_size=BATCH,
    )


def unique_queries(
    places: Sequence[tuple[int, int, int]], phrase_of: dict[int, str], keys: dict[str, int]
) -> list[tuple[int, int, int]]:
    """One place a report and query: an exploration holds each query once."""
    return list({(pk, keys[phrase_of[row]]): (pk, number, row) for pk, number, row in places}.values())


def queries_of(phrases: set[str], analysis: str) -> dict[str, int]:
    """key → id of the queries of these phrases; those that are missing are made."""
    key_of = {phrase: get_analysis().key(phrase, MatchMode.PHRASE) for phrase in sorted(phrases)}
    Query.objects.bulk_create(
        (Query(text=phrase, key=key, analysis=analysis) for phrase, key in key_of.items()), ignore_conflicts=True
    )
    return dict(Query.objects.filter(key__in=key_of.values()).values_list("key", "id"))


def shown_items(report: int, run: int, items: int) -> list[int]:
    """Items behind the reported ones, none twice: for the first phrase of a report half of them are of its campaign,
    for the second all are harmless.
    """
    draw = np.random.default_rng(run)
    first = items // 5
    far = draw.integers(first + 1, items, SHOWN * 6).tolist()
    if run % DECISIONS == 0:
        far = [item for item in far if not is_toxic(item)]
    else:
        near = draw.integers(first // CAMPAIGNS + 1, items // CAMPAIGNS - 1, SHOWN // 2)
        far = [*(near * CAMPAIGNS + report % CAMPAIGNS).tolist(), *far]
    return list(dict.fromkeys(far))[:SHOWN]


# --- measures -------------------------------------------------------------------------------------------------------


def build_kind(kind: DatasetKind, excluded: bool) -> str:
    with tempfile.TemporaryDirectory() as folder:
        frozen = EvaluationSet.objects.get() if excluded else None
        options = Options(min_judged_dispreferred=5)
        result = build(kind, options, excluded=frozen, out=Path(folder) / "rows.jsonl")
        size = result.path.stat().st_size / 1e6
    return f"{result.rows_in:,} decisions, {result.rows_out:,} rows, {size:.0f} MB, dropped {result.dropped}"


def preview_d() -> str:
    return f"{preview(DatasetKind.SFT, Options()).rows_out:,} rows"


def group(count: int) -> str:
    """Of pairs in a file, as a build has them; writing the file is not counted."""
    with tempfile.TemporaryDirectory() as folder, Spool(Path(folder) / "pairs") as pairs:
        texts = map(text_of, range(count))
        pairs.extend(Pair(str(at), text, text[:4], text[:4], f"policy-{at % 5}") for at, text in enumerate(texts))
        begun, worked = time.perf_counter(), time.process_time()
        sizes = [len(own) for own in grouped(pairs, Options())]
        took, worked = time.perf_counter() - begun, time.process_time() - worked
    return f"{len(sizes):,} groups, the largest of {max(sizes)}; of it clustering {took:.1f} s, {worked:.1f} CPU-s"


def cluster(count: int) -> str:
    clusters = near_duplicate_clusters({at: text_of(at) for at in range(count)})
    return f"{len(set(clusters.values())):,} clusters"


STEPS: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "D": lambda: build_kind(DatasetKind.SFT, False),
    "D excluding": lambda: build_kind(DatasetKind.SFT, True),
    "D preview": preview_d,
    "D_comp": lambda: build_kind(DatasetKind.COMP, False),
    "groups 25 k": lambda: group(25_000),
    "groups 100 k": lambda: group(100_000),
    "groups 1 M": lambda: group(1_000_000),
    "clusters 25 k": lambda: cluster(25_000),
    "clusters 100 k": lambda: cluster(100_000),
}


def measure(name: str) -> None:
    begun, worked = time.perf_counter(), time.process_time()
    about = STEPS[name]()
    took, worked = time.perf_counter() - begun, time.process_time() - worked
    print(f"{name:14} {took:7.1f} s  {worked:7.1f} CPU-s  peak {peak_mb():5} MB  {about}", flush=True)  # noqa: T201


def peak_mb() -> int:
    """Of this process alone: what getrusage says would include the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="Rows of the log, where it has to be filled.")
    parser.add_argument("--steps", default=",".join(STEPS), help="Which steps, separated by commas.")
    options = parser.parse_args()
    tables = connection.introspection.table_names()
    if "audit_exposure" not in tables or not Exposure.objects.exists():
        begun = time.perf_counter()
        fill(options.rows // ROWS_A_REPORT)
        print(f"filled in {time.perf_counter() - begun:.0f} s", flush=True)  # noqa: T201
    counts = {
        model._meta.model_name: model.objects.count() for model in (Decision, Exposure, Judgment, QueryRun, ReportEvent)
    }
    texts = f"{ItemText.objects.count():,} texts, {Query.objects.count():,} queries"
    print(f"{connection.vendor}: {sum(counts.values()):,} rows {counts}, {texts}", flush=True)  # noqa: T201
    connection.close()
    for name in options.steps.split(","):
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(name,))
        process.start()
        process.join()


if __name__ == "__main__":
    main()

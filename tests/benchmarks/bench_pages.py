"""How long the server takes for the report page and the results page at 100 k reports and 1 M exposures. A script:

    QX_VAR_DIR=/tmp/bench-pages QX_SECRET_KEY=bench QX_LOG_LEVEL=ERROR python tests/benchmarks/bench_pages.py

The first run fills the database of that folder (a few minutes); later runs measure alone. Each page is asked for
through the test client, so that middleware, session, permissions, queries and rendering all count.
"""

import argparse
import os
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qexplorer_site.settings")

import django  # noqa: E402

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402
from django.utils import timezone  # noqa: E402

from audit.models import (  # noqa: E402
    Complaint,
    Decision,
    Exploration,
    ExplorationQuery,
    Exposure,
    Item,
    ItemText,
    Judgment,
    PolicyVersion,
    Query,
    QueryRun,
    Report,
    StandingVerdict,
    Suggestion,
    SuggestionBatch,
)
from extraction.text import CURRENT_ANALYSIS, MatchMode, get_analysis  # noqa: E402
from tests.factories import make_policy, make_user  # noqa: E402

PHRASES = ["毕业征", "学位征", "钢印水印齐全", "先看样后付款", "对照样本", "备注学历", "同城可面交", "留信认证"]
BATCH = 2_000
QUERIES = 4  # of one exploration
SHOWN = 50  # results of one query


def make_items(count: int, rng: np.random.Generator) -> None:
    analysis = get_analysis(CURRENT_ANALYSIS)
    now = timezone.now()
    for start in range(0, count, BATCH):
        ids = range(start + 1, start + BATCH + 1)
        Item.objects.bulk_create(
            Item(pk=pk, platform="market", external_id=f"i{pk}", author_key=f"a{pk % 20_000}", created=now)
            for pk in ids
        )
        texts = []
        for pk in ids:
            text = "，".join(rng.choice(PHRASES, size=3)) + f"，全国可办，三天出图，详情看主页第{pk}条"
            key = analysis.key(text, MatchMode.PHRASE)
            digest = sha256(text.encode()).hexdigest()
            texts.append(
                ItemText(
                    pk=pk,
                    item_id=pk,
                    text=text,
                    text_hash=digest,
                    norm_hash=sha256(key.encode()).hexdigest(),
                    analysis=CURRENT_ANALYSIS,
                    language="zh-Hans",
                )
            )
        ItemText.objects.bulk_create(texts)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_item SET text_id = id, indexed_version = version")


def make_reports(count: int, user: User) -> None:
    """Nine in ten closed; each with complaints, and eight suggestions on every tenth."""
    policy = make_policy("forged", name="Forged documents")
    version, now = policy.current(), timezone.now()
    for start in range(0, count, BATCH):
        ids = range(start + 1, start + BATCH + 1)
        Report.objects.bulk_create(
            Report(
                pk=pk,
                item_id=pk,
                item_text_id=pk,
                policy=policy,
                complaint_count=3,
                due=now + timedelta(seconds=pk),
                **(
                    {"status": "waiting"}
                    if pk % 10
                    else {"status": "exploring", "confirmed": now, "claimed_by": user, "lease_until": now}
                ),
                suggestions_state="ready",
            )
            for pk in ids
        )
        Complaint.objects.bulk_create(
            Complaint(
                report_id=pk,
                item_text_id=pk,
                platform="market",
                external_id=f"c{pk}-{number}",
                reason=["forged papers", "scam", "contact"][number],
                policy=policy,
                at=now,
            )
            for pk in ids
            for number in range(3)
        )
        busy = [pk for pk in ids if not pk % 10]
        SuggestionBatch.objects.bulk_create(
            SuggestionBatch(
                pk=pk,
                report_id=pk,
                item_text_id=pk,
                policy_version=version,
                suggester="search",
                suggester_version="1",
                index_generation="items-1",
                tried=40,
            )
            for pk in busy
        )
        Suggestion.objects.bulk_create(
            Suggestion(
                batch_id=pk,
                report_id=pk,
                query_id=number,
                text=phrase,
                rank=number,
                estimate=0.5,
                novelty=1,
                matches=120,
                unseen=40,
                past_toxic=31,
                past_judged=50,
            )
            for pk in busy
            for number, phrase in enumerate(PHRASES, start=1)
        )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_report SET batch_id = id WHERE status = 'exploring'")


def make_explorations(count: int, items: int, user: User, rng: np.random.Generator) -> None:
    """Each of one busy report: four queries with fifty exposures each, two in three of them judged, a month ago."""
    now = timezone.now() - timedelta(days=30)
    version = PolicyVersion.objects.get()
    for start in range(0, count, 100):
        ids = range(start + 1, start + 101)
        Exploration.objects.bulk_create(
            Exploration(pk=pk, created_by=user, state="done", pages_opened=SHOWN * QUERIES // 50) for pk in ids
        )
        places = [(pk, number, (pk - 1) * QUERIES + number) for pk in ids for number in range(1, QUERIES + 1)]
        ExplorationQuery.objects.bulk_create(
            ExplorationQuery(pk=row, exploration_id=pk, query_id=number, position=number, state="done")
            for pk, number, row in places
        )
        Decision.objects.bulk_create(
            Decision(
                pk=row,
                report_id=pk * 10,
                suggestion_id=None,
                kind="own",
                query_id=number,
                source="human",
                text=PHRASES[number - 1],
                arm="visible",
                user=user,
                at=now,
            )
            for pk, number, row in places
        )
        Decision.exploration_queries.through.objects.bulk_create(
            Decision.exploration_queries.through(decision_id=row, explorationquery_id=row)
            for _pk, _number, row in places
        )
        runs, exposures = [], []
        for _pk, number, row in places:
            found = (rng.choice(items, size=200, replace=False) + 1).tolist()
            runs.append(
                QueryRun(
                    pk=row,
                    exploration_query_id=row,
                    query_id=number,
                    engine="fts5",
                    index_generation="items-1",
                    analysis=CURRENT_ANALYSIS,
                    live=200,
                    removed=0,
                    ranking=[[item, 0.5] for item in found],
                    took_ms=3,
                )
            )
            exposures += [
                Exposure(
                    run_id=row,
                    rank=rank,
                    item_id=item,
                    item_text_id=item,
                    page=number,
                    position=(number - 1) * SHOWN + rank,
                    user=user,
                    at=now,
                )
                for rank, item in enumerate(found[:SHOWN], start=1)
            ]
        QueryRun.objects.bulk_create(runs)
        Exposure.objects.bulk_create(exposures, batch_size=BATCH)
    for start in range(0, items, BATCH):
        first = Exposure.objects.filter(item__in=range(start + 1, start + BATCH + 1)).order_by("pk")
        by_text = {one.item_text_id: one for one in first if one.item_text_id % 3}
        judgments = Judgment.objects.bulk_create(
            Judgment(
                pk=text,
                item_text_id=text,
                policy_version=version,
                verdict="toxic" if text % 2 else "normal",
                exposure=one,
                user=user,
                at=now,
            )
            for text, one in by_text.items()
        )
        StandingVerdict.objects.bulk_create(
            StandingVerdict(item_text_id=one.item_text_id, policy_version=version, verdict=one.verdict, judgment=one)
            for one in judgments
        )


def fill(reports: int, explorations: int, items: int) -> None:
    call_command("migrate", verbosity=0)
    rng = np.random.default_rng(7)
    user = make_user("bench", role="auditor")
    analysis = get_analysis(CURRENT_ANALYSIS)
    Query.objects.bulk_create(
        Query(pk=number, text=text, key=analysis.key(text, MatchMode.PHRASE), analysis=CURRENT_ANALYSIS)
        for number, text in enumerate(PHRASES, start=1)
    )
    for step in (
        lambda: make_items(items, rng),
        lambda: make_reports(reports, user),
        lambda: make_explorations(explorations, items, user, rng),
    ):
        begun = time.perf_counter()
        step()
        print(f"filled in {time.perf_counter() - begun:.0f} s", flush=True)  # noqa: T201


def queries_of(ask: Callable[[], object]) -> int:
    """How many statements one request sends (the client's own log of queries is emptied by each request)."""
    sent = 0

    def count(execute: Callable[..., object], *args: object) -> object:
        nonlocal sent
        sent += 1
        return execute(*args)

    with connection.execute_wrapper(count):
        ask()
    return sent


def measure(name: str, ask: Callable[[int], object], times: int, rng: np.random.Generator, top: int) -> None:
    """Ask for pages of rows drawn at random and print how long the server took, by the clock and of the processor."""
    for number in (1, 2, 3):
        ask(number)
    drawn = rng.integers(1, top, size=times).tolist()
    queries = sorted({queries_of(partial(ask, number)) for number in drawn[:5]})
    took, worked = [], []
    for number in drawn:
        begun, idle = time.perf_counter(), time.process_time()
        ask(number)
        took.append(1000 * (time.perf_counter() - begun))
        worked.append(1000 * (time.process_time() - idle))
    p50, p95, p99 = np.percentile(took, [50, 95, 99])
    processor = "processor p50 {:5.1f}  p95 {:5.1f} ms".format(*np.percentile(worked, [50, 95]))
    print(f"{name:14} p50 {p50:6.1f}  p95 {p95:6.1f}  p99 {p99:6.1f} ms  {processor}  {queries} queries")  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, default=100_000)
    parser.add_argument("--explorations", type=int, default=5_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=200)
    options = parser.parse_args()
    tables = connection.introspection.table_names()
    if "audit_exposure" not in tables or not Exposure.objects.exists():
        fill(options.reports, options.explorations, options.items)
    print(f"{Report.objects.count():,} reports, {Exposure.objects.count():,} exposures")  # noqa: T201
    call_command("collectstatic", verbosity=0, interactive=False)
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get(username="bench"))
    reports = dict(Report.objects.filter(status="exploring").values_list("pk", "public_id"))
    explorations = dict(Exploration.objects.values_list("pk", "public_id"))
    rng = np.random.default_rng(11)

    def get(address: str) -> None:
        response = client.get(address)
        if response.status_code != 200:
            raise SystemExit(f"{address} answered {response.status_code}")

    def judge(number: int) -> None:
        place = [explorations[number], 1, int(rng.integers(1, SHOWN))]
        data = {"verdict": "normal", "key": str(uuid.uuid4())}
        client.post(reverse("audit:judge", args=place), data, headers={"HX-Request": "true"})

    top, times = options.explorations, options.times
    measure("report page", lambda n: get(reverse("audit:report", args=[reports[10 * n]])), times, rng, top)
    measure("results page", lambda n: get(reverse("audit:exploration", args=[explorations[n]])), times, rng, top)
    measure("one verdict", judge, times, rng, top)
    measure("queue", lambda _n: get(reverse("audit:queue")), max(20, times // 10), rng, top)
    measure("history", lambda _n: get(reverse("audit:history")), max(20, times // 10), rng, top)


if __name__ == "__main__":
    main()

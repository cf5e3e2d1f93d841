"""How long the weekly figures take at 1 M or 10 M exposures: the first count, a night, the page. A script:

    QX_VAR_DIR=/tmp/bench-insights QX_SECRET_KEY=bench QX_LOG_LEVEL=ERROR \
        python tests/benchmarks/bench_insights.py --exposures 1000000

The first run fills the SQLite database of that folder; later runs measure alone. A year of explorations, evenly spread,
each with two human and two model queries of fifty exposures; an item is shown for about four weeks. The page is asked
for through the test client, so that middleware, session, permissions, queries and rendering all count.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
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

from audit.insights import roll_up  # noqa: E402
from audit.insights.weeks import Week  # noqa: E402
from audit.models import (  # noqa: E402
    Decision,
    Exploration,
    ExplorationQuery,
    Exposure,
    Judgment,
    PolicyVersion,
    Query,
    QueryRun,
    Report,
    StandingVerdict,
    Suggestion,
    SuggestionBatch,
    WeeklyCount,
)
from extraction.text import CURRENT_ANALYSIS  # noqa: E402
from tests.factories import make_policy, make_user  # noqa: E402

QUERIES = 4  # of an exploration: two human, two model
SHOWN = 50  # results of a query
WEEKS = 52
POLICIES = 8
SHOWN_FOR = 4  # weeks
BATCH = 2_000


def at_of(number: int, of: int, now: datetime) -> datetime:
    """When the `number`th of so many happened: evenly over the year."""
    return now - timedelta(weeks=WEEKS) * (1 - number / of)


def fill(exposures: int) -> None:
    call_command("migrate", verbosity=0)
    explorations = exposures // (QUERIES * SHOWN)
    items = max(20_000, exposures // 20)
    now = timezone.now()
    user = make_user("bench", role="researcher")
    versions = [make_policy(f"policy-{number}").current() for number in range(POLICIES)]
    steps: list[Callable[[], None]] = [
        lambda: make_items(items),
        lambda: make_work(explorations, versions, user, now),
        lambda: make_exposures(explorations, items, user),
        lambda: make_judgments(items, versions, user, now),
    ]
    for step in steps:
        begun = time.perf_counter()
        step()
        print(f"filled in {time.perf_counter() - begun:.0f} s", flush=True)  # noqa: T201


def make_items(count: int) -> None:
    """In the database itself: there are too many to send them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s) "
            "INSERT INTO audit_item (id, public_id, platform, external_id, author_key, url, created, imported, state, "
            "version, indexed_version) SELECT i, printf('%%032x', i), 'market', 'i' || i, '', '', '2026-01-01', "
            "'2026-01-01', 'live', 1, 1 FROM n",
            [count],
        )
        cursor.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s) "
            "INSERT INTO audit_itemtext (id, item_id, text, text_hash, norm_hash, analysis, language, at) "
            "SELECT i, i, 'text ' || i, i, i, %s, CASE WHEN i %% 3 THEN 'zh-Hans' ELSE 'en' END, '2026-01-01' FROM n",
            [count, CURRENT_ANALYSIS],
        )


def make_work(explorations: int, versions: list[PolicyVersion], user: User, now: datetime) -> None:
    """A closed report of each exploration with its suggestions, decisions and runs."""
    queries = Query.objects.bulk_create(
        Query(text=f"phrase {number}", key=f"phrase {number}", analysis=CURRENT_ANALYSIS) for number in range(5_000)
    )
    for start in range(0, explorations, BATCH):
        ids = range(start + 1, min(start + BATCH, explorations) + 1)
        when = {pk: at_of(pk, explorations, now) for pk in ids}
        version_of = {pk: versions[pk % POLICIES] for pk in ids}
        arm = {pk: "own_first" if pk % 10 == 0 else "visible" for pk in ids}
        Report.objects.bulk_create(
            Report(
                pk=pk,
                item_id=pk,
                item_text_id=pk,
                policy_id=version_of[pk].policy_id,
                status="closed",
                outcome="confirmed",
                opened=when[pk] - timedelta(hours=pk % 60),
                confirmed=when[pk],
                revealed=when[pk],
                closed=when[pk] + timedelta(hours=1),
                due=when[pk],
                arm=arm[pk],
            )
            for pk in ids
        )
        SuggestionBatch.objects.bulk_create(
            SuggestionBatch(
                pk=pk,
                report_id=pk,
                item_text_id=pk,
                policy_version=version_of[pk],
                suggester="search",
                suggester_version=str(pk * WEEKS // explorations),
                index_generation="items-1",
                at=when[pk],
            )
            for pk in ids
        )
        places = [(pk, number, (pk - 1) * QUERIES + number) for pk in ids for number in range(1, QUERIES + 1)]
        query_of = {row: queries[row * 7 % len(queries)] for _pk, _number, row in places}
        model = [place for place in places if place[1] > 2]
        Suggestion.objects.bulk_create(
            Suggestion(
                pk=row,
                batch_id=pk,
                report_id=pk,
                query=query_of[row],
                text="phrase",
                rank=number,
                estimate=0.5,
                novelty=1,
            )
            for pk, number, row in model
        )
        Decision.objects.bulk_create(
            Decision(
                pk=row,
                report_id=pk,
                suggestion_id=row if number > 2 else None,
                kind="accepted" if number > 2 else "own",
                query=query_of[row],
                source="model" if number > 2 else "human",
                text="phrase",
                arm=arm[pk],
                user=user,
                at=when[pk] + timedelta(seconds=9 * number),
                duration_ms=9_000 * number,
            )
            for pk, number, row in places
        )
        Exploration.objects.bulk_create(
            Exploration(pk=pk, created_by=user, state="done", pages_opened=1, at=when[pk] + timedelta(minutes=1))
            for pk in ids
        )
        ExplorationQuery.objects.bulk_create(
            ExplorationQuery(pk=row, exploration_id=pk, query=query_of[row], position=number, state="done")
            for pk, number, row in places
        )
        Decision.exploration_queries.through.objects.bulk_create(
            Decision.exploration_queries.through(decision_id=row, explorationquery_id=row)
            for _pk, _number, row in places
        )
        QueryRun.objects.bulk_create(
            QueryRun(
                pk=row,
                exploration_query_id=row,
                query=query_of[row],
                engine="fts5",
                index_generation="items-1",
                analysis=CURRENT_ANALYSIS,
                live=40 + row % 100,
                removed=0,
                ranking=[],
                took_ms=3,
                at=when[pk] + timedelta(minutes=1),
            )
            for pk, _number, row in places
        )


def make_exposures(explorations: int, items: int, user: User) -> None:
    """In the database itself. Queries of one exploration share items; items follow each other through the year."""
    window = items * SHOWN_FOR // WEEKS
    with without_indexes("audit_exposure"), connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s), shown AS ("
            "SELECT r.id AS run, i AS rank, (q.exploration_id * (%s - %s) / %s + "
            "(q.exploration_id * 7919 + q.position * 20 + i) %% %s) + 1 AS item, r.at AS at, q.position AS page "
            "FROM audit_queryrun r JOIN audit_explorationquery q ON q.id = r.exploration_query_id, n) "
            "INSERT INTO audit_exposure (run_id, rank, item_id, item_text_id, page, position, user_id, at) "
            "SELECT run, rank, item, item, 1, (page - 1) * 50 + rank, %s, at FROM shown ORDER BY run, rank",
            [SHOWN, items, window, explorations, window, user.pk],
        )


@contextmanager
def without_indexes(table: str) -> Iterator[None]:
    """Fill a table first and index it afterwards, which sorts instead of searching a place for each row."""
    asked = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = %s AND sql IS NOT NULL"
    with connection.cursor() as cursor:
        cursor.execute(asked, [table])
        indexes = cursor.fetchall()
        for name, _sql in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        yield
        for _name, sql in indexes:
            cursor.execute(sql)


def make_judgments(items: int, versions: list[PolicyVersion], user: User, now: datetime) -> None:
    """Two of three texts, soon after they were shown; every fiftieth by a second person, who often agrees."""
    second = make_user("second", role="auditor")
    for start in range(0, items, BATCH):
        first = dict(
            Exposure.objects.filter(item__in=range(start + 1, start + BATCH + 1))
            .order_by("-pk")
            .values_list("item_id", "pk")
        )
        made: list[Judgment] = []
        standing: dict[int, Judgment] = {}
        disputed: set[int] = set()
        for item, exposure in first.items():
            if item % 3 == 0:
                continue
            about = {"item_text_id": item, "policy_version": versions[item % POLICIES], "exposure_id": exposure}
            about |= {"at": min(now, at_of(item, items, now) + timedelta(weeks=1)), "duration_ms": item % 9_000}
            standing[item] = Judgment(**about, verdict="toxic" if item % 4 == 1 else "normal", user=user)
            made.append(standing[item])
            if item % 50 == 1:
                made.append(Judgment(**about, verdict="normal", user=second))
                if standing[item].verdict != "normal":
                    disputed.add(item)
        Judgment.objects.bulk_create(made)
        StandingVerdict.objects.bulk_create(
            StandingVerdict(
                item_text_id=text,
                policy_version_id=one.policy_version_id,
                verdict="" if text in disputed else one.verdict,
                is_disputed=text in disputed,
                judgment=one,
            )
            for text, one in standing.items()
        )


def judge_tonight(count: int, user: User) -> None:
    """What the people of a day judged: texts of the last weeks that nobody had judged."""
    version = PolicyVersion.objects.earliest("pk")
    unjudged = Exposure.objects.filter(item_text__standing_verdicts=None).order_by("-pk")[: 20 * count]
    fresh: dict[int, int] = {}
    for pk, text in unjudged.values_list("pk", "item_text_id"):
        if len(fresh) < count:
            fresh.setdefault(text, pk)
    made = Judgment.objects.bulk_create(
        Judgment(item_text_id=text, policy_version=version, verdict="normal", user=user, exposure_id=pk)
        for text, pk in fresh.items()
    )
    StandingVerdict.objects.bulk_create(
        StandingVerdict(item_text_id=one.item_text_id, policy_version=version, verdict="normal", judgment=one)
        for one in made
    )


def timed(name: str, work: Callable[[], object]) -> None:
    begun = time.perf_counter()
    result = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{name:24} {time.perf_counter() - begun:8.1f} s   peak {peak} MB   {result}", flush=True)  # noqa: T201


def pages(times: int) -> Iterator[str]:
    call_command("collectstatic", verbosity=0, interactive=False)
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get(username="bench"))
    for query in ("weeks=12", "weeks=52", "weeks=52&policy=policy-1&arm=visible", "weeks=all"):
        took = []
        for _time in range(times + 1):
            begun = time.perf_counter()
            response = client.get(reverse("audit:insights") + f"?{query}")
            took.append(1000 * (time.perf_counter() - begun))
            if response.status_code != 200:
                raise SystemExit(f"the page answered {response.status_code}")
        p50, p95 = np.percentile(took[1:], [50, 95])
        yield f"page {query:38} p50 {p50:6.0f} ms   p95 {p95:6.0f} ms   first {took[0]:6.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exposures", type=int, default=1_000_000)
    parser.add_argument("--judged", type=int, default=1_000, help="Verdicts of the day before the night.")
    parser.add_argument("--times", type=int, default=20)
    options = parser.parse_args()
    if "audit_exposure" not in connection.introspection.table_names() or not Exposure.objects.exists():
        fill(options.exposures)
    print(f"{Exposure.objects.count():,} exposures, {Judgment.objects.count():,} judgments")  # noqa: T201
    timed("all weeks", lambda: f"{roll_up(everything=True)} weeks")
    print(f"{WeeklyCount.objects.count():,} counts stored, this week {Week.of(timezone.now()).name}")  # noqa: T201
    judge_tonight(options.judged, User.objects.get(username="bench"))
    timed(f"a night, {options.judged:,} verdicts", lambda: f"{roll_up()} weeks")
    for line in pages(options.times):
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

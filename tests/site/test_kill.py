"""kill -9 in mid-loop: whatever was acknowledged is there afterwards, once, and the work that was under way ends.

One installation for the file, walked over HTTP as a browser without script does; each test takes a report of its own.
"""

import fcntl
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from audit import jobs
from audit.models import RunState, Verdict
from audit.services import explore, judge, run_again
from extraction.search import get_engine
from qexplorer_site.processes import descendants, is_alive
from tests.audit.loop import confirmed_report, explored, exposures_of, key, make_indexed, own
from tests.site.installation import Installation
from tests.tiny import need_learning_stack

pytestmark = pytest.mark.slow

PATIENCE_S = 40
RECORDED = {200, 303}
ALREADY = 409
Press = tuple[str, str]  # the address of a verdict and its key

SEED = """
from datetime import UTC, datetime, timedelta
from django.contrib.auth.models import Group, User
from audit.indexing import index_items
from audit.intake import ComplaintRow, ItemRow, create_policy, store_complaints, store_items
from audit.models import Item

User.objects.create_user("ana", password="Correct-horse-9").groups.add(Group.objects.get(name="auditor"))
create_policy(key="forgery", name="Forged papers")
now = datetime.now(UTC)
texts = [f"forged diploma with stamp number {n} word{n}" for n in range(40)] + [f"used bicycle {n}" for n in range(20)]
store_items([ItemRow("market", f"i{n}", text, now - timedelta(days=1)) for n, text in enumerate(texts)])
store_complaints([ComplaintRow("market", f"c{n}", f"i{n}", "forgery", now) for n in range(6)])
index_items(list(Item.objects.values_list("pk", flat=True)))
"""

AN_ADAPTER_SERVES = """
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from audit.intake import ComplaintRow, store_complaints
from extraction.artifacts import store_folder
from extraction.generation import stamp
from tests.factories import make_adapter, make_base, make_promotion
from tests.tiny import tiny_adapter, tiny_base

with TemporaryDirectory() as scratch:
    folder = tiny_base(Path(scratch) / "base")
    base = make_base("tiny", digest=store_folder(folder), **stamp(folder, "zh-1"))
    adapter = tiny_adapter(Path(scratch) / "adapter", folder)
    make_promotion(adapter=make_adapter("dpo-14", base=base, digest=store_folder(adapter)))
store_complaints([ComplaintRow("market", f"d{n}", f"i{n}", "forgery", datetime.now(UTC)) for n in range(10, 20)])
"""

A_LATER_TICK = """
from datetime import timedelta
import django_rq
from django.conf import settings
from django.utils import timezone
from audit.jobs import tick
from audit.models import Exploration

Exploration.objects.update(at=timezone.now() - timedelta(minutes=5))
for name in settings.RQ_QUEUES:
    registry = django_rq.get_queue(name).started_job_registry
    for entry in registry.connection.zrange(registry.key, 0, -1):
        registry.connection.zadd(registry.key, {entry: 1})
for job in registry.connection.scan_iter("rq:job:*"):
    registry.connection.hset(job, "enqueued_at", "2026-01-01T00:00:00.000000Z")
tick()
"""
"""Minutes have passed: the heartbeats of jobs that died have run out, and the tick looks for what is missing."""


class Browser:
    """A signed-in person's browser without script: forms with keys, redirects not followed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies), _Stay())

    def get(self, path: str) -> tuple[int, str]:
        return self._open(urllib.request.Request(urllib.parse.urljoin(self.url, path)))[:2]

    def post(self, path: str, *, key: str = "", **fields: Any) -> tuple[int, str]:
        """(status, address that it leads to)."""
        token = next((cookie.value for cookie in self.cookies if cookie.name == "csrftoken"), "")
        body = {"csrfmiddlewaretoken": token, "key": key or str(uuid.uuid4()), **fields}
        request = urllib.request.Request(urllib.parse.urljoin(self.url, path), urllib.parse.urlencode(body).encode())
        status, _text, location = self._open(request)
        return status, location

    def insist(self, path: str, **fields: Any) -> str:
        """A step that has to be recorded; the address that it leads to."""
        status, location = self.post(path, **fields)
        assert status in RECORDED, f"{path} answered {status}"
        return location

    def sign_in(self) -> None:
        self.get("/login/")
        assert self.post("/login/", username="ana", password="Correct-horse-9")[0] == 302

    def _open(self, request: urllib.request.Request) -> tuple[int, str, str]:
        try:
            with self._opener.open(request, timeout=30) as answer:
                return answer.status, answer.read().decode(), ""
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), error.headers.get("Location", "")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Site:
    """The installation as these tests see it: its processes by what they do, its rows, its one signed-in person."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.browser = Browser(installation.url)

    def shell(self, code: str) -> None:
        command = [sys.executable, "-c", f"import django\ndjango.setup()\n{code}"]
        environment = self.installation.environment | {"DJANGO_SETTINGS_MODULE": "qexplorer_site.settings"}
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{self.installation.var / 'db.sqlite3'}?mode=ro", uri=True, timeout=20) as database:
            return database.execute(sql, values).fetchall()

    def value(self, sql: str, *values: object) -> Any:
        return self.rows(sql, *values)[0][0]

    def kill(self, *words: str) -> None:
        """kill -9 every process of the installation whose command has one of the words, with its children."""
        until(lambda: bool(self.processes(*words)), f"no process with {words}")  # a killed one starts again
        found = self.processes(*words)
        for pid in found | descendants(found):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)

    def processes(self, *words: str) -> set[int]:
        listing = ["ps", "-axww", "-o", "pid=,command="]  # -ww: whole commands, however narrow COLUMNS says it is
        output = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
        return {
            int(pid)
            for pid, command in re.findall(r"^ *(\d+) (.*)$", output, re.MULTILINE)
            if any(word in command for word in words)
        } & self.installation.tree()

    def confirmed_report(self) -> str:
        """The address of a report that was taken and judged toxic."""
        report = self.browser.insist("/queue/next/")
        self.browser.insist(f"{report}verdict/", verdict="toxic", policy="forgery")
        return report

    def explored(self, report: str, *texts: str) -> str:
        """The address of an exploration of own queries, run to its end."""
        exploration = self.run(report, *texts)
        self.wait_for_end(exploration)
        return exploration

    def run(self, report: str, *texts: str) -> str:
        for text in texts:
            self.browser.insist(f"{report}queries/add/", text=text, mode="phrase")
        return self.browser.insist(f"{report}run/")

    def state_of(self, exploration: str) -> str:
        return str(self.value("SELECT state FROM audit_exploration WHERE public_id = ?", id_in(exploration)))

    def wait_for_end(self, exploration: str) -> None:
        until(lambda: self.state_of(exploration) == "done", f"the exploration is {self.state_of(exploration)}")


def id_in(address: str) -> str:
    """The public id at the end of an address, as SQLite holds it."""
    return uuid.UUID(address.strip("/").rpartition("/")[2]).hex


def until(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    installation = Installation(tmp_path_factory.mktemp("kill") / "var")
    installation.var.mkdir()
    installation.environment["QX_PAGE_SIZE"] = "20"
    installation.start()
    made = Site(installation)
    made.shell(SEED)
    made.browser.sign_in()
    yield made
    for pid in installation.tree():
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def _done_with_the_report(site: Site) -> Iterator[None]:
    """Nobody holds a report when the next test takes one."""
    yield
    for (public_id,) in site.rows("SELECT public_id FROM audit_report WHERE status IN ('claimed', 'exploring')"):
        site.browser.post(f"/reports/{uuid.UUID(public_id)}/close/", outcome="skipped", text="the test is over")


def judge_all(site: Site, exploration: str, between: Callable[[int], None]) -> tuple[list[Press], list[Press]]:
    """Judge every result of page 1; those acknowledged and those that got no answer, each by its key and address."""
    places = site.rows(
        "SELECT q.position, x.rank FROM audit_exposure x JOIN audit_queryrun r ON r.id = x.run_id "
        "JOIN audit_explorationquery q ON q.id = r.exploration_query_id JOIN audit_exploration e "
        "ON e.id = q.exploration_id WHERE e.public_id = ? ORDER BY x.position",
        id_in(exploration),
    )
    acknowledged, unanswered = [], []
    for number, (query, rank) in enumerate(places):
        between(number)
        path, key = f"{exploration}{query}/{rank}/judge/", str(uuid.uuid4())
        try:
            status, _location = site.browser.post(path, key=key, verdict="normal")
        except OSError:
            unanswered.append((path, key))
        else:
            assert status in RECORDED
            acknowledged.append((path, key))
    return acknowledged, unanswered


def test_killed_workers_end_their_exploration_after_their_restart(site):
    report = site.confirmed_report()
    before = site.value("SELECT count(*) FROM audit_queryrun")
    exploration = site.run(report, *(f"word{number}" for number in range(6, 26)))
    until(lambda: site.value("SELECT count(*) FROM audit_queryrun") > before, "no query ran")
    site.kill("rqworker")
    site.shell(A_LATER_TICK)
    site.wait_for_end(exploration)
    assert site.value("SELECT count(*) FROM audit_queryrun") == before + 20


def test_a_step_asked_of_dead_workers_is_done_by_their_successors(site):
    report = site.confirmed_report()
    site.kill("rqworker")
    exploration = site.run(report, "forged diploma")
    site.wait_for_end(exploration)
    assert site.browser.insist(f"{exploration}open/", page=1)


def test_a_killed_web_process_loses_no_acknowledged_verdict(site):
    report = site.confirmed_report()
    exploration = site.explored(report, "with stamp")
    site.browser.insist(f"{exploration}open/", page=1)
    killers = []

    def strike(number: int) -> None:
        if number == 5:
            killers.append(threading.Timer(0.02, site.kill, ["gunicorn"]))
            killers[-1].start()

    acknowledged, unanswered = judge_all(site, exploration, strike)
    for killer in killers:
        killer.join()
    until(lambda: site.browser.get("/healthz/live")[0] == 200, "the web process did not come back")
    for path, pressed in unanswered:
        assert site.browser.post(path, key=pressed, verdict="normal")[0] in RECORDED | {ALREADY}
    keys = {key.replace("-", "") for _path, key in acknowledged + unanswered}
    recorded = {key for (key,) in site.rows("SELECT key FROM audit_recordedrequest WHERE action = 'judge'")}
    assert keys <= recorded
    assert site.value("SELECT count(*) FROM audit_judgment WHERE exposure_id IS NOT NULL") == len(keys)


def test_a_killed_queue_server_loses_no_step(site):
    report = site.confirmed_report()
    site.kill("valkey", "redis")
    exploration = site.run(report, "forged diploma")  # acknowledged, with or without a queue to put it on
    until(lambda: site.browser.get("/healthz/ready")[0] == 200, "the queue server did not come back")
    site.shell(A_LATER_TICK)
    site.wait_for_end(exploration)


def test_a_search_index_that_is_away_is_said_and_run_again(site):
    report = site.confirmed_report()
    until(lambda: not site.value("SELECT count(*) FROM audit_item WHERE version <> indexed_version"), "index is behind")
    link = site.installation.var / "search.sqlite3"
    with link.with_name("search.sqlite3.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # nor does a tick rebuild it meanwhile
        link.rename(link.with_suffix(".away"))
        exploration = site.run(report, "forged diploma")
        until(lambda: site.state_of(exploration) == "failed", "the exploration did not fail")
        assert "index" in site.browser.get(exploration)[1]
        link.with_suffix(".away").rename(link)
    site.browser.insist(f"{exploration}again/")
    site.wait_for_end(exploration)


def test_everything_killed_at_once_goes_on_after_the_next_start(site):
    report = site.confirmed_report()
    exploration = site.run(report, *(f"word{number}" for number in range(26, 36)))
    for pid in site.installation.tree():
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    site.installation.process.wait()
    site.installation.start()
    site.browser.url = site.installation.url
    site.shell(A_LATER_TICK)
    site.wait_for_end(exploration)
    assert site.browser.insist(f"{exploration}open/", page=1)


def test_a_suggester_killed_in_mid_batch_leaves_no_report_without_the_models_queries(site):
    need_learning_stack()
    unread = (
        "SELECT count(*) FROM audit_report r LEFT JOIN audit_suggestionbatch b ON b.id = r.batch_id "
        "WHERE r.status = 'waiting' AND coalesce(b.suggester, '') <> 'search+llm'"
    )
    site.shell(AN_ADAPTER_SERVES)
    assert site.value(unread) >= 10
    until(lambda: is_locked(site.installation.var / "run" / "card.lock"), "no model was loaded")
    site.kill("suggester.Suggester")
    assert site.value("SELECT count(*) FROM audit_generation") == 0
    until(lambda: bool(site.processes("suggester.Suggester")), "the suggester did not come back")
    site.shell(A_LATER_TICK)
    until(lambda: site.value(unread) == 0, "a report has no queries of the model")
    read_twice = "SELECT count(*) - count(DISTINCT item_text_id) FROM audit_generation"
    assert site.value(read_twice) == 0


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock file."""
    if not path.exists():
        return False
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.elasticsearch
@pytest.mark.django_db
def test_a_killed_search_server_loses_no_step(elasticsearch_8_server, auditor, settings):
    settings.ELASTICSEARCH_URL = elasticsearch_8_server.url
    settings.SEARCH_INDEX = f"qx-kill-{uuid.uuid4().hex[:8]}"
    make_indexed(*(f"forged diploma {number}" for number in range(5)))
    report = confirmed_report(auditor)
    earlier = explored(report, auditor, "forged diploma")
    own(report, auditor, "diploma")
    exploration = explore(reports=[report], user=auditor, key=key())
    elasticsearch_8_server.kill()
    jobs.run_exploration(exploration.pk)
    exposure = exposures_of(earlier)[0]
    judge(exposure=exposure, user=auditor, verdict=Verdict.TOXIC, key=key())
    jobs.index_item(exposure.item_id)
    exploration.refresh_from_db()
    assert exploration.state == RunState.FAILED
    assert "cannot be reached" in exploration.queries.get().error

    elasticsearch_8_server.start()
    run_again(exploration=exploration, user=auditor, key=key())
    jobs.sweep_index()
    get_engine().refresh()
    jobs.run_exploration(exploration.pk)
    found = [item_id for item_id, _risk in exploration.queries.get().run.ranking]
    assert len(found) == 4
    assert exposure.item_id not in found

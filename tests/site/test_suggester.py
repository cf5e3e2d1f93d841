import subprocess
import sys

import django_rq
import pytest

from audit import generating
from audit.queueing import enqueue
from qexplorer_site.suggester import Suggester
from tests.queues import empty_queues, waiting
from tests.site.suggester_jobs import SEEN

pytestmark = pytest.mark.django_db(transaction=True)  # it closes its connection between jobs

NO_LEARNING_STACK = """
import django, sys
django.setup()
import qexplorer_site.suggester, qexplorer_site.wsgi
print(*{"torch", "transformers", "peft", "llguidance"} & set(sys.modules))
"""


@pytest.fixture(autouse=True)
def _empty_queues():
    empty_queues()
    yield
    empty_queues()


@pytest.fixture
def suggester() -> Suggester:
    queue = django_rq.get_queue("suggest")
    return Suggester([queue], connection=queue.connection, job_monitoring_interval=1)


def work(suggester: Suggester) -> None:
    suggester.work(burst=True, logging_level="ERROR")


def test_neither_the_worker_nor_the_pages_load_the_learning_stack_at_their_start():
    done = subprocess.run([sys.executable, "-c", NO_LEARNING_STACK], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_running_job_says_again_and_again_that_it_is_alive(suggester):
    enqueue("suggest", "tests.site.suggester_jobs.look_at_own_record", job_id="look", timeout_s=3600)
    work(suggester)
    first, later = SEEN["ends"]
    assert first < later
    assert later - SEEN["now"] < 120  # and not for its whole hour, should it be killed


def test_a_job_that_fails_leaves_the_worker_at_work(suggester):
    enqueue("suggest", "tests.site.suggester_jobs.fail", job_id="fail")
    enqueue("suggest", "audit.generating.generate_ahead", job_id="generate-ahead-0")
    work(suggester)
    assert waiting("suggest") == []
    assert django_rq.get_queue("suggest").failed_job_registry.get_job_ids() == ["fail"]


def test_between_jobs_the_card_is_given_to_who_wants_it(suggester, monkeypatch):
    asked = []
    monkeypatch.setattr(generating, "yield_card", lambda: asked.append(True))
    suggester.heartbeat()
    assert asked
    asked.clear()
    with suggester.connection.pipeline() as pipeline:
        suggester.heartbeat(90, pipeline=pipeline)  # a job runs
    assert not asked

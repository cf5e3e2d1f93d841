"""Jobs for the tests of the worker `suggester`: what a job sees of its own record while it runs."""

import time
from typing import Any

import django_rq

SEEN: dict[str, Any] = {}


def look_at_own_record() -> None:
    """Note how long the queue takes this job for alive, and again after a while."""
    registry = django_rq.get_queue("suggest").started_job_registry
    SEEN["ends"] = [_score(registry)]
    time.sleep(1.2)
    SEEN["ends"].append(_score(registry))
    SEEN["now"] = time.time()


def fail() -> None:
    raise ValueError("as asked")


def _score(registry: Any) -> float:
    ((_entry, score),) = registry.connection.zrange(registry.key, 0, -1, withscores=True)
    return float(score)

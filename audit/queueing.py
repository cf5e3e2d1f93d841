"""Enqueue after commit. The database row is the truth: where the queue is down, the tick job picks the row up later."""

import logging

import django_rq
from django.db import transaction
from redis.exceptions import RedisError
from rq.exceptions import DuplicateJobError

FAILURES_KEPT_S = 7 * 86_400

logger = logging.getLogger(__name__)


def enqueue_after_commit(queue: str, job: str, *args: int | str, job_id: str | None = None) -> None:
    """Put `job` (import path) with plain arguments on `queue` once the surrounding transaction is committed."""
    transaction.on_commit(lambda: enqueue(queue, job, *args, job_id=job_id))


def enqueue(queue: str, job: str, *args: int | str, job_id: str | None = None) -> bool:
    """Put `job` on `queue` now; False (and a line in the log) where the queue server cannot be reached.

    A `job_id` makes it unique: while such a job waits or runs, another is not added.
    """
    try:
        django_rq.get_queue(queue).enqueue(
            job, *args, job_id=job_id, unique=job_id is not None, result_ttl=0, failure_ttl=FAILURES_KEPT_S
        )
    except DuplicateJobError:
        return True
    except RedisError as error:
        logger.warning("Queue %s cannot be reached (%s): %s waits for the next tick.", queue, error, job)
        return False
    return True

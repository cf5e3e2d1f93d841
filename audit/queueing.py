"""Enqueue after commit. The database row is the truth: where the queue is down, the tick job picks the row up later."""

import logging

import django_rq
from django.db import transaction
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus

FAILURES_KEPT_S = 7 * 86_400
UNDER_WAY = {JobStatus.QUEUED, JobStatus.STARTED, JobStatus.DEFERRED, JobStatus.SCHEDULED}

logger = logging.getLogger(__name__)


def enqueue_after_commit(queue: str, job: str, *args: int | str, job_id: str | None = None) -> None:
    """Put `job` (import path) with plain arguments on `queue` once the surrounding transaction is committed."""
    transaction.on_commit(lambda: enqueue(queue, job, *args, job_id=job_id))


def enqueue(queue: str, job: str, *args: int | str, job_id: str | None = None) -> bool:
    """Put `job` on `queue` now; False (and a line in the log) where the queue server cannot be reached.

    A `job_id` makes it unique: while such a job waits or runs, another is not added. One that failed makes room.
    """
    # "auto": no second deferral to a commit, where a duplicate or a dead server would be nobody's to answer.
    jobs: Queue = django_rq.get_queue(queue, commit_mode="auto")
    try:
        try:
            _add(jobs, job, args, job_id)
        except DuplicateJobError:
            if job_id is not None and _clear_ended(jobs, job_id):
                _add(jobs, job, args, job_id)
    except DuplicateJobError:
        return True
    except RedisError as error:
        logger.warning("Queue %s cannot be reached (%s): %s waits for the next tick.", queue, error, job)
        return False
    return True


def is_under_way(queue: str, job_id: str) -> bool:
    """Whether a job of this id waits or runs; also where the queue server cannot be asked, so that nothing is doubled.

    A job whose worker died counts as running until the clean-up of its queue finds it.
    """
    try:
        job = Job.fetch(job_id, connection=django_rq.get_connection(queue))
        return job.get_status(refresh=False) in UNDER_WAY
    except NoSuchJobError:
        return False
    except RedisError:
        return True


def _add(jobs: Queue, job: str, args: tuple[int | str, ...], job_id: str | None) -> None:
    jobs.enqueue(job, *args, job_id=job_id, unique=job_id is not None, result_ttl=0, failure_ttl=FAILURES_KEPT_S)


def _clear_ended(jobs: Queue, job_id: str) -> bool:
    """The record of a failed job is kept for the admin under its id; it must not keep the next one of that id out."""
    ended = jobs.fetch_job(job_id)
    if ended is None:
        return True
    if ended.get_status(refresh=False) in UNDER_WAY:
        return False
    ended.delete()
    return True

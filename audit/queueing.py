"""Enqueue after commit. The database row is the truth: where the queue is down, the tick job picks the row up later."""

import logging
from datetime import timedelta

import django_rq
from django.db import transaction
from django.utils import timezone
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.job import Job, JobStatus

FAILURES_KEPT_S = 7 * 86_400
UNDER_WAY = {JobStatus.STARTED, JobStatus.DEFERRED, JobStatus.SCHEDULED}
ON_ITS_WAY = timedelta(seconds=30)
"""How long a worker may need from taking a job off the queue to noting that it has started."""

logger = logging.getLogger(__name__)


def enqueue_after_commit(queue: str, job: str, *args: int | str, job_id: str | None = None) -> None:
    """Put `job` (import path) with plain arguments on `queue` once the surrounding transaction is committed."""
    transaction.on_commit(lambda: enqueue(queue, job, *args, job_id=job_id))


def enqueue(queue: str, job: str, *args: int | str, job_id: str | None = None, timeout_s: int | None = None) -> bool:
    """Put `job` on `queue` now; False (and a line in the log) where the queue server cannot be reached.

    A `job_id` makes it unique: while such a job waits or runs, another is not added. One that failed makes room.
    Without `timeout_s` it may take as long as its queue allows.
    """
    jobs = _queue(queue)
    try:
        try:
            _add(jobs, job, args, job_id, timeout_s)
        except DuplicateJobError:
            if job_id is not None and _clear_ended(jobs, job_id):
                _add(jobs, job, args, job_id, timeout_s)
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
    jobs = _queue(queue)
    try:
        job = jobs.fetch_job(job_id)
        return job is not None and _holds_its_place(jobs, job)
    except RedisError:
        return True


def _queue(name: str) -> Queue:
    # "auto": no second deferral to a commit, where a duplicate or a dead server would be nobody's to answer.
    queue: Queue = django_rq.get_queue(name, commit_mode="auto")
    return queue


def _add(jobs: Queue, job: str, args: tuple[int | str, ...], job_id: str | None, timeout_s: int | None) -> None:
    jobs.enqueue(
        job,
        *args,
        job_id=job_id,
        unique=job_id is not None,
        job_timeout=timeout_s,
        result_ttl=0,
        failure_ttl=FAILURES_KEPT_S,
    )


def _clear_ended(jobs: Queue, job_id: str) -> bool:
    """The record of a failed job is kept for the admin under its id; it must not keep the next one of that id out."""
    job = jobs.fetch_job(job_id)
    if job is not None and _holds_its_place(jobs, job):
        return False
    if job is not None:
        job.delete()
    return True


def _holds_its_place(jobs: Queue, job: Job) -> bool:
    """Whether the job waits or runs. One that says it waits, but is in no queue, was lost with the worker that took it
    off: such a record has no end of its own, and would keep its id for ever.
    """
    status = job.get_status(refresh=False)
    if status != JobStatus.QUEUED:
        return status in UNDER_WAY
    if job.enqueued_at is not None and timezone.now() - job.enqueued_at < ON_ITS_WAY:
        return True
    return jobs.get_job_position(job.id) is not None

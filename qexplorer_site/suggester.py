"""The worker of the queue `suggest`: one long process that keeps the language model between jobs.

It does not fork, since a model on a graphics card would not survive that, and loading one for every job would take
longer than the job. torch is imported by the first job that needs it, so a site without an adapter never pays for it.
"""

import logging
import threading
from typing import Any

from django.db import close_old_connections
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.worker import BaseWorker

from audit import generating
from qexplorer_site.worker import preload

logger = logging.getLogger(__name__)


class Suggester(SimpleWorker):
    """Runs one job after the other in its own process.

    RQ's SimpleWorker says once that a job is alive, for as long as the job may last: after a kill -9 the queue would
    hold the job's id for so long. Here a thread says it every half minute, as RQ's forking worker does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        preload()
        self._ended = threading.Event()

    def execute_job(self, job: Job, queue: Queue) -> None:
        super().execute_job(job, queue)
        close_old_connections()  # a database server that restarted meanwhile is asked anew by the next job

    def heartbeat(self, *args: Any, **kwargs: Any) -> None:
        """Between jobs, at least once a minute, a training that wants the card gets it."""
        super().heartbeat(*args, **kwargs)
        if kwargs.get("pipeline") is None:  # with one, a job runs
            generating.yield_card()

    def get_heartbeat_ttl(self, job: Job) -> int:
        return BaseWorker.get_heartbeat_ttl(self, job)

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        super().prepare_job_execution(job, remove_from_intermediate_queue)
        self._ended = threading.Event()
        threading.Thread(target=self._beat, args=(job, self._ended), name="heartbeat", daemon=True).start()

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        self._ended.set()
        super().handle_execution_ended(job, queue, heartbeat_ttl)

    def _beat(self, job: Job, ended: threading.Event) -> None:
        while not ended.wait(self.job_monitoring_interval):
            try:
                self.maintain_heartbeats(job)
            except RedisError as error:
                logger.warning("The queue server cannot be told that a job is alive: %s", error)

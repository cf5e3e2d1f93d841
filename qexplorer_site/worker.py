"""The queue worker of QExplorer: RQ's forking worker whose children never outlive it.

Without this, a job runs on as an orphan when its worker is killed, while the queue hands it to somebody else.
"""

import os
import signal
from importlib import import_module
from typing import Any

from rq import Worker as ForkingWorker

from qexplorer_site.processes import end_with_parent

_PRELOADED = (
    "audit.jobs",
    "training.jobs",
    "sklearn.feature_extraction",
    "sklearn.linear_model",
    "sklearn.preprocessing",
)


class Worker(ForkingWorker):
    """Ties every process that it forks (the one of a job, the one of the scheduler) to itself.

    It imports the jobs, and what they score with, before the first one comes: else each fork would, which takes longer
    than most jobs.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        preload()
        os.register_at_fork(after_in_child=_end_at_once_with_parent)


def preload() -> None:
    for name in _PRELOADED:
        import_module(name)


def _end_at_once_with_parent() -> None:
    end_with_parent(signal.SIGKILL)

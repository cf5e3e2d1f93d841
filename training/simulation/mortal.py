"""`python -m training.simulation.mortal RUNS`: a worker of the queue `explore` that dies after so many query runs.

It does what any worker does; only the moment of its death is fixed.
"""

import os
import signal
import sys
from typing import Any
from unittest.mock import patch

import django


def main(runs: int) -> None:
    django.setup()
    import django_rq
    from rq import SimpleWorker

    from audit.results import run_query
    from extraction.search import SearchRequest

    left = iter(range(runs))

    def run_or_die(request: SearchRequest) -> dict[str, Any]:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_query(request)

    queue = django_rq.get_queue("explore")
    with patch("audit.jobs.run_query", run_or_die):
        SimpleWorker([queue], connection=queue.connection).work(burst=True, logging_level="ERROR")


if __name__ == "__main__":
    main(int(sys.argv[1]))

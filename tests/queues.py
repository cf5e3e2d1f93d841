"""The queues as a test sees them: what waits in one, working it off in this process, and emptying them all."""

import django_rq
from rq import SimpleWorker


def waiting(name: str) -> list[str]:
    """The ids of the jobs that wait in a queue, first come first."""
    return list(django_rq.get_queue(name).get_job_ids())


def work_off(*names: str) -> int:
    """Run what waits in these queues, in this process (a forked worker would not see an open transaction); how many."""
    queues = [django_rq.get_queue(name) for name in names]
    count = sum(queue.count for queue in queues)
    SimpleWorker(queues, connection=queues[0].connection).work(burst=True, logging_level="ERROR")
    return count


def empty_queues() -> None:
    """Delete every job and registry of this run's own queue server, by name."""
    connection = django_rq.get_connection()
    for key in list(connection.scan_iter("rq:*")):
        connection.delete(key)

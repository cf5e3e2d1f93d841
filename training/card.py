"""One training at a time on a machine; on a graphics card inference leaves it first, without one training steps back.

The locks are files, so they hold between processes, and the kernel lets go of them when their holder dies. A training
process inherits them: they stay taken until it has really ended, also when the job that started it was killed.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from audit.queueing import enqueue
from extraction.card import HELD, WANTED, CardLock, has_card

TRAINING = "training.lock"
_LOOK_EVERY_S = 0.5


class GaveUp(Exception):
    """The work is not wanted any more, while it waited for its turn."""


@contextmanager
def turn_to_train(is_wanted: Callable[[], bool]) -> Iterator[tuple[int, ...]]:
    """Wait until this machine is free to train; gives the files of the locks, to be inherited by the training process.

    Raises GaveUp as soon as `is_wanted()` is False.
    """
    with ExitStack() as stack:
        locks = [_wait_for(stack.enter_context(CardLock(TRAINING)), is_wanted)]
        if has_card():
            locks.append(_wait_for(stack.enter_context(CardLock(WANTED)), is_wanted))
            enqueue("suggest", "audit.generating.yield_card", job_id="yield-card")
            locks.append(_wait_for(stack.enter_context(CardLock(HELD)), is_wanted))
        yield tuple(lock.fileno() for lock in locks)


def _wait_for(lock: CardLock, is_wanted: Callable[[], bool]) -> CardLock:
    while not lock.take():
        if not is_wanted():
            raise GaveUp
        time.sleep(_LOOK_EVERY_S)
    return lock

import os
import signal

import pytest

from extraction.card import HELD, WANTED, CardLock, is_card_wanted


@pytest.fixture(autouse=True)
def _var_of_this_test(settings, tmp_path):
    settings.VAR_DIR = tmp_path


def test_one_holder_at_a_time():
    with CardLock(HELD) as first, CardLock(HELD) as second:
        assert first.take()
        assert not second.take()
        first.release()
        assert second.take()


def test_several_share_it_and_nobody_has_it_alone_meanwhile():
    with CardLock(HELD) as first, CardLock(HELD) as second, CardLock(HELD) as training:
        assert first.take(shared=True)
        assert second.take(shared=True)
        assert not training.take()
        first.release()
        second.release()
        assert training.take()
        assert not first.take(shared=True)


def test_taking_twice_is_taking_once():
    with CardLock(HELD) as lock:
        assert lock.take()
        assert lock.take()
    with CardLock(HELD) as other:
        assert other.take()


def test_nobody_wants_the_card_of_a_new_site():
    assert not is_card_wanted()


def test_a_training_that_asks_is_seen_until_it_ends():
    with CardLock(WANTED) as wanted:
        assert wanted.take()
        assert is_card_wanted()
    assert not is_card_wanted()


def test_a_killed_holder_lets_go():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        lock = CardLock(HELD)
        lock.take()
        os.write(write, b"1")
        signal.pause()
    os.read(read, 1)
    with CardLock(HELD) as lock:
        assert not lock.take()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert lock.take()

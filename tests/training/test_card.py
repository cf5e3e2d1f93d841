import subprocess
import sys
import threading
import time

import pytest

from extraction.card import HELD, WANTED, CardLock, has_card, is_card_wanted
from tests.queues import empty_queues, waiting
from training import card
from training.card import GaveUp, turn_to_train


@pytest.fixture(autouse=True)
def _places(settings, tmp_path, monkeypatch):
    settings.VAR_DIR = tmp_path
    monkeypatch.setattr(card, "_LOOK_EVERY_S", 0.01)
    empty_queues()


@pytest.fixture
def a_card(monkeypatch):
    monkeypatch.setattr(card, "has_card", lambda: True)


def always():
    return True


def never():
    return False


def test_a_second_training_waits_for_the_first():
    began = threading.Event()

    def second():
        with turn_to_train(always):
            began.set()

    with turn_to_train(always):
        other = threading.Thread(target=second)
        other.start()
        assert not began.wait(0.1)
    other.join(5)
    assert began.is_set()


def test_who_waits_gives_up_when_the_work_is_not_wanted_any_more():
    with turn_to_train(always), pytest.raises(GaveUp), turn_to_train(never):
        pass


def test_without_a_card_inference_is_not_asked_for_anything():
    with turn_to_train(always):
        assert not is_card_wanted()
    assert waiting("suggest") == []


@pytest.mark.usefixtures("a_card")
def test_inference_is_asked_for_the_card_and_training_waits_until_it_leaves():
    inference = CardLock(HELD)
    inference.take()
    began = threading.Event()

    def train():
        with turn_to_train(always):
            began.set()

    training = threading.Thread(target=train)
    training.start()
    while not is_card_wanted():
        time.sleep(0.01)
    assert not began.wait(0.1)
    assert waiting("suggest") == ["yield-card"]
    inference.release()
    training.join(5)
    assert began.is_set()


@pytest.mark.usefixtures("a_card")
def test_everything_is_free_after_the_training():
    with turn_to_train(always):
        assert not CardLock(HELD).take()
    assert not is_card_wanted()
    with CardLock(HELD) as held, CardLock(WANTED) as wanted:
        assert held.take()
        assert wanted.take()


def test_the_lock_lasts_as_long_as_the_training_process():
    with turn_to_train(always) as locks:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=locks)
    with CardLock(card.TRAINING) as lock:
        assert not lock.take()
        child.communicate(b"\n")
        assert lock.take()


def test_hidden_cards_are_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_card()

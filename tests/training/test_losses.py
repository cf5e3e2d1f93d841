"""PRO's loss against numbers that fit on paper, and against the formula written out."""

import math
from importlib import import_module

import pytest

from tests.tiny import need_learning_stack
from training.losses import align_loss, mean_log_probs, pro_loss, scaled


@pytest.fixture(scope="module")
def torch():
    need_learning_stack()
    return import_module("torch")


@pytest.fixture
def loss_of(torch):
    def loss(scores, rewards, mask=None):
        mask = [True] * len(scores) if mask is None else mask
        return pro_loss(torch.tensor([scores]), torch.tensor([rewards]), torch.tensor([mask])).item()

    return loss


def written_out(scores, rewards):
    """BEQUE eq. (9) as it stands, for rewards without ties."""
    total = 0.0
    for k in range(len(scores) - 1):
        gaps = {i: rewards[k] - rewards[i] for i in range(k + 1, len(scores))}
        gaps[k] = max(gaps.values())  # T_k^k = min T, and T is 1 / gap
        total -= math.log(math.exp(scores[k] * gaps[k]) / sum(math.exp(scores[i] * gap) for i, gap in gaps.items()))
    return total


def test_two_candidates_in_order_cost_ln_1_plus_1_over_e(loss_of):
    assert loss_of([-1.0, -2.0], [1.0, 0.0]) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_two_candidates_in_the_wrong_order_cost_1_more(loss_of):
    assert loss_of([-2.0, -1.0], [1.0, 0.0]) == pytest.approx(1 + math.log(1 + math.exp(-1)), abs=1e-6)


def test_three_candidates_cost_what_paper_and_pencil_say(loss_of):
    # k = 1: own -1 · 1, others -2 · 1/2 and -3 · 1: ln(e^-1 + e^-1 + e^-3) + 1 = ln(2 + e^-2)
    # k = 2: own -2 · 1/2, other -3 · 1/2:           ln(e^-1 + e^-1.5) + 1   = ln(1 + e^-0.5)
    expected = math.log(2 + math.exp(-2)) + math.log(1 + math.exp(-0.5))
    assert loss_of([-1.0, -2.0, -3.0], [1.0, 0.5, 0.0]) == pytest.approx(expected, abs=1e-6)


def test_loss_equals_the_formula_written_out(torch, loss_of):
    generator = torch.Generator().manual_seed(0)
    for length in range(2, 7):
        scores = (-3 * torch.rand(length, generator=generator)).tolist()
        rewards = sorted(torch.rand(length, generator=generator).tolist(), reverse=True)
        assert loss_of(scores, rewards) == pytest.approx(written_out(scores, rewards), abs=1e-5)


def test_equal_rewards_are_not_compared(loss_of):
    assert loss_of([-1.0, -2.0, -5.0], [1.0, 1.0, 0.0]) == pytest.approx(
        loss_of([-1.0, -5.0], [1.0, 0.0]) + loss_of([-2.0, -5.0], [1.0, 0.0]), abs=1e-6
    )


def test_list_of_equals_costs_nothing_and_has_a_gradient_of_zero(torch):
    scores = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    loss = pro_loss(scores, torch.tensor([[0.5, 0.5]]), torch.tensor([[True, True]])).sum()
    loss.backward()
    assert loss.item() == 0.0
    assert scores.grad.tolist() == [[0.0, 0.0]]


def test_candidates_that_only_fill_up_a_batch_change_nothing(loss_of):
    alone = loss_of([-1.0, -2.0], [1.0, 0.0])
    assert loss_of([-1.0, -2.0, 0.0], [1.0, 0.0, 0.0], [True, True, False]) == pytest.approx(alone, abs=1e-6)


def test_gradient_raises_the_better_and_lowers_the_worse(torch):
    scores = torch.tensor([[-1.0, -1.0, -1.0]], requires_grad=True)
    pro_loss(scores, torch.tensor([[1.0, 0.5, 0.0]]), torch.ones(1, 3, dtype=torch.bool)).sum().backward()
    best, _middle, worst = (-scores.grad[0]).tolist()
    assert best > 0 > worst


def test_alignment_adds_the_weighted_loss_of_the_best_answer(torch):
    scores, rewards = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    mask = torch.ones(2, 2, dtype=torch.bool)
    expected = math.log(1 + math.exp(-1)) + 0.5 * (1.0 + 3.0) / 2
    assert align_loss(scores, rewards, mask, 0.5).item() == pytest.approx(expected, abs=1e-6)


def test_score_of_an_answer_is_the_mean_over_its_tokens(torch):
    log_probs = torch.tensor([[0.0, -1.0, -3.0], [0.0, 0.0, -5.0]])
    learned = torch.tensor([[False, True, True], [False, False, True]])
    assert mean_log_probs(log_probs, learned).tolist() == [-2.0, -5.0]


def test_rewards_are_scaled_within_their_list():
    assert scaled([30, 10, 20]) == [1.0, 0.0, 0.5]
    assert scaled([4, 4]) == [0.0, 0.0]

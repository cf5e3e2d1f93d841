"""List-wise loss: PRO as BEQUE (section 3.4, eq. 9-10) and KESR (eq. 9-11) use it. SFT and DPO losses are TRL's."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TIE = 1e-6


def pro_loss(scores: "Tensor", rewards: "Tensor", mask: "Tensor") -> "Tensor":
    """BEQUE eq. (9) for each list: -Σ_k log( exp(π_k / T_k^k) / Σ_{i ≥ k} exp(π_i / T_k^i) ).

    scores (B, K): π, mean log-probability of a candidate's tokens, nats. rewards (B, K): r, sorted from best to worst.
    mask (B, K): which candidates exist. Returns (B,), nats.

    The temperature 1 / T_k^i is the gap r_k - r_i, and 1 / T_k^k the largest gap below k. Candidates of equal reward
    are not compared: their gap of 0 would put exp(0) into the sum, more than any real candidate, whose π is negative.

    Two candidates: softplus((π_2 - π_1) · (r_1 - r_2)). With π = (-1, -2) and r = (1, 0) that is ln(1 + 1/e) = 0.3133.
    """
    import torch

    gaps = rewards[:, :, None] - rewards[:, None, :]
    worse = torch.triu(torch.ones_like(gaps, dtype=torch.bool), 1) & (gaps > TIE)
    worse = worse & mask[:, :, None] & mask[:, None, :]
    own = scores * torch.where(worse, gaps, 0.0).amax(-1)
    others = torch.where(worse, scores[:, None, :] * gaps, float("-inf"))
    terms = torch.logsumexp(torch.cat([own[:, :, None], others], -1), -1) - own
    return torch.where(worse.any(-1), terms, 0.0).sum(-1)


def align_loss(scores: "Tensor", rewards: "Tensor", mask: "Tensor", weight: float) -> "Tensor":
    """L_PRO + λ · L_SFT of the best candidate, a mean over the lists; shapes as in `pro_loss`, λ = `weight`.

    BEQUE eq. (10) writes L_SFT + λ · L_PRO while its text gives the weight to L_SFT, as here: the two differ by a
    factor, which AdamW does not see. BEQUE adds L_SFT of every candidate; but the worst of a list that a search system
    scored is nothing to imitate, so only the best counts here, as in the original PRO. L_SFT is a mean over tokens.
    """
    return (pro_loss(scores, rewards, mask) - weight * scores[:, 0]).mean()


def mean_log_probs(log_probs: "Tensor", learned: "Tensor") -> "Tensor":
    """π of BEQUE section 3.4: mean over the answer's tokens. Both (N, T), log_probs 0 elsewhere, nats; returns (N,)."""
    return log_probs.sum(-1) / learned.sum(-1).clamp(min=1)


def scaled(rewards: Sequence[float]) -> list[float]:
    """Rewards brought to [0, 1] within their list: raw counts as gaps would make the loss explode or vanish.

    >>> scaled([30, 10, 20])
    [1.0, 0.0, 0.5]
    """
    low, high = min(rewards), max(rewards)
    return [(reward - low) / (high - low) if high > low else 0.0 for reward in rewards]

"""Returns and baselines: pure functions of tensors [R, T, B] (replicas, time, episodes).

An episode that has ended gets no more reward: after its last step rewards are zero, and so are rewards-to-go.
"""

import torch
from torch import Tensor


def reward_to_go(reward: Tensor, discount: float = 1.0) -> Tensor:
    """Gₜ = rₜ + γ rₜ₊₁ + γ² rₜ₊₂ + …, [R, T, B] -> [R, T, B].

    Sutton & Barto 2018, eq. 3.8 (http://incompleteideas.net/book/the-book-2nd.html).
    """
    if discount == 1.0:
        return reward.flip(1).cumsum(1).flip(1)
    result = reward.clone()
    for t in range(reward.shape[1] - 2, -1, -1):
        result[:, t].add_(result[:, t + 1], alpha=discount)
    return result


def leave_one_out(returns: Tensor) -> Tensor:
    """The baseline of each episode: the mean of the others' returns at the same time step, [R, T, B] -> [R, T, B].

    It depends on no action of the episode itself, so subtracting it leaves the gradient's expectation as it is. An
    episode that has ended counts with its reward-to-go, zero. Kool et al. 2019 (https://openreview.net/forum?id=r1lgTGL5DE).

    Raises ValueError for one episode: there are no others.
    """
    episodes = returns.shape[-1]
    if episodes < 2:
        raise ValueError("a leave-one-out baseline needs at least two episodes: with one there are no others")
    return (returns.sum(-1, keepdim=True) - returns) / (episodes - 1)


def discount_factors(steps: int, discount: float) -> Tensor:
    """γᵗ for t = 0, 1, …, as [T, 1]: the weight of time step t in the discounted return."""
    return torch.full((steps, 1), discount).pow(torch.arange(steps).unsqueeze(1))

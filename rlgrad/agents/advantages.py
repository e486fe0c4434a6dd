"""Returns, baselines and advantages: pure functions of tensors [R, T, B] (replicas, time, episodes).

An episode that has ended gets no more reward: after its last step rewards are zero, and so are rewards-to-go.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from rlgrad.replicas import along

CHUNK = 32  # noise is drawn for this number of steps at once, and rollouts are padded to a multiple of it


def pieces(steps: int) -> Iterator[slice]:
    """Yield slices of CHUNK steps. Computed in such pieces, arrays have the same shape however long the episodes of
    other replicas are. So a replica's numbers do not depend on the others, to the last bit (with more zeros, a sum is
    added up in another order). Pieces also use the cache better than the whole.
    """
    for start in range(0, steps, CHUNK):
        yield slice(start, start + CHUNK)


def total(x: Tensor) -> Tensor:
    """The sum over time and episodes, [R, T, B, ...] -> [R, ...], piece by piece."""
    result = torch.zeros_like(x[:, 0, 0])
    for piece in pieces(x.shape[1]):
        result = result + x[:, piece].sum((1, 2))
    return result


def step_mean(x: Tensor, alive: Tensor) -> Tensor:
    """The mean [R] of x [R, T, B] over the steps that are alive."""
    return total(x * alive) / alive.sum((1, 2))


def mean_and_variance(x: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [R] of x [R, T, B] over the steps that are alive."""
    mean = step_mean(x, alive)
    return mean, step_mean((x - mean.reshape(-1, 1, 1)).square(), alive)


def reward_to_go(reward: Tensor, discount: float | Tensor = 1.0, over: Tensor | None = None) -> Tensor:
    """Gₜ = rₜ + γ rₜ₊₁ + γ² rₜ₊₂ + …, [R, T, B] -> [R, T, B].

    discount: γ, or one [R] for each replica.
    over: [R, T, B] bool, the steps after which the sum ends: the next row belongs to another episode.
    Sutton & Barto 2018, eq. 3.8 (http://incompleteideas.net/book/the-book-2nd.html); summed over 1, 2, 4, 8, … steps
    (Hillis & Steele 1986), which takes log T passes instead of T.
    """
    result, on, reach = reward, None if over is None else (~over).to(reward.dtype), 1
    while (early := reward.shape[1] - reach) > 0:  # the number of rows that have another one `reach` steps later
        ahead = along(discount**reach, result) * result[:, reach:]
        if on is not None:
            ahead = ahead * on[:, :early]
            on = torch.cat([on[:, :early] * on[:, reach:], on[:, early:]], 1)  # whether no end is between
        result = torch.cat([result[:, :early] + ahead, result[:, early:]], 1)
        reach *= 2
    return result


def leave_one_out(returns: Tensor) -> Tensor:
    """The baseline of each episode: the mean of the others' returns at the same time step, [R, T, B] -> [R, T, B].

    It depends on no action of the episode itself, so subtracting it does not change the gradient's expectation. An
    episode that has ended counts with its reward-to-go, zero. Kool et al. 2019 (https://openreview.net/forum?id=r1lgTGL5DE).

    Raises ValueError for one episode: there are no others.
    """
    episodes = returns.shape[-1]
    if episodes < 2:
        raise ValueError("a leave-one-out baseline needs at least two episodes: with one there are no others")
    return (returns.sum(-1, keepdim=True) - returns) / (episodes - 1)


def batch_mean(returns: Tensor) -> Tensor:
    """The mean return of all episodes at the same time step, [R, T, B] -> [R, T, B].

    It contains the episode's own return, so the gradient is too small, exactly by the factor 1 - 1/B.
    """
    return returns.mean(-1, keepdim=True).expand_as(returns)


def next_values(value: Tensor, over: Tensor, after: Tensor) -> Tensor:
    """The value of the state after each step: that of the next row, or if the step is the last of its episode or of
    the segment, the one in `after`. All [R, T, B].
    """
    following = torch.cat([value[:, 1:], torch.zeros_like(value[:, :1])], 1)
    return torch.where(over, after, following)


def generalized_advantage(
    reward: Tensor, value: Tensor, following: Tensor, over: Tensor, discount: float | Tensor, weight: float | Tensor
) -> Tensor:
    """Aₜ = δₜ + γλ δₜ₊₁ + (γλ)² δₜ₊₂ + … up to an end, with δₜ = rₜ + γ V(sₜ₊₁) - V(sₜ); all [R, T, B].

    discount, weight: γ and λ, or one [R] for each replica. With λ = 1 it is the return minus the value of the state,
    with λ = 0 the error δₜ of one step.
    Schulman et al. 2016, eq. 16 (https://arxiv.org/abs/1506.02438).
    """
    return reward_to_go(reward + along(discount, following) * following - value, discount * weight, over)


def standardise(advantage: Tensor, alive: Tensor, size: Tensor) -> Tensor:
    """Return advantages with mean 0 and deviation 1 over all steps of the batch, [R, T, B] -> [R, T, B]. It biases the
    gradient: it changes its length, and the mean that is subtracted contains each step's own advantage.

    size: [R] the size of the returns. If the deviation is not larger than the rounding of such returns, no action was
    better than another, and every advantage is 0.
    """
    mean, variance = mean_and_variance(advantage, alive)
    return in_deviations(advantage - mean.reshape(-1, 1, 1), variance.reshape(-1, 1, 1), size) * alive


def standardise_each(advantage: Tensor, alive: Tensor, size: Tensor) -> Tensor:
    """Return advantages with mean 0 and deviation 1 within each episode, [R, T, B] -> [R, T, B]. The difference between
    the returns of episodes is lost, and an episode of one step has the advantage 0.
    """
    count = alive.sum(1, keepdim=True).clamp(min=1)
    distance = (advantage - (advantage * alive).sum(1, keepdim=True) / count) * alive
    return in_deviations(distance, distance.square().sum(1, keepdim=True) / count, size)


def in_deviations(distance: Tensor, variance: Tensor, size: Tensor) -> Tensor:
    """Return distances from the mean in deviations; 0 if the deviation is only rounding. size: as in `standardise`."""
    deviation = variance.sqrt()
    alike = deviation <= 8 * torch.finfo(distance.dtype).eps * size.reshape(-1, 1, 1)
    return torch.where(alike, 0.0, distance / deviation)


def discount_factors(steps: int, discount: float | Tensor) -> Tensor:
    """γᵗ for t = 0, 1, …, as [T, 1], or [R, T, 1] if each replica has its own γ: the weight of time step t in the
    discounted return."""
    if isinstance(discount, Tensor):
        return torch.stack([discount_factors(steps, each) for each in discount.tolist()])
    return torch.full((steps, 1), discount).pow(torch.arange(steps).unsqueeze(1))

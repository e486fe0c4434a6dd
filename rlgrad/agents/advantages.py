"""Returns, baselines and advantages: pure functions of tensors [R, T, B] (replicas, time, episodes).

An episode that has ended gets no more reward: after its last step rewards are zero, and so are rewards-to-go.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from rlgrad.replicas import along

CHUNK = 32  # steps for which noise is drawn at once, and into whose multiples rollouts are padded


def pieces(steps: int) -> Iterator[slice]:
    """CHUNK steps at a time, so that whatever is computed step by step has the same shape however long the other
    replicas' episodes are: then a replica's numbers do not depend on them, to the last bit (sums over another number of
    zeros are added up in another order). Pieces are also kinder to the cache than the whole.
    """
    for start in range(0, steps, CHUNK):
        yield slice(start, start + CHUNK)


def total(x: Tensor) -> Tensor:
    """The sum over time and episodes, [R, T, B, ...] -> [R, ...], piece by piece."""
    result = torch.zeros_like(x[:, 0, 0])
    for piece in pieces(x.shape[1]):
        result = result + x[:, piece].sum((1, 2))
    return result


def mean_and_variance(x: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [R] of x [R, T, B] over the steps that are alive."""
    count = alive.sum((1, 2))
    mean = total(x * alive) / count
    return mean, total((x - mean.reshape(-1, 1, 1)).square() * alive) / count


def reward_to_go(reward: Tensor, discount: float | Tensor = 1.0, over: Tensor | None = None) -> Tensor:
    """Gₜ = rₜ + γ rₜ₊₁ + γ² rₜ₊₂ + …, [R, T, B] -> [R, T, B].

    discount: γ, or one [R] for each replica.
    over: [R, T, B] bool, after which steps the sum ends before the last row: what comes next is another episode.
    Sutton & Barto 2018, eq. 3.8 (http://incompleteideas.net/book/the-book-2nd.html); summed over 1, 2, 4, 8, … steps
    (Hillis & Steele 1986), which takes log T passes instead of T.
    """
    result, on, reach = reward, None if over is None else (~over).to(reward.dtype), 1
    while (early := reward.shape[1] - reach) > 0:  # the rows before those that are out of reach
        ahead = along(discount**reach, result) * result[:, reach:]
        if on is not None:
            ahead = ahead * on[:, :early]
            on = torch.cat([on[:, :early] * on[:, reach:], on[:, early:]], 1)  # whether no end is among them
        result = torch.cat([result[:, :early] + ahead, result[:, early:]], 1)
        reach *= 2
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


def batch_mean(returns: Tensor) -> Tensor:
    """The mean return of all episodes at the same time step, [R, T, B] -> [R, T, B].

    It contains the episode's own return, and so the gradient is too small: by 1 - 1/B, exactly.
    """
    return returns.mean(-1, keepdim=True).expand_as(returns)


def next_values(value: Tensor, over: Tensor, after: Tensor) -> Tensor:
    """The values of the states that follow: those of the next row, and where a step is the last of its episode, or of
    the segment, what stands in `after`. All [R, T, B].
    """
    following = torch.cat([value[:, 1:], torch.zeros_like(value[:, :1])], 1)
    return torch.where(over, after, following)


def generalized_advantage(
    reward: Tensor,
    value: Tensor,
    following: Tensor,
    over: Tensor,
    discount: float | Tensor,
    weight: float | Tensor,
) -> Tensor:
    """Aₜ = δₜ + γλ δₜ₊₁ + (γλ)² δₜ₊₂ + … up to an end, with δₜ = rₜ + γ V(sₜ₊₁) - V(sₜ); all [R, T, B].

    discount, weight: γ and λ, or one [R] for each replica. With a weight of 1 it is the return less the value of the
    state, with 0 the error of one step's guess.
    Schulman et al. 2016, eq. 16 (https://arxiv.org/abs/1506.02438).
    """
    return reward_to_go(reward + along(discount, following) * following - value, discount * weight, over)


def standardise(advantage: Tensor, alive: Tensor, size: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over all steps of the batch, [R, T, B] -> [R, T, B]. It biases the gradient: its length is
    no longer that of the objective's, and the mean that it takes off contains each step's own.

    size: [R] of the returns whose differences the advantages are. Where these are no more than its rounding, all is
    alike: no action was better than another, and every advantage is 0.
    """
    mean, variance = mean_and_variance(advantage, alive)
    return in_deviations(advantage - mean.reshape(-1, 1, 1), variance.reshape(-1, 1, 1), size) * alive


def standardise_each(advantage: Tensor, alive: Tensor, size: Tensor) -> Tensor:
    """The same over the steps of each episode alone, [R, T, B] -> [R, T, B]: how much an episode earned, compared with
    the others, is lost, and one of a single step is left with nothing.
    """
    count = alive.sum(1, keepdim=True).clamp(min=1)
    distance = (advantage - (advantage * alive).sum(1, keepdim=True) / count) * alive
    return in_deviations(distance, distance.square().sum(1, keepdim=True) / count, size)


def in_deviations(distance: Tensor, variance: Tensor, size: Tensor) -> Tensor:
    deviation = variance.sqrt()
    alike = deviation <= 8 * torch.finfo(distance.dtype).eps * size.reshape(-1, 1, 1)
    return torch.where(alike, 0.0, distance / deviation)


def discount_factors(steps: int, discount: float | Tensor) -> Tensor:
    """γᵗ for t = 0, 1, …, as [T, 1], or [R, T, 1] where each replica has a γ of its own: the weight of time step t in
    the discounted return."""
    if isinstance(discount, Tensor):
        return torch.stack([discount_factors(steps, each) for each in discount.tolist()])
    return torch.full((steps, 1), discount).pow(torch.arange(steps).unsqueeze(1))

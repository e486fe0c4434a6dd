"""Small Markov decision processes, for which the expected return of a policy and its gradient are known exactly.

Each is also an environment, `rlgrad/<name>-v0`: an agent trains on it as on any other, and every estimate of its
gradient can be compared with the exact one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class MDP(NamedTuple):
    """S states and A actions. The probability that an episode ends is 1 minus the sum of a row of `transition`."""

    initial: np.ndarray  # [S] probability of each state at the start
    transition: np.ndarray  # [S, A, S] probability of the next state
    reward: np.ndarray  # [S, A]
    observation: np.ndarray  # [S, D] what the agent sees of a state; two states may look the same
    steps: int | None = None  # time limit, at which an episode is truncated

    def expected_return(self, probabilities: Tensor, discount: float = 1.0) -> Tensor:
        """J(θ) = Σₜ γᵗ Σₛ P(sₜ = s) Σₐ π(a|s) r(s, a), for R policies: [R] in float64. It can be differentiated.

        probabilities: π(a|s) of each policy, [R, S, A].
        """
        import torch  # here, as processes that only step environments do not need it

        pi = probabilities.double()
        reward = (pi * torch.tensor(self.reward)).sum(2)  # [R, S]
        step = torch.einsum("rsa,san->rsn", pi, torch.tensor(self.transition))  # [R, S, S]
        state = torch.tensor(self.initial).expand(len(pi), 1, -1)  # [R, 1, S]
        if self.steps is None:  # the sum of the geometric series
            one_less = torch.eye(len(self.initial), dtype=torch.float64) - discount * step
            visits: Tensor = torch.linalg.solve(one_less, state, left=False)
            return (visits.squeeze(1) * reward).sum(1)
        total = torch.zeros(len(pi), dtype=torch.float64)
        for t in range(self.steps):
            total = total + discount**t * (state.squeeze(1) * reward).sum(1)
            state = state @ step
        return total


MDPS = {
    # Three arms, one pull.
    "Bandit": MDP(
        initial=np.array([1.0]),
        transition=np.zeros((1, 3, 1)),
        reward=np.array([[1.0, 2.0, 4.0]]),
        observation=np.ones((1, 1)),
    ),
    # Three rooms in a ring; from each the episode ends with probability 0.1, and there is no time limit.
    "Ring": MDP(
        initial=np.array([0.6, 0.4, 0.0]),
        transition=0.9
        * np.array(
            [[[0.0, 0.8, 0.2], [0.1, 0.1, 0.8]], [[0.3, 0.0, 0.7], [0.9, 0.1, 0.0]], [[0.6, 0.4, 0.0], [0.0, 0.5, 0.5]]]
        ),
        reward=np.array([[1.0, 0.0], [0.5, 2.0], [3.0, 1.0]]),
        observation=np.eye(3),
    ),
    # Two rooms with two doors each, and random outcomes: at most two steps.
    "TwoRooms": MDP(
        initial=np.array([1.0, 0.0]),
        transition=np.array([[[0.5, 0.2], [0.1, 0.6]], [[0.0, 1.0], [0.7, 0.3]]]),
        reward=np.array([[4.0, 2.0], [6.0, 3.0]]),
        observation=np.eye(2),
        steps=2,
    ),
    # Say the same word twice: the first word earns 1, the second word 2. The agent cannot tell the second step from the
    # first. If p is the probability of the second word, J = (1 - p)² + 2p², which has two maxima.
    "Twice": MDP(
        initial=np.array([1.0, 0.0, 0.0]),
        transition=np.array([[[0, 1, 0], [0, 0, 1]], [[0, 0, 0]] * 2, [[0, 0, 0]] * 2], dtype=float),
        reward=np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
        observation=np.ones((3, 1)),
    ),
}


class LinearQuadratic(NamedTuple):
    """A number x has to stay near 0: x' = stay x + push u + noise ε, with reward -(x² + cost u²), for a few steps."""

    stay: float = 0.9
    push: float = 0.5
    noise: float = 0.3  # deviation
    cost: float = 0.5
    start: float = 2.0
    steps: int = 8

    def expected_return(self, weight: Tensor, bias: Tensor, deviation: Tensor, discount: float = 1.0) -> Tensor:
        """J [R] in float64, of policies u ~ N(weight x + bias, deviation²), all [R]. x stays normally distributed, so
        its mean and variance are enough to compute it."""
        import torch

        weight, bias, deviation = weight.double(), bias.double(), deviation.double()
        mean, variance = torch.full_like(weight, self.start), torch.zeros_like(weight)
        total = torch.zeros_like(weight)
        for t in range(self.steps):
            action = (weight * mean + bias).square() + weight.square() * variance + deviation.square()  # E[u²]
            total = total - discount**t * (mean.square() + variance + self.cost * action)
            variance = (self.stay + self.push * weight).square() * variance
            variance = variance + (self.push * deviation).square() + self.noise**2
            mean = self.stay * mean + self.push * (weight * mean + bias)
        return total

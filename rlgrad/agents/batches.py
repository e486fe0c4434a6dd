"""The data of each pass of an update."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from numpy.random import Generator
from torch import Tensor

from rlgrad.agents.gradient import PolicyGradient
from rlgrad.agents.minibatches import gather, minibatches
from rlgrad.agents.rollouts import Rollout
from rlgrad.agents.settings import CriticSettings


class Weights(NamedTuple):
    """The objective, and the weight of each step in its gradient."""

    value: Tensor  # [R] the objective
    target: Tensor  # [R, T, B] the return that each action is credited with; a critic learns to guess it
    advantage: Tensor  # [R, T, B] in the objective's unit
    unit: Tensor  # [R, 1, 1] or a number: the unit of the gradient's advantages
    share: Tensor  # [R, T, B] the share of each step in the objective
    weight: Tensor  # [T, 1] or [R, T, 1] the discount weight γᵗ of a time step, or the number 1
    used: Tensor  # [R, T, B] the advantages that the gradient uses
    credited: Tensor  # [R, T, B] the weight of ∇log π
    bonus: Tensor | None  # [R, T, B] the weight of ∇entropy
    pull: Tensor | None  # [R, T, B] the weight of the gradient of the critic's guess


class First(NamedTuple):
    """The result of the first evaluation of a batch, which all later evaluations and the diagnosis use."""

    weights: Weights
    before: PolicyGradient  # of the policy that played


@dataclass
class Batch:
    """The batch of an update, and the result of its first evaluation. Later evaluations, such as those of a line
    search, use the same advantages."""

    played: Rollout
    first: First | None = None


class Guesses(NamedTuple):
    """A minibatch of a pass in which only the critic learns."""

    observation: Tensor  # [R, M, *O]
    target: Tensor  # [R, M]
    weight: Tensor  # [R, M] 1, or 0 where a replica has fewer steps than others
    unit: Tensor  # [R, 1] or a number

    def of(self, steps: slice) -> "Guesses":
        """Return some of the M steps."""
        return Guesses(self.observation[:, steps], self.target[:, steps], self.weight[:, steps], self.unit)


def guesses(streams: Sequence[Generator], batch: Batch, wanted: CriticSettings) -> Iterator[Guesses]:
    """Yield the minibatches of all epochs in which only the critic learns."""
    played, first = batch.played, batch.first
    assert first
    unit, target = first.weights.unit, first.weights.target
    unit = unit.reshape(-1, 1) if unit.dim() else unit
    for index, weight in minibatches(streams, played.alive, wanted.epochs, wanted.minibatches):
        yield Guesses(gather(played.observation, index), gather(target, index), weight, unit)

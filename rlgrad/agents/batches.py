"""What an update learns from, pass by pass."""

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
    """The objective, and what each step counts in its gradient."""

    value: Tensor  # [R] the objective
    target: Tensor  # [R, T, B] what each action is credited with, and a critic learns to guess
    advantage: Tensor  # [R, T, B] in the objective's unit
    unit: Tensor  # of the gradient's advantages, [R, 1, 1] or a number
    share: Tensor  # [R, T, B] of each step in the objective
    weight: Tensor  # [T, 1] of a step that comes late, or 1
    used: Tensor  # [R, T, B] the advantages of the gradient
    credited: Tensor  # [R, T, B] what ∇log π counts
    bonus: Tensor | None  # [R, T, B] what ∇entropy counts
    pull: Tensor | None  # [R, T, B] what the gradient of the critic's guess counts


class First(NamedTuple):
    """What the first evaluation of a batch has found, by which all later ones go."""

    weights: Weights
    found: PolicyGradient


@dataclass
class Batch:
    """A batch of an update, and what was found when it was evaluated first: where it is more than once, as by a line
    search, the advantages stay what they were."""

    played: Rollout
    first: First | None = None


class Guesses(NamedTuple):
    """A minibatch from which the critic learns alone."""

    observation: Tensor  # [R, M, *O]
    target: Tensor  # [R, M]
    weight: Tensor  # [R, M] 1, or 0 where a replica has fewer steps than others
    unit: Tensor  # [R, 1] or a number

    def of(self, steps: slice) -> "Guesses":
        """Some of the M steps."""
        return Guesses(self.observation[:, steps], self.target[:, steps], self.weight[:, steps], self.unit)


def guesses(streams: Sequence[Generator], batch: Batch, wanted: CriticSettings) -> Iterator[Guesses]:
    """So many epochs of so many minibatches."""
    played, first = batch.played, batch.first
    assert first
    unit, target = first.weights.unit, first.weights.target
    unit = unit.reshape(-1, 1) if unit.dim() else unit
    for index, weight in minibatches(streams, played.alive, wanted.epochs, wanted.minibatches):
        yield Guesses(gather(played.observation, index), gather(target, index), weight, unit)

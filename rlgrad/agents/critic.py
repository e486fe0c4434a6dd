"""The critic: a network that guesses the return still to come."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rlgrad.agents.normalisers import ReturnUnit
from rlgrad.loop import Apart, Direction
from rlgrad.replicas import along


class Critic(Apart):
    """A network V(s) that guesses the return still to come: observation [R, ..., *O] -> [R, ...].

    It always minimizes its own error, also where the policy's objective is maximized.
    """

    direction = Direction.MINIMIZE

    def __init__(
        self,
        network: nn.Module,
        unit: ReturnUnit | None = None,
        scale: float | Tensor = 1.0,
        learning_rate: float | Tensor | None = None,
        optimizer: tuple[str, Mapping[str, Any]] | None = None,
    ):
        """scale: what the network's outputs are divided by, a number or [R]."""
        super().__init__()
        self.network, self.scale = network, scale
        self.unit = unit  # the unit of the network's outputs
        self.arguments = {} if learning_rate is None else {"lr": learning_rate}
        self.optimizer = optimizer

    def forward(self, observation: Tensor) -> Tensor:
        guess: Tensor = self.network(observation)  # [R, ..., 1]
        if self.unit is not None:
            mean, deviation = self.unit.mean_and_deviation(guess)
            guess = mean + deviation * guess
        elif isinstance(self.scale, Tensor) or self.scale != 1:
            guess = guess / along(self.scale, guess)
        return guess.squeeze(-1)

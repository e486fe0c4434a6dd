"""The critic: a guess of the return that is still to come."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rlgrad.agents.normalisers import ReturnUnit
from rlgrad.loop import Apart, Direction


class Critic(Apart):
    """A guess V(s) of the return that is still to come: observation [R, ..., *O] -> [R, ...].

    Whatever the policy does, the critic descends its own error.
    """

    direction = Direction.MINIMIZE

    def __init__(
        self,
        network: nn.Module,
        unit: ReturnUnit | None = None,
        learning_rate: float | Tensor | None = None,
        optimizer: tuple[str, Mapping[str, Any]] | None = None,
    ):
        super().__init__()
        self.network = network
        self.unit = unit  # of what the network says
        self.arguments = {} if learning_rate is None else {"lr": learning_rate}
        self.optimizer = optimizer

    def forward(self, observation: Tensor) -> Tensor:
        guess: Tensor = self.network(observation)  # [R, ..., 1]
        if self.unit is not None:
            mean, deviation = self.unit.mean_and_deviation(guess)
            guess = mean + deviation * guess
        return guess.squeeze(-1)

"""What a run asks of a problem, beyond what the loop asks."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from rlgrad.loop import Problem


class Trainable(Problem, Protocol):
    """What a run asks of a problem beyond what the loop asks.

    Two things are optional. `conclusion() -> list[str]` says in sentences what has come out. And where an update
    depends on more than the parameters, the buffers of `model` and the update's number, such as episodes that go on
    across updates, a problem has `state_dict()` and `load_state_dict(state)`: what a checkpoint is to hold besides.
    Such a state is made of tensors, numbers, texts, bytes, lists and dicts, as nothing else is ever read from a
    checkpoint (a pickled environment would run a stranger's code). What it cannot hold is drawn again from the streams
    of the update, or `state_dict` raises RunError and says so. `load_state_dict` raises ValueError where the state is
    not one of its own.
    """

    work: str  # the metric that counts the work of an update, such as "episode/env_steps"
    solved: tuple[str, float] | None  # an evaluation metric, and the value from which the problem counts as solved

    def again(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What the update came to: the objective [R] on the data of that step, drawn again by the same random numbers
        with the parameters as they are now, and further metrics [R] of the change."""

    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        """Metrics [R] on held-out data, or in held-out episodes that are drawn for this step."""

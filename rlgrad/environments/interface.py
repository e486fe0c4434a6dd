"""What a rollout asks of environments."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


class Transition(NamedTuple):
    """What follows an action, for all N = R * B copies. A copy whose episode is over returns anything at all."""

    observation: np.ndarray  # [N, ...] after the action, also where that ended the episode
    reward: np.ndarray  # [N]
    terminated: np.ndarray  # [N] the episode reached its end
    truncated: np.ndarray  # [N] a time limit cut it off: that is not an end


class Environments(Protocol):
    """Copies of one environment, each of which plays one episode between resets."""

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        """Begin all episodes, B for each of the R streams. Observations [N, ...]."""

    def step(self, action: np.ndarray) -> Transition:
        """Take one action [N, ...] in each copy."""

    def close(self) -> None:
        """Let go of what is held, such as worker processes. After it nothing more is asked of them."""
        return


@runtime_checkable
class Continuing(Environments, Protocol):
    """Copies that can begin again one by one, while the others go on."""

    repeatable: bool  # whether an episode is a function of its seed and its actions

    def restart(self, over: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Begin a new episode in the copies `over` [N], each with its seed [N].

        Observations [N, ...], and which copies are ready [N]: one that is not begins its episode in the next step,
        whatever the action, and that step is no transition.
        """


def seeds_from(streams: Sequence[np.random.Generator], each: int) -> np.ndarray:
    """[N] seeds for environments, `each` of them for a replica, from its stream."""
    return np.concatenate([rng.integers(2**31, size=each) for rng in streams])

"""The interface of environments, as rollouts use it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


class Transition(NamedTuple):
    """The result of an action, for all N = R * B copies. A copy whose episode is over may return anything."""

    observation: np.ndarray  # [N, ...] after the action, also if that ended the episode
    reward: np.ndarray  # [N]
    terminated: np.ndarray  # [N] the episode reached its end
    truncated: np.ndarray  # [N] a time limit cut it off, which is no termination


class Environments(Protocol):
    """Copies of one environment, each of which plays one episode between resets."""

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        """Begin all episodes, B for each of the R streams. Return observations [N, ...]."""

    def step(self, action: np.ndarray) -> Transition:
        """Take one action [N, ...] in each copy."""

    def close(self) -> None:
        """Free resources, such as worker processes. Nothing is called after it."""
        return


@runtime_checkable
class Continuing(Environments, Protocol):
    """Copies that can begin again one by one, while the others go on."""

    repeatable: bool  # whether an episode is a function of its seed and its actions

    def reset(self, streams: Sequence[np.random.Generator], begin: bool = True) -> np.ndarray:
        """begin: False, for new copies only: no episode begins, and all copies wait for `restart`. A copy that waits is
        not stepped; or if that cannot be, its actions are legal."""

    def restart(self, over: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Begin a new episode in the copies `over` [N], each with its seed [N].

        Return observations [N, ...], and which copies are ready [N]. A copy that is not ready begins its episode in the
        next step, whatever the action is, and that step is not a transition.
        """


def seeds_from(streams: Sequence[np.random.Generator], each: int) -> np.ndarray:
    """Draw seeds [N] for environments, `each` of them for a replica, from its stream."""
    return np.concatenate([rng.integers(2**31, size=each) for rng in streams])

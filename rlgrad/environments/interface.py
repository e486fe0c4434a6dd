"""What a rollout asks of environments."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Transition(NamedTuple):
    """What follows an action, for all N = R * B copies. A copy whose episode is over returns anything at all."""

    observation: np.ndarray  # [N, ...]
    reward: np.ndarray  # [N]
    terminated: np.ndarray  # [N] the episode reached its end
    truncated: np.ndarray  # [N] a time limit cut it off: that is not an end


class Environments(Protocol):
    """Copies of one environment, each of which plays one episode between resets."""

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        """Begin all episodes, B for each of the R streams. Observations [N, ...]."""

    def step(self, action: np.ndarray) -> Transition:
        """Take one action [N, ...] in each copy."""

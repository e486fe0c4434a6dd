"""Gymnasium's own environments, one copy after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rlgrad.environments.interface import Transition


class GymnasiumEnvironments:
    """Any registered environment, through Gymnasium's own vector environment that steps its copies in turn.

    A copy whose episode is over is reset by it at the next step. Rollouts leave out all that comes after the end, so
    that this reset is never mistaken for a transition.
    """

    def __init__(self, id: str, copies: int, options: Mapping[str, Any]):
        self.copies = copies
        self.vector = gymnasium.make_vec(id, num_envs=copies, vectorization_mode="sync", **options)

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        seeds = [rng.integers(2**31, size=self.copies // len(streams)) for rng in streams]
        observation, _ = self.vector.reset(seed=[int(seed) for seed in np.concatenate(seeds)])  # type: ignore[arg-type]
        return np.array(observation)  # Gymnasium writes the next observation into the same array

    def step(self, action: np.ndarray) -> Transition:
        observation, reward, terminated, truncated, _ = self.vector.step(action)
        return Transition(np.array(observation), reward, terminated, truncated)

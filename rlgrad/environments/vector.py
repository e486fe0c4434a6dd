"""Gymnasium's own environments, one copy after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers.vector import FlattenObservation

from rlgrad.environments.interface import Transition
from rlgrad.environments.spaces import flat, is_image


class GymnasiumEnvironments:
    """Any registered environment, through Gymnasium's own vector environment that steps its copies in turn.

    A copy whose episode is over is reset by it at the next step. Rollouts leave out all that comes after the end, so
    that this reset is never mistaken for a transition.
    """

    def __init__(self, id: str, copies: int, options: Mapping[str, Any]):
        self.copies = copies
        vector = gymnasium.make_vec(id, num_envs=copies, vectorization_mode="sync", **options)
        seen = flat(vector.single_observation_space)
        self.vector = vector if seen == vector.single_observation_space else FlattenObservation(vector)
        real = is_image(seen) or np.issubdtype(seen.dtype, np.floating)
        self.dtype = seen.dtype if real else np.float32

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        seeds = [rng.integers(2**31, size=self.copies // len(streams)) for rng in streams]
        observation, _ = self.vector.reset(seed=[int(seed) for seed in np.concatenate(seeds)])  # type: ignore[arg-type]
        return np.array(observation, dtype=self.dtype)  # Gymnasium writes the next observation into the same array

    def step(self, action: np.ndarray) -> Transition:
        observation, reward, terminated, truncated, _ = self.vector.step(action)
        return Transition(np.array(observation, dtype=self.dtype), reward, terminated, truncated)

"""Actions that are held for several steps."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from rlgrad.environments.interface import Environments, Transition


class Held:
    """Environments in which every action is repeated for `steps` steps, or until the episode is over.

    The rewards of these steps are added, without a discount between them. The observation is that after the last step.
    `lasted` [N] is the number of steps that the last action was held for in each copy.
    """

    lasted: np.ndarray

    def __init__(self, inner: Any, steps: int):
        self.inner, self.steps = inner, steps
        self.repeatable: bool = getattr(inner, "repeatable", False)

    def close(self) -> None:
        self.inner.close()

    def reset(self, streams: Sequence[np.random.Generator], **how: bool) -> np.ndarray:
        return self.inner.reset(streams, **how)  # type: ignore[no-any-return]

    def restart(self, over: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.inner.restart(over, seeds)  # type: ignore[no-any-return]

    def step(self, action: np.ndarray) -> Transition:
        observation, reward, terminated, truncated = self.inner.step(action)
        self.lasted = np.ones(len(reward), np.int64)
        for _ in range(self.steps - 1):
            goes_on = ~(terminated | truncated)
            if not goes_on.any():
                break
            self.lasted = self.lasted + goes_on
            following = self.inner.step(action)  # a copy that is over may return anything, and is not used
            wide = goes_on.reshape(-1, *[1] * (observation.ndim - 1))
            observation = np.where(wide, following.observation, observation)
            reward = np.where(goes_on, reward + following.reward, reward)
            terminated = terminated | (goes_on & following.terminated)
            truncated = truncated | (goes_on & following.truncated)
        return Transition(observation, reward, terminated, truncated)


def steps_taken(environments: Environments) -> np.ndarray | int:
    """Return how often `step` of the environment was called for the last action, in each copy [N]."""
    return environments.lasted if isinstance(environments, Held) else 1


class HeldActions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A single environment of Gymnasium in which every action is repeated for `steps` steps, as in `Held`."""

    def __init__(self, env: gymnasium.Env[Any, Any], steps: int):
        super().__init__(env)
        self.steps = steps

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        earned = 0.0
        for _ in range(self.steps):
            observation, reward, terminated, truncated, info = self.env.step(action)
            earned += float(reward)
            if terminated or truncated:
                break
        return observation, earned, terminated, truncated, info

"""The running moments of Gymnasium's normalising wrappers, NormalizeObservation and NormalizeReward."""

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers
from gymnasium.wrappers.utils import RunningMeanStd

WRAPPERS = (gymnasium.Wrapper, gymnasium.vector.VectorWrapper)


def normalising(env: Any) -> list[Any]:
    """Return the normalising wrappers of an environment, the innermost first. Those of rewards come last, as
    evaluations may lack them."""
    of_rewards: Any = (wrappers.NormalizeReward, wrappers.vector.NormalizeReward)
    found: list[Any] = []
    while isinstance(env, WRAPPERS):
        if isinstance(env, (wrappers.NormalizeObservation, wrappers.vector.NormalizeObservation, *of_rewards)):
            found.insert(0, env)
        env = env.env
    return sorted(found, key=lambda wrapper: isinstance(wrapper, of_rewards))


def numbers(env: Any) -> Iterator[tuple[Any, str]]:
    """Yield where the normalising wrappers keep each of their numbers: the object, and the name of its attribute."""
    for wrapper in normalising(env):
        for name, value in vars(wrapper).items():
            if isinstance(value, RunningMeanStd):
                yield from ((value, part) for part in ("mean", "var", "count"))
            elif name == "discounted_reward":  # a reset does not change it
                yield wrapper, name


def moments(envs: Sequence[Any]) -> np.ndarray:
    """Return all numbers [N, M] of N environments with the same wrappers; M is 0 if no wrapper normalises."""
    rows = [[np.ravel(getattr(whose, name)) for whose, name in numbers(env)] for env in envs]
    return np.stack([np.concatenate([np.zeros(0), *row]) for row in rows])


def set_moments(env: Any, row: np.ndarray, frozen: bool) -> None:
    """Give an environment the moments [M]. It updates them with what it sees, unless they are frozen."""
    for wrapper in normalising(env):
        wrapper.update_running_mean = not frozen
    for whose, name in numbers(env):
        old, start = getattr(whose, name), np.size(getattr(whose, name))
        new, row = row[:start].reshape(np.shape(old)), row[start:]
        kept = new.astype(old.dtype) if isinstance(old, np.ndarray | np.generic) else float(new)
        setattr(whose, name, kept if np.array_equal(kept, new) else new)  # a new wrapper's may be in single precision


def recall(envs: Sequence[Any], rows: np.ndarray, frozen: bool) -> None:
    """Give each environment one of the rows [N, M], beginning with the first."""
    for env, row in zip(envs, rows, strict=False):
        set_moments(env, row, frozen)

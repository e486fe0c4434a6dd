"""Environments, many copies at a time: R replicas of B episodes each.

`make` finds the fastest form of a Gymnasium id: one of ours where there is one (tested step for step against
Gymnasium's), and otherwise Gymnasium's own, one copy after the other. Both begin their episodes from the replicas'
streams, so what replica k plays does not depend on how many others play beside it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np

from rlgrad.settings import SettingError


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


class CartPole:
    """CartPole-v1, with all copies in one array and the equations of Gymnasium's `CartPoleEnv` in its order.

    Barto, Sutton & Anderson 1983; equations from Florian 2007 (https://coneural.org/florian/papers/05_cart_pole.pdf).
    """

    GRAVITY, CART, POLE, LENGTH, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02  # LENGTH is half the pole's
    TOTAL, POLE_LENGTH = CART + POLE, POLE * LENGTH
    BOUNDS = np.array([[2.4], [12 * 2 * math.pi / 360]])  # of position and angle
    MAX_STEPS = 500

    def __init__(self, copies: int):
        self.copies = copies
        self.state = np.empty((4, copies))  # position, its velocity, angle, its velocity
        self.change = np.empty((4, copies))
        self.steps = 0
        self.reward = np.ones(copies, dtype=np.float32)

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        each = self.copies // len(streams)
        self.state = np.concatenate([rng.uniform(-0.05, 0.05, (each, 4)) for rng in streams]).T.copy()
        self.steps = 0
        return self.state.T.astype(np.float32)

    def step(self, action: np.ndarray) -> Transition:
        _, x_dot, theta, theta_dot = self.state
        force = (2 * action - 1) * self.FORCE
        cos, sin = np.cos(theta), np.sin(theta)
        push = (force + self.POLE_LENGTH * np.square(theta_dot) * sin) / self.TOTAL
        theta_acc = (self.GRAVITY * sin - cos * push) / (
            self.LENGTH * (4.0 / 3.0 - self.POLE * np.square(cos) / self.TOTAL)
        )
        self.change[0] = x_dot
        self.change[1] = push - self.POLE_LENGTH * theta_acc * cos / self.TOTAL
        self.change[2] = theta_dot
        self.change[3] = theta_acc
        self.change *= self.TAU
        self.state += self.change
        self.steps += 1
        terminated = np.logical_or.reduce(np.abs(self.state[::2]) > self.BOUNDS)
        truncated = np.full(self.copies, self.steps >= self.MAX_STEPS)
        return Transition(self.state.T.astype(np.float32), self.reward, terminated, truncated)


OURS: dict[str, Callable[[int], Environments]] = {"CartPole-v1": CartPole}


def make(id: str, replicas: int, episodes: int, *, options: Mapping[str, Any], ours: bool = True) -> Environments:
    """`episodes` copies of the environment for each of the replicas.

    options: keyword arguments of the environment (an environment of ours has none, so any calls for Gymnasium's).
    ours: False asks for Gymnasium's environment even where there is one of ours.
    """
    if ours and not options and id in OURS:
        return OURS[id](replicas * episodes)
    return GymnasiumEnvironments(id, replicas * episodes, options)


def describe(id: str, options: Mapping[str, Any]) -> gymnasium.Env:
    """One copy, for its spaces and its specification. Raises SettingError in one line if it cannot be made."""
    if ":" in id:
        message = f"{id!r} would import a module, and a config runs no code; name an environment that is registered"
        raise SettingError(("environment",), message)
    try:
        return gymnasium.make(id, **options)
    except gymnasium.error.UnregisteredEnv as error:
        message = f"Gymnasium knows no environment {id!r}"
        raise SettingError(("environment",), message, gymnasium.registry, id) from error
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        message = f"Gymnasium cannot make {id!r}: {' '.join(str(error).split())}"
        raise SettingError(("environment",), message) from error

"""Tiny environments whose every number is known. They need no torch, so that a worker process starts fast."""

import os
import signal
import sys
import time
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

# P(next state | state, action) and the rewards of a two-step problem; the second state 2 is an early end.
TRANSITIONS = np.array([[[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]], [[0.0, 1.0, 0.0], [0.7, 0.3, 0.0]]])
REWARDS = np.array([[1.0, -2.0], [3.0, 0.5]])
OBSERVATIONS = np.array([[1.0, 0.5], [-0.3, 2.0]])


class TwoStep(gymnasium.Env):
    """Two states, two actions, at most two steps: small enough to enumerate."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.t = 0, 0
        return OBSERVATIONS[0], {}

    def step(self, action):
        reward = REWARDS[self.state, action]
        self.state = int(self.np_random.choice(3, p=TRANSITIONS[self.state, action]))
        self.t += 1
        terminated = self.state == 2 or self.t == 2
        return OBSERVATIONS[self.state % 2], reward, terminated, False, {}


class Countdown(gymnasium.Env):
    """Counts down to the end from a number that the seed draws; the reward is the step's number, from 1."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, poison: float | None = None, fixed: int | None = None):
        self.poison, self.fixed = poison, fixed

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.fixed or int(self.np_random.integers(1, 7))
        self.t = 0
        return np.array([self.left], dtype=np.float32), {}

    def step(self, action):
        self.left -= 1
        self.t += 1
        shown = self.left if self.poison is None or self.left != 1 else self.poison
        return np.array([shown], dtype=np.float32), float(self.t), self.left == 0, False, {}


class Anything(gymnasium.Env):
    """Random observations and rewards from any spaces, for eight steps; it checks that actions belong to their space."""

    def __init__(self, observation: spaces.Space, action: spaces.Space):
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        return self.observation_space.sample(), float(self.np_random.normal()), self.t == 8, False, {}


class Halved(gymnasium.RewardWrapper, gymnasium.utils.RecordConstructorArgs):
    """Half the reward."""

    def __init__(self, env):
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def reward(self, reward):
        return reward / 2


class Odd(gymnasium.Env):
    """Numbers from the seed, for as many steps as it draws; each copy's episodes leave a trace in its next ones."""

    observation_space: spaces.Space = spaces.Dict({"x": spaces.Box(-9, 9, (2,), np.float64), "n": spaces.Discrete(3)})
    action_space: spaces.Space = spaces.MultiDiscrete([2, 3])

    def __init__(self, wear: float = 1e-9):
        self.wear, self.worn = wear, 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left = self.np_random.integers(2, 7)
        self.worn += self.wear
        return self.see(), {}

    def see(self) -> Any:
        return {"x": self.np_random.normal(size=2) + self.worn, "n": int(self.left) % 3}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.left -= 1
        return self.see(), float(action.sum() + self.np_random.normal()), self.left == 0, False, {}


class Faulty(Odd):
    """Something goes wrong in its third step, but not in the process that is spared."""

    def __init__(self, how: str, spared: int = 0):
        super().__init__()
        self.how, self.at_work = how, os.getpid() != spared

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left = 5
        return self.see(), {}

    def step(self, action: Any) -> Any:
        found = super().step(action)
        if self.at_work and self.left == 2:
            match self.how:
                case "raises":
                    raise ValueError("no such move")
                case "leaves":
                    return {"x": np.zeros(2), "n": 7}, *found[1:]
                case "exits":
                    sys.exit(3)
                case "dies":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "hangs":
                    time.sleep(1e6)
        return found


def normalised(wear: float = 1e-9) -> gymnasium.Env:
    return wrappers.NormalizeReward(wrappers.NormalizeObservation(wrappers.FlattenObservation(Odd(wear))))


def normalised_walk() -> gymnasium.Env:
    return wrappers.NormalizeReward(wrappers.NormalizeObservation(Walk()))


class Walk(gymnasium.Env):
    """The reference: random numbers of large scale from the seed, five steps long."""

    observation_space: spaces.Space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space: spaces.Space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.see(), {}

    def see(self) -> np.ndarray:
        self.x = self.np_random.normal()
        return np.array([5000 + 100 * self.x])

    def step(self, action: int) -> Any:
        self.t += 1
        reward = float((self.x > 0) == bool(action))
        return self.see(), reward, self.t == 5, False, {}


class Drawn(gymnasium.Env):
    """One action is legal, drawn before each step and also after the end, and the others raise. played: all episodes,
    each with its seed and its actions."""

    action_space = spaces.Discrete(4, start=2)
    played: ClassVar[list[tuple[Any, list[int]]]] = []

    def __init__(self, where: str = "info"):
        self.where = where
        seen = spaces.Box(0, 9, (1,), np.float32)
        self.observation_space = seen if where == "info" else spaces.Dict({"seen": seen, where: spaces.MultiBinary(4)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left, self.own = int(self.np_random.integers(1, 9)), []
        self.played.append((seed, self.own))
        return self.shown()

    def step(self, action):
        assert action - 2 == self.legal, "not legal"
        self.own.append(int(action))
        self.left -= 1
        observation, info = self.shown()
        return observation, float(action), self.left == 0, False, info

    def shown(self):
        self.legal = int(self.np_random.integers(4))
        seen, mask = np.full(1, self.left, np.float32), np.eye(4, dtype=np.int8)[self.legal]
        return (seen, {"action_mask": mask}) if self.where == "info" else ({"seen": seen, self.where: mask}, {})

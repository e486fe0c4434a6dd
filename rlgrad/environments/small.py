"""The decision processes of `rlgrad.environments.mdp` as environments."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlgrad.environments.interface import Environments, Transition
from rlgrad.environments.mdp import MDP, MDPS, LinearQuadratic


class Tabular(gymnasium.Env):
    """One copy of an MDP, as an environment of Gymnasium; the time limit is Gymnasium's wrapper."""

    def __init__(self, name: str):
        self.mdp = MDPS[name]
        self.observation_space = spaces.Box(-np.inf, np.inf, self.mdp.observation.shape[1:], np.float32)
        self.action_space = spaces.Discrete(self.mdp.reward.shape[1])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = int(self.np_random.choice(len(self.mdp.initial), p=self.mdp.initial))
        return self.mdp.observation[self.state].astype(np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = float(self.mdp.reward[self.state, action])
        row = self.mdp.transition[self.state, action]
        following = int(self.np_random.choice(len(row) + 1, p=np.append(row, 1 - row.sum())))
        terminated = following == len(row)
        self.state = self.state if terminated else following
        return self.mdp.observation[self.state].astype(np.float32), reward, terminated, False, {}


class Chance:
    """Draws a uniform number for each copy and step, from its replica's stream. Many steps are drawn at once: that is
    faster, and the numbers are the same."""

    STEPS = 32

    def __init__(self, streams: Sequence[np.random.Generator], copies: int):
        self.streams = [rng.spawn(1)[0] for rng in streams]  # this does not change what the policy draws
        self.size = (self.STEPS, copies // len(streams))
        self.drawn = 0

    def draw(self) -> np.ndarray:
        """Return the numbers [N] of the next step."""
        step = self.drawn % self.STEPS
        if step == 0:
            self.numbers = np.concatenate([rng.random(self.size) for rng in self.streams], axis=1)
        self.drawn += 1
        return np.asarray(self.numbers[step])


class TabularEnvironments(Environments):
    """Many copies of an MDP in one array."""

    def __init__(self, mdp: MDP, copies: int):
        self.mdp, self.copies = mdp, copies
        self.upto = mdp.transition.cumsum(2)  # [S, A, S] cumulative probability of the next state
        self.seen = mdp.observation.astype(np.float32)

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        self.chance = Chance(streams, self.copies)
        self.state = (self.mdp.initial.cumsum()[:-1] <= self.chance.draw()[:, None]).sum(1)
        self.taken = 0
        return self._observe()

    def step(self, action: np.ndarray) -> Transition:
        reward = self.mdp.reward[self.state, action]
        following = (self.upto[self.state, action] <= self.chance.draw()[:, None]).sum(1)
        terminated = following == len(self.mdp.initial)
        self.state = np.where(terminated, self.state, following)
        self.taken += 1
        truncated = np.full(self.copies, self.taken == self.mdp.steps)
        return Transition(self._observe(), reward, terminated, truncated)

    def _observe(self) -> np.ndarray:
        return np.asarray(self.seen[self.state])


class Regulator(gymnasium.Env):
    """One copy of the linear-quadratic process."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = LinearQuadratic().start
        return np.array([self.x], dtype=np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        process, u = LinearQuadratic(), float(action[0])
        reward = -(self.x**2 + process.cost * u**2)
        self.x = process.stay * self.x + process.push * u + process.noise * float(self.np_random.standard_normal())
        return np.array([self.x], dtype=np.float32), reward, False, False, {}


class Regulators(Environments):
    """Many copies of the linear-quadratic process in one array."""

    def __init__(self, copies: int):
        self.process, self.copies = LinearQuadratic(), copies

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        self.streams = [rng.spawn(1)[0] for rng in streams]
        self.x = np.full(self.copies, self.process.start)
        self.taken = 0
        return self.x[:, None].astype(np.float32)

    def step(self, action: np.ndarray) -> Transition:
        process, u = self.process, action[:, 0].astype(np.float64)
        reward = -(np.square(self.x) + process.cost * np.square(u))
        each = self.copies // len(self.streams)
        noise = np.concatenate([rng.standard_normal(each) for rng in self.streams])
        self.x = process.stay * self.x + process.push * u + process.noise * noise
        self.taken += 1
        never, over = np.zeros(self.copies, bool), np.full(self.copies, self.taken == process.steps)
        return Transition(self.x[:, None].astype(np.float32), reward, never, over)

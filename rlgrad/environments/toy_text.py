"""Gymnasium's environments that are defined by a table, with all copies in one array."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from rlgrad.environments.interface import Environments, Transition
from rlgrad.environments.small import Chance
from rlgrad.errors import SettingError


class Tables(Environments):
    """Copies of FrozenLake or any other environment with Gymnasium's table `P[state][action]`, a list of outcomes
    (probability, next state, reward, terminated). Observations are one-hot codes of the state, [N, S].

    options: keyword arguments of the environment, which gives the table.
    """

    def __init__(self, id: str, copies: int, **options: Any):
        environment = gymnasium.make(id, **options)
        assert environment.spec is not None
        self.copies, self.limit = copies, environment.spec.max_episode_steps
        table = environment.unwrapped.P  # type: ignore[attr-defined]
        if table != gymnasium.make(id, **options).unwrapped.P:  # type: ignore[attr-defined]
            hint = "set environment_options so that it is always the same, as with desc"
            raise SettingError(("environment_options",), f"{id} has another table each time that it is made: {hint}")
        self.first = environment.unwrapped.initial_state_distrib.cumsum()  # type: ignore[attr-defined]
        outcomes = max(len(row) for actions in table.values() for row in actions.values())
        shape = self.states, self.actions, self.outcomes = len(table), len(table[0]), outcomes
        self.upto = np.full(shape, np.inf)  # cumulative probability of the outcomes
        self.following, self.reward = np.zeros(shape, dtype=np.int64), np.zeros(shape)
        self.terminated = np.zeros(shape, dtype=bool)
        for s, a in np.ndindex(shape[:2]):
            probability, following, reward, terminated = zip(*table[s][a], strict=True)
            self.upto[s, a, : len(probability) - 1] = np.cumsum(probability)[:-1]  # rounding never leads past the last
            self.following[s, a, : len(probability)] = following
            self.reward[s, a, : len(probability)] = reward
            self.terminated[s, a, : len(probability)] = terminated
        self.seen = np.eye(self.states, dtype=np.float32)

    def reset(self, streams: Sequence[np.random.Generator]) -> np.ndarray:
        self.chance = Chance(streams, self.copies)
        self.state = (self.first[:-1] <= self.chance.draw()[:, None]).sum(1)
        self.taken = 0
        return np.asarray(self.seen[self.state])

    def step(self, action: np.ndarray) -> Transition:
        outcome = (self.upto[self.state, action] <= self.chance.draw()[:, None]).sum(1)
        row = (self.state * self.actions + action) * self.outcomes + outcome
        self.state = self.following.take(row)
        self.taken += 1
        truncated = np.full(self.copies, self.taken == self.limit)
        return Transition(self.seen[self.state], self.reward.take(row), self.terminated.take(row), truncated)

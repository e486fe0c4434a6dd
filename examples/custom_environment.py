"""A Gymnasium environment of your own, given to a run as it is.

A walker on a line of seven places earns 1 when it reaches the right end. Every step costs 0.01.

    python examples/custom_environment.py 40        # updates
"""

import sys

import gymnasium
import numpy as np

import rlgrad


class Line(gymnasium.Env):
    PLACES = 7

    def __init__(self, cost=0.01):
        self.cost = cost  # `environment_options` in a config sets it
        self.observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)  # left, right

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # self.np_random is seeded: draw from nothing else
        self.place, self.steps = int(self.np_random.integers(self.PLACES - 1)), 0
        return self.observation(), {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action == 1 else -1))
        self.steps += 1
        terminated = self.place == self.PLACES - 1  # the end of the episode
        truncated = not terminated and self.steps >= 30  # a time limit
        return self.observation(), float(terminated) - self.cost, terminated, truncated, {}

    def observation(self):
        return np.array([2 * self.place / (self.PLACES - 1) - 1], np.float32)


def main(updates=40):
    run = rlgrad.train(
        {
            "problem": "reinforce",
            "environment_options": {"cost": 0.02},
            "episodes": 16,
            "replicas": 4,
            "updates": updates,
            "policy": {"hidden": [8]},
            "optimizer": {"name": "Adam", "lr": 0.05},
        },
        environment=Line,  # the class, or any callable that makes a copy of the environment
    )
    # Four agents; the mean return of each over held-out episodes, and an interval for the mean of all.
    print("mean return", run.summary["evaluation.return"]["mean"], "in", run.directory)
    # A config in a file names the class instead, `environment: custom_environment:Line`, and needs
    # `imports: [custom_environment]` and --allow-imports.


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

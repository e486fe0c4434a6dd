"""What the contestants of benchmarks/beside.py share: a curve of returns whose clock stands still while it evaluates.

The seconds are those of the processor, so that a run that waits for another process is not slower.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

EVERY, EPISODES = 50_000, 20  # environment steps between evaluations, and the episodes of one
Act = Callable[[np.ndarray], np.ndarray]  # greedy actions [N, ...] for observations [N, ...]


def greedy_return(act: Act, environment: str, seed: int) -> float:
    """The mean undiscounted return of EPISODES episodes, whose seeds training does not use."""
    copies = [gymnasium.make(environment) for _ in range(EPISODES)]
    seeds = np.random.SeedSequence([seed, 2026]).generate_state(EPISODES)
    seen = np.array([copy.reset(seed=int(own))[0] for copy, own in zip(copies, seeds, strict=True)])
    total, playing = np.zeros(EPISODES), list(range(EPISODES))
    while playing:
        for k, action in zip(list(playing), act(seen[playing]), strict=True):
            seen[k], reward, terminated, truncated, _ = copies[k].step(action)
            total[k] += float(reward)
            if terminated or truncated:
                playing.remove(k)
    for copy in copies:
        copy.close()
    return float(total.mean())


class Curve:
    """The returns [K] at the steps [K], and the processor's seconds [K] until then, without those of evaluation."""

    def __init__(self, environment: str, seed: int):
        self.environment, self.seed = environment, seed
        self.next, self.paused = EVERY, 0.0
        self.rows: list[tuple[int, float, float]] = []

    def offer(self, steps: int, act: Act) -> None:
        """Evaluate if it is due."""
        if steps >= self.next:
            began = time.process_time()
            self.rows.append((int(steps), greedy_return(act, self.environment, self.seed), began - self.paused))
            self.paused += time.process_time() - began
            self.next = (steps // EVERY + 1) * EVERY

    def print(self, **more: Any) -> None:
        steps, returns, seconds = zip(*self.rows, strict=True)
        print(json.dumps({"steps": steps, "returns": returns, "seconds": seconds} | more))

"""The cost of playing besides the environment: a rollout without an update, and a bare loop over the same environments.

    python benchmarks/sampling.py [--rounds 5] [--write]

The bare loop takes random actions that were drawn before. Both play the same number of steps, in turns, in one process.
Processor time is compared, so that other processes on the machine matter less.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from harness import WRITES, machine, own_version, spread, table, write

from rlgrad.agents.rollouts import play
from rlgrad.config import load_config
from rlgrad.environments import make, played
from rlgrad.streams import Purpose, streams

EPISODES = 16
NAMES = ("HalfCheetah-v5", "LunarLander-v3")


def bare(copies: list[Any], steps: int) -> float:
    """Environment steps per second of processor time, with random actions, one copy after the other."""
    space = copies[0].action_space
    space.seed(0)
    actions = [space.sample() for _ in range(1000)]
    for k, copy in enumerate(copies):
        copy.reset(seed=k)
    began, taken, over = time.process_time(), 0, [False] * len(copies)
    while taken < steps:
        for k, copy in enumerate(copies):
            if over[k]:
                copy.reset()
                over[k] = False
            _, _, terminated, truncated, _ = copy.step(actions[taken % 1000])
            over[k] = terminated or truncated
            taken += 1
    return taken / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="ENVIRONMENT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=WRITES)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in given.names:
        told = {"problem": "reinforce", "environment": name, "episodes": EPISODES, "updates": 1,
                "policy": {"hidden": [64, 64]}, "optimizer": {"name": "SGD", "lr": 0}}  # fmt: skip
        problem = load_config(told).build().problem
        environments = make(name, 1, EPISODES, options={})
        ours, theirs = [], []
        for turn in range(given.rounds + 1):
            began = time.process_time()
            rollout = play(problem.model.policy, environments, streams(turn, 1, Purpose.SAMPLE), EPISODES)
            steps = int(rollout.alive.sum())
            ours.append(steps / (time.process_time() - began))
            theirs.append(bare(played(environments), steps))
        environments.close()
        share = spread(a / b for a, b in zip(ours[1:], theirs[1:], strict=True))
        rows.append((name, f"{np.median(ours[1:]):,.0f}", f"{np.median(theirs[1:]):,.0f}", share.text("{:.2f}".format)))
        print(*rows[-1], flush=True)
    text = table(("", "rollouts: steps a CPU second", "bare loop", "share of the bare loop's"), rows)
    text += f"\n\nMedians (lowest to highest) of {given.rounds} rounds. {machine()}; rlgrad {own_version()}."
    write("sampling.py", text) if given.write else print(text)


if __name__ == "__main__":
    main()

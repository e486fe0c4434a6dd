"""Randomness as a function of (seed, replica, purpose, step).

Whatever replica k draws for update n comes from a stream of its own. So a resumed run continues bit for bit without
replaying anything, any update can be done again alone, and replica k of many is the run alone with seed + k.
"""

import enum

import numpy as np


class Purpose(enum.IntEnum):
    """What a stream is for: no two purposes share their numbers. The values are part of every run: never reuse one."""

    INITIAL = 0  # the initial parameters
    SAMPLE = 1  # episodes to learn from, minibatches
    EVALUATE = 2  # held-out episodes
    SPLIT = 3  # training and test part of a data set
    MINIBATCH = 4  # the order of the steps that were played, where there are several passes over them


def stream(seed: int, purpose: Purpose, step: int = 0) -> np.random.Generator:
    """The generator of one replica, whose seed is the run's seed plus its number, for one purpose at one update."""
    high, low = divmod(seed, 2**32)  # a sequence has words of 32 bits: what a seed has beyond one is no purpose or step
    words = np.random.SeedSequence((low, purpose, step), spawn_key=(high,) if high else ())
    return np.random.Generator(np.random.SFC64(words))


def streams(seed: int, replicas: int, purpose: Purpose, step: int = 0) -> list[np.random.Generator]:
    """One generator per replica: the one of replica k is that of a run alone with seed + k."""
    return [stream(seed + replica, purpose, step) for replica in range(replicas)]

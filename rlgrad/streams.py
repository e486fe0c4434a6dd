"""Randomness as a function of (seed, replica, purpose, step).

All that replica k draws for update n comes from its own stream. So a resumed run continues bit for bit without
replaying anything, any update can be repeated alone, and replica k of many is the same as a run alone with seed + k.
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
    high, low = divmod(seed, 2**32)  # a word has 32 bits: the rest of a large seed must not look like a purpose
    words = np.random.SeedSequence((low, purpose, step), spawn_key=(high,) if high else ())
    return np.random.Generator(np.random.SFC64(words))


def streams(seed: int, replicas: int, purpose: Purpose, step: int = 0) -> list[np.random.Generator]:
    """One generator per replica: replica k has that of a run alone with seed + k."""
    return [stream(seed + replica, purpose, step) for replica in range(replicas)]

"""Which of several processes this one is, and what its share of the work is.

It is separate from `distributed`, where the processes communicate: processes that only step environments need it too,
and without torch they start in a third of the time.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class Here:
    """The rank of this process, and the number of ranks."""

    rank, size = 0, 1
    first = True  # whether this is the rank that writes and prints
    before = 0  # how many replicas the ranks before this one have, if ranks divide the replicas
    store: Any = None  # where a rank that fails says why; it belongs to torchrun, and outlives the ranks
    groups = 0  # how many groups of ranks this process has joined


here = Here()


@contextmanager
def alone(before: int) -> Iterator[None]:
    """Let this rank do all the work in the body, as if there were no others: it has replicas of its own.

    before: how many replicas the ranks before this one have.
    """
    was = here.rank, here.size, here.before
    here.rank, here.size, here.before = 0, 1, before
    try:
        yield
    finally:
        here.rank, here.size, here.before = was


def share(count: int) -> slice:
    """Return this rank's share of `count` replicas, episodes or rows."""
    return slice(here.rank * count // here.size, (here.rank + 1) * count // here.size)


def shared(count: int) -> bool:
    """Return whether `count` episodes or rows are shared: if there are fewer than ranks, each one does all the work."""
    return 1 < here.size <= count


def own(copies: int) -> np.ndarray:
    """Return which of the copies of an environment [N] this rank plays with."""
    return np.asarray(np.arange(copies) % here.size == here.rank)


def beside() -> int:
    """Return how many ranks share the cores of this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))

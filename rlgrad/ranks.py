"""Which of several processes this one is, and what its share of the work is.

It stands apart from `distributed`, where they speak to each other, since the processes that only step environments need
it too, and start in a third of the time without torch.
"""

import os
from typing import Any

import numpy as np


class Here:
    """Which of the ranks this process is."""

    rank, size = 0, 1
    store: Any = None  # where a rank that fails says why; it is torchrun's, and outlives the ranks
    groups = 0  # how many there have been in this process

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and prints."""
        return self.rank == 0


here = Here()


def share(count: int) -> slice:
    """Of so many episodes or rows, those of this rank."""
    return slice(here.rank * count // here.size, (here.rank + 1) * count // here.size)


def shared(count: int) -> bool:
    """Whether so many episodes or rows are shared: where there are fewer than ranks, each does all of the work."""
    return 1 < here.size <= count


def own(copies: int) -> np.ndarray:
    """Of so many copies of an environment [N], those that this rank plays with."""
    result: np.ndarray = np.arange(copies) % here.size == here.rank
    return result


def beside() -> int:
    """How many ranks share the cores of this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if here.size > 1 else 1

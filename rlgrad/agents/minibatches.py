"""Minibatches of the steps that were played: several passes over one batch, each replica in its own random order."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from rlgrad.agents.pictures import Frames
from rlgrad.errors import RunError


def minibatches(
    streams: Sequence[np.random.Generator], alive: Tensor, epochs: int, count: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield index and weight [R, M] of each minibatch; each epoch puts every step into one of `count` minibatches.

    Each replica's steps are shuffled by its own stream and cut into parts that differ by one step at most. A replica
    with fewer steps than another has minibatches with fewer steps: the rest of their M places have the weight 0.

    alive: [R, T, B] bool, the rows that are steps. index: into T * B, as in `gather`.
    Raises RunError if a replica has fewer steps than there are minibatches.
    """
    there = [np.flatnonzero(each) for each in alive.flatten(1).numpy(force=True)]
    if (fewest := min(map(len, there))) < count:
        raise RunError(f"{fewest} steps are too few for {count} minibatches: set fewer `minibatches`, or play more")
    size = math.ceil(max(map(len, there)) / count)  # M
    for _ in range(epochs):
        index, weight = np.zeros((count, len(there), size), np.int64), np.zeros((count, len(there), size), np.float32)
        for replica, (rng, own) in enumerate(zip(streams, there, strict=True)):
            for number, part in enumerate(np.array_split(rng.permutation(own), count)):
                index[number, replica, : len(part)], weight[number, replica, : len(part)] = part, 1
        for number in range(count):
            yield torch.as_tensor(index[number]), torch.as_tensor(weight[number], dtype=torch.get_default_dtype())


def gather(x: Tensor | Frames, index: Tensor) -> Tensor:
    """Return the steps at index [R, M] of x [R, T, B, ...]: [R, M, ...]."""
    replica, slots = torch.arange(x.shape[0]).unsqueeze(1), x.shape[2]
    return x[replica, index // slots, index % slots]

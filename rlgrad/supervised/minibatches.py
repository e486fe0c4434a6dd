"""Which examples an update learns from."""

from typing import NamedTuple

from torch import Tensor

GATHERED = 1 << 18  # numbers that are gathered at a time, where batches are small: these stay in the cache


class Batch(NamedTuple):
    x: Tensor  # [R, B, D]
    y: Tensor  # [R, B]

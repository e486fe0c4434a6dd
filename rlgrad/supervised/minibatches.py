"""The examples of each update."""

import math
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, FiniteFloat, PositiveInt
from torch import Tensor

from rlgrad import ranks
from rlgrad.errors import SettingError
from rlgrad.settings import RunSettings
from rlgrad.streams import Purpose, stream
from rlgrad.supervised.data import Dataset

GATHERED = 1 << 18  # small batches are gathered several at a time, up to this many numbers: they fit in the cache


class Batch(NamedTuple):
    """Examples and their labels."""

    x: Tensor  # [R, B, D]
    y: Tensor  # [R, B]
    sample_weight: Tensor | None = None  # [R, B] the weight of each; or [M, B]: row m is for replicas m, m + M, ...

    def shared(self) -> "Batch":
        """The share of this rank."""
        if ranks.here.size == 1:
            return self
        own = ranks.share(self.y.shape[1])
        return Batch(*(part[:, own] for part in self if part is not None))


class MinibatchSettings(RunSettings):
    """The number and the order of the examples of an update."""

    batch_size: PositiveInt | None = None
    """number of examples in an update; null: all of them"""
    batch_growth: Annotated[FiniteFloat, Field(ge=1)] = 1.0
    """the factor by which the number of examples grows from update to update, newly drawn, until it is all of them"""
    order: Literal["shuffled", "file", "slipped"] = "shuffled"
    """the order of the examples in an epoch, if an update does not use all of them. shuffled: a new one in every epoch.
    file: as in the source. slipped: as in the program printed in Harrington's "Machine Learning in Action" (5.2.4),
    which by an index error draws update i's example from the first N-i rows: the first rows come too often"""

    def check_order(self) -> None:
        """Raise SettingError if one of these settings has no effect with the others."""
        if self.batch_size is None:
            for name, value in (("batch_growth", self.batch_growth != 1), ("order", self.order != "shuffled")):
                if value:
                    raise SettingError((name,), "it has no effect: an update takes all examples; set batch_size")
        elif self.batch_growth > 1 and self.order == "slipped":
            message = "slipped is an order within epochs, and with batch_growth there are no epochs"
            raise SettingError(("order",), message)


class Minibatches:
    """Draws the examples of each update, for each replica from its own stream."""

    def __init__(self, settings: MinibatchSettings, dataset: Dataset):
        self.settings, self.dataset = settings, dataset
        self._orders: dict[int, Tensor] = {}  # the rows [R, N] of the current epoch
        self._gathered: tuple[Any, list[Batch]] = (None, [])  # (epoch, block), and the batches of that block

    def sample(self, step: int) -> Batch:
        """The next examples of each replica's epoch, or all examples."""
        size, examples = self.settings.batch_size, len(self.dataset.y)
        if size is None or size >= examples:
            return self.everything()
        if self.settings.batch_growth > 1:
            return self._grown(step, size)
        epoch, number = divmod(step, math.ceil(examples / size))
        together = max(1, GATHERED // (self.settings.replicas * size * self.dataset.x.shape[-1]))
        block, place = divmod(number, together)
        if self._gathered[0] != (epoch, block):
            rows = self.order(epoch)[:, block * together * size : (block + 1) * together * size]  # [R, several B]
            parts = [torch.split(part, size, 1) for part in self.gathered(rows) if part is not None]
            self._gathered = (epoch, block), [Batch(*each) for each in zip(*parts, strict=True)]
        return self._gathered[1][place]

    def everything(self) -> Batch:
        """All examples, the same memory for every replica."""
        replicas = self.settings.replicas
        x, y, counts = self.dataset.x, self.dataset.y, self.dataset.sample_weight
        counts = counts.expand(replicas, -1) if counts is not None and counts.ndim == 1 else counts
        return Batch(x.expand(replicas, -1, -1), y.expand(replicas, -1), counts)

    def gathered(self, rows: Tensor) -> Batch:
        """The batch with the examples of rows [R, B]."""
        x, y, counts = self.dataset.x, self.dataset.y, self.dataset.sample_weight
        each = torch.arange(len(rows))[:, None]
        x = x[each, rows] if self.dataset.own else x.index_select(0, rows.reshape(-1))  # faster than x[rows]
        y = y.index_select(0, rows.reshape(-1))
        counts = None if counts is None else counts.reshape(-1, len(self.dataset.y))
        drawn = None if counts is None else counts[each % len(counts), rows]
        return Batch(x.reshape(*rows.shape, -1), y.reshape(rows.shape), drawn)

    def _grown(self, step: int, size: int) -> Batch:
        """The examples of an update with a growing batch size."""
        examples = len(self.dataset.y)
        if math.log(size) + step * math.log(self.settings.batch_growth) >= math.log(examples):
            return self.everything()
        count = int(size * self.settings.batch_growth**step)
        drawn = [
            np.arange(count) if self.settings.order == "file" else rng.choice(examples, count, replace=False)
            for rng in (stream(seed, Purpose.SAMPLE, step) for seed in self.settings.seeds)
        ]
        return self.gathered(torch.as_tensor(np.stack(drawn)))

    def order(self, epoch: int) -> Tensor:
        """The rows [R, N] of an epoch, in the order of each replica."""
        if epoch not in self._orders:
            drawn = [self._draw(stream(seed, Purpose.SAMPLE, epoch)) for seed in self.settings.seeds]
            self._orders = {epoch: torch.as_tensor(np.stack(drawn))}
        return self._orders[epoch]

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """The rows [N] of an epoch, in the order of one replica."""
        examples = len(self.dataset.y)
        if self.settings.order == "file":
            return np.arange(examples)
        if self.settings.order == "slipped":
            return rng.integers(0, np.arange(examples, 0, -1))
        return rng.permutation(examples)

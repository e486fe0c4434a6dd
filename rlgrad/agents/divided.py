"""An agent whose replicas are divided among ranks: each rank plays and differentiates only its own.

Every rank has the parameters of all replicas, and the optimizer moves all of them. It needs from the others the values
and the gradient: they are joined once for each batch. So a rank's share of an update takes as long as a run with only
its replicas, and any number of ranks has the same first batch to the bit.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlgrad import distributed, ranks
from rlgrad.agents import segments
from rlgrad.loop import Estimate, Lazy, Update
from rlgrad.optimizers.curvature import Curvature
from rlgrad.trainable import Trainable

ALIKE = (
    "direction", "model", "curved", "rests", "informed", "line_search", "work", "measures", "headline", "judged",
    "uses", "by_chance", "solved", "timed", "description", "pictures", "identity",
)  # fmt: skip


def divides(replicas: int, episodes: int) -> bool:
    """Whether ranks divide the replicas among themselves, instead of the episodes of each: if all ranks get the same
    number, or if there are too few episodes."""
    size = ranks.here.size
    return 1 < size <= replicas and (replicas % size == 0 or episodes < size)


class Divided(Trainable):
    """The agent `whole`, of which each rank plays its share of the R replicas, the agent `mine`."""

    def __init__(self, whole: Trainable, make: Callable[[slice], Trainable]):
        """make: makes the same agent with some of the replicas only."""
        vars(self).update({name: getattr(whole, name) for name in ALIKE})
        self.shares = len(next(whole.model.parameters()))
        self.own = ranks.share(self.shares)
        with self.alone():
            self.mine = make(self.own)
        for part, parameter in zip(self.mine.model.parameters(), self.model.parameters(), strict=True):
            part.data = parameter.data[self.own]  # the same memory, so that the optimizer moves both
        self.unfinished: dict[str, Tensor] = {}  # the episodes of all replicas that the next update goes on with
        self.last: Estimate | None = None

    @cached_property
    def facts(self) -> Mapping[str, str]:  # type: ignore[override]
        with self.alone():
            return self.mine.facts

    def alone(self) -> AbstractContextManager[None]:
        return ranks.alone(self.own.start)

    def sample(self, step: int) -> Any:
        """Play with this rank's replicas."""
        buffers = list(zip(self.mine.model.buffers(), self.model.buffers(), strict=True))
        self.mine.progress = self.progress
        with self.alone():
            for part, buffer in buffers:
                part.copy_(buffer[self.own])
            data = self.mine.sample(step)
            state = self.mine.state_dict()
        for (_, buffer), joined in zip(buffers, self._all(*(part for part, _ in buffers)), strict=True):
            buffer.copy_(joined)
        self.unfinished = segments.joined(distributed.gathered(state)) if state else {}
        return data

    def passes(self, data: Any) -> Iterator[Any]:
        """Yield the batches of this rank's replicas. If replicas may rest, also None, as long as only others go on."""
        stream, goes_on = iter(self.mine.passes(data)), True
        while goes_on:
            with self.alone():
                batch = next(stream, None)
            goes_on = batch is not None
            if self.rests:
                goes_on = bool(distributed.summed(torch.tensor(goes_on, device="cpu"))[0])
            if goes_on:
                yield batch

    def objective(self, batch: Any) -> Estimate:
        """Return the objective [R] of all replicas, and its gradient."""
        if batch is None and self.last:
            still = [None if part is None else torch.zeros_like(part) for part in self.last.gradient or ()]
            own = self.last._replace(gradient=still, resting=torch.ones_like(self.last.value, dtype=torch.bool))
        else:
            with self.alone():
                own = self.last = self.mine.objective(batch)
        parts = [own.value, own.resting, own.surrogate, *(own.gradient or ())]
        value, resting, surrogate, *gradient = distributed.whole(parts, self._all)
        assert value is not None
        metrics = Lazy(lambda: self._joined(lambda: dict(own.metrics)))
        bends = own.curvature
        curvature = (lambda: Rows(self, bends)) if bends else None
        return Estimate(value, metrics, gradient or None, curvature, own.notes, resting, surrogate)

    def after(self, update: Update) -> Tensor:
        return self._joined(lambda: {"value": self.mine.after(self._part(update))})["value"]

    def final(self, update: Update) -> Tensor:
        return self._joined(lambda: {"value": self.mine.final(self._part(update))})["value"]

    def diagnose(self, update: Update, promised: Tensor) -> Mapping[str, Tensor]:
        return self._joined(lambda: self.mine.diagnose(self._part(update), promised[self.own]))

    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        return self._joined(lambda: self.mine.evaluate(step))

    def close(self) -> None:
        with self.alone():
            self.mine.close()

    def state_dict(self) -> dict[str, Tensor]:
        return self.unfinished

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.unfinished = dict(state)
        if state:
            each = len(state["seeds"]) // self.shares
            with self.alone():
                part = segments.part(state, slice(self.own.start * each, self.own.stop * each))
                self.mine.load_state_dict(part)

    def _part(self, update: Update) -> Update:
        """Return the update as it was for this rank's replicas."""
        passes = [copy.copy(one) for one in update.passes]
        for one in passes:
            one.value = one.value[self.own]
        return Update(update.step, passes)

    def _all(self, *parts: Tensor) -> list[Tensor]:
        """Join tensors [r, ...] of each rank's replicas to [R, ...]."""
        return distributed.summed(*(distributed.placed(part.detach(), self.shares, 0) for part in parts))

    def _joined(self, call: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Join what `call` returns for this rank's replicas, [r] each. What a rank leaves out is zero there."""
        with self.alone():
            own = dict(call())
        names = dict.fromkeys(name for each in distributed.gathered([*own]) for name in each)
        none = torch.zeros(self.own.stop - self.own.start)
        return dict(zip(names, self._all(*(own.get(name, none) for name in names)), strict=True))


class Rows(Curvature):
    """The curvature of all replicas, of which each rank computes the rows of its own."""

    def __init__(self, problem: Divided, make: Callable[[], Curvature]):
        self.problem = problem
        with problem.alone():
            self.mine = make()

    def times(self, v: np.ndarray) -> np.ndarray:
        return self._all(self.mine.times, v)

    def distance(self, moved: np.ndarray) -> np.ndarray:
        return self._all(self.mine.distance, moved)

    def _all(self, call: Callable[[np.ndarray], np.ndarray], v: np.ndarray) -> np.ndarray:
        with self.problem.alone():
            part = call(v[self.problem.own])
        return np.asarray(self.problem._all(torch.from_numpy(part))[0].numpy())

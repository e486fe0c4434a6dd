"""Keeps the weights of some updates."""

import math
from typing import Any

from torch import Tensor

from rlgrad.loop import Update
from rlgrad.run import weights
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record


class Best:
    """The weights of each replica at its best evaluation so far, by the metric `judged` of the problem."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}  # [R, ...] by name
        self.values: list[float] = []  # [R] the metric at that evaluation
        self.updates: list[int] = []  # [R] the number of updates before that evaluation

    def improved(self, run: Following, record: Record) -> list[int]:
        """Remember the weights of the replicas that are better than ever before; return these replicas."""
        metric, direction = run.problem.judged or ("", run.problem.direction)
        values = record.values[f"evaluation/{metric}"].tolist()
        model = run.problem.model.state_dict()
        if not self.tensors:
            self.tensors = {name: tensor.clone() for name, tensor in model.items()}
            self.values, self.updates = values, [run.state.done] * len(values)
            return list(range(len(values)))
        ways = [direction.sign * (value - before) for value, before in zip(values, self.values, strict=True)]
        better = [k for k, way in enumerate(ways) if way > 0 or (math.isnan(self.values[k]) and values[k] == values[k])]
        for k in better:
            self.values[k], self.updates[k] = values[k], run.state.done
            for name, tensor in self.tensors.items():
                tensor[k] = model[name][k]
        return better


class Keep(Observer):
    """Regularly keeps the weights of all replicas, and those of each replica's best evaluation so far."""

    def __init__(self) -> None:
        self.best = Best()

    def seen(self, run: Following, update: Update, record: Record) -> None:
        """Keep the weights of this update, if they are due or the best. Raises OSError."""
        keep, done = run.settings.keep, run.state.done
        if run.directory is None:
            return
        folder = run.directory / weights.KEPT
        if run.state.due(keep.every_updates, keep.every_steps):
            folder.mkdir(exist_ok=True)
            weights.save(folder / f"{done}.safetensors", run.problem, done)
        if keep.best and record.evaluated and run.problem.judged and self.best.improved(run, record):
            folder.mkdir(exist_ok=True)
            weights.save(folder / f"{weights.BEST}.safetensors", run.problem, self.best.updates, self.best.tensors)

    def state_dict(self) -> Any:
        return vars(self.best) if self.best.tensors else None

    def load_state_dict(self, state: Any) -> None:
        vars(self.best).update(state)

"""Keeps the weights of some updates."""

from typing import Any

from torch import Tensor

from rlgrad.loop import Update
from rlgrad.run import weights
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record


class Keep(Observer):
    """Every so many updates all of them; and for each replica those at its best evaluation so far."""

    def __init__(self) -> None:
        self.best: dict[str, Tensor] = {}  # [R, ...] by name
        self.values: list[float] = []  # [R] what each of these came to
        self.updates: list[int] = []  # [R] after how many updates

    def seen(self, run: Following, update: Update, record: Record) -> None:
        """Raises OSError."""
        keep, done = run.settings.keep, run.state.done
        if run.directory is None:
            return
        folder = run.directory / weights.KEPT
        if run.state.due(keep.every_updates, keep.every_steps):
            folder.mkdir(exist_ok=True)
            weights.save(folder / f"{done}.safetensors", run.problem, done)
        if keep.best and record.evaluated and run.problem.judged and self.improved(run, record):
            folder.mkdir(exist_ok=True)
            weights.save(folder / f"{weights.BEST}.safetensors", run.problem, self.updates, self.best)

    def improved(self, run: Following, record: Record) -> bool:
        """Remember the weights of the replicas that were never better before. Whether there are any."""
        metric, direction = run.problem.judged or ("", run.problem.direction)
        values = record.values[f"evaluation/{metric}"].tolist()
        model = run.problem.model.state_dict()
        if not self.best:
            self.best = {name: tensor.clone() for name, tensor in model.items()}
            self.values, self.updates = values, [run.state.done] * len(values)
            return True
        better = [k for k, value in enumerate(values) if direction.sign * (value - self.values[k]) > 0]
        for k in better:
            self.values[k], self.updates[k] = values[k], run.state.done
            for name, tensor in self.best.items():
                tensor[k] = model[name][k]
        return bool(better)

    def state_dict(self) -> Any:
        return vars(self) if self.best else None

    def load_state_dict(self, state: Any) -> None:
        self.best, self.values, self.updates = state["best"], state["values"], state["updates"]

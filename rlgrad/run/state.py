"""The state of a run, and its summary."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from torch import Tensor

from rlgrad.errors import RunError
from rlgrad.loop import Update
from rlgrad.run.clock import seconds_since_start
from rlgrad.run.statistics import summarize
from rlgrad.settings import Cell, FollowSettings
from rlgrad.trainable import Trainable

Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def unit(problem: Trainable) -> str:
    """The unit of the problem's work: env_steps, examples."""
    return problem.work.rpartition("/")[2]


@dataclass
class State:
    """The progress and results of a run so far, without model and optimizer. Lists have one number for each replica."""

    done: Count = 0  # updates
    work: list[float] = field(default_factory=list)  # environment steps or examples so far
    steps_before: Count = 0  # the work before the last update, mean over replicas
    seconds: Amount = 0.0  # wall time, over all sittings
    evaluations: Count = 0  # of the objective, each for all replicas together
    objective: list[float] = field(default_factory=list)  # with the parameters before the last update
    final: list[float] = field(default_factory=list)  # the objective of the parameters that are saved
    evaluation: dict[str, list[float]] = field(default_factory=dict)  # the metrics of the last evaluation
    first_solved: dict[str, int | Amount] | None = None
    finished: bool = False  # whether the problem has nothing left to do
    saving: Amount = 0.0  # seconds that went into checkpoints
    set_aside: dict[Count, Count] = field(default_factory=dict)  # replicas that diverged, and in which update
    best: list[Count] = field(default_factory=list)  # the update of each replica's final weights, if not the last
    solved: dict[Count, dict[str, int | Amount]] = field(default_factory=dict)  # `first_solved` of each cell of a sweep

    def absorb(self, update: Update, values: Mapping[str, Tensor], work: str) -> None:
        """Count an update, and note its values [R]."""
        counted, self.steps_before = values[work].tolist(), self.steps
        self.done = update.step + 1
        self.evaluations += update.evaluations
        self.work = [a + b for a, b in zip(self.work or [0.0] * len(counted), counted, strict=True)]
        self.objective = values["objective/value"].tolist()

    def judge(self, problem: Trainable, cells: Sequence[Cell] = ()) -> None:
        """Note when the last evaluation of all replicas, or of all in a cell, reached the threshold for the first
        time."""
        if problem.solved is None or self.first_solved is not None:
            return
        metric, threshold = problem.solved
        if metric not in self.evaluation:
            raise RunError(f"{type(problem).__name__}.solved names {metric!r}, which its evaluate does not return")
        values, now = self.evaluation[metric], round(seconds_since_start(), 3)
        if min(self.remaining(values)) >= threshold:
            self.first_solved = {"env_steps": self.steps, "seconds": now}
        for number, cell in enumerate(cells):
            of_it = self.remaining(values, cell.replicas)
            if number not in self.solved and min(of_it, default=-math.inf) >= threshold:
                self.solved[number] = {"env_steps": self.steps_of(cell.replicas), "seconds": now}

    def leave_end(self, settings: FollowSettings) -> None:
        """Forget that the last evaluation solved the problem, if only the old end of a run made longer asked for it."""
        asked = settings.evaluation
        if self.complete(settings) or self.due(asked.every_updates, asked.every_steps):
            return
        if self.first_solved and self.first_solved["env_steps"] == self.steps:
            self.first_solved = None
        cells = {number: settings.cells[number].replicas for number in self.solved}
        for number, replicas in cells.items():
            if self.solved[number]["env_steps"] == self.steps_of(replicas):
                del self.solved[number]

    def over(self, settings: FollowSettings) -> bool:
        """Whether there is nothing left to do."""
        return self.complete(settings) or (settings.stop_when_solved and self.first_solved is not None)

    def count(self, settings: FollowSettings) -> int:
        """What the run has done so far, in the unit of its length: updates or steps."""
        return self.done if settings.updates else self.steps

    def complete(self, settings: FollowSettings) -> bool:
        return self.finished or self.count(settings) >= settings.length

    def due(self, every_updates: int | None, every_steps: int | None) -> bool:
        """Whether the last update reached a multiple of `every_updates`, or crossed a multiple of `every_steps`."""
        if every_steps:
            return self.steps // every_steps > self.steps_before // every_steps
        return bool(every_updates) and self.done % (every_updates or 1) == 0

    def remaining(self, values: list[float], replicas: Iterable[int] | None = None) -> list[float]:
        """The values of the replicas that are not set aside. replicas: those to look at; None: all."""
        of = range(len(values)) if replicas is None else replicas
        return [values[replica] for replica in of if replica not in self.set_aside and replica < len(values)]

    def statistics(self, values: list[float], by_chance: bool, cell: Cell | None = None) -> dict[str, Any]:
        """The statistics over the replicas that are not set aside. by_chance: whether they differ by chance alone.
        cell: only its replicas."""
        of = cell.replicas if cell else range(len(values))
        without = [number for number, replica in enumerate(of) if replica in self.set_aside]
        return summarize([values[replica] for replica in of], without, by_chance)

    def measured(self, by_chance: bool, cell: Cell | None = None) -> dict[str, Any]:
        """The statistics of the final objective, and of the last evaluation."""
        found: dict[str, Any] = {"objective": self.statistics(self.final, by_chance, cell) if self.final else None}
        each = self.evaluation.items()
        return found | {f"evaluation.{name}": self.statistics(values, by_chance, cell) for name, values in each}

    def mean(self, value: Tensor) -> float:
        """The mean of values [R] over the replicas that are not set aside. NaN is skipped: a replica may have no value
        yet, for example before its first episode has ended."""
        if self.set_aside:
            value = value[[replica for replica in range(len(value)) if replica not in self.set_aside]]
        return float(value.nanmean())

    @property
    def steps(self) -> int:
        """The work so far, mean over replicas."""
        return self.steps_of(range(len(self.work)))

    def steps_of(self, replicas: Iterable[int]) -> int:
        """The work so far, mean over some replicas."""
        counted = self.remaining(self.work, replicas)
        return round(sum(counted) / max(1, len(counted)))

    def summary(self, settings: FollowSettings, problem: Trainable, status: str) -> dict[str, Any]:
        """The content of summary.json. New versions add keys, and never remove one."""
        cells = settings.cells
        by_chance, several = problem.by_chance, len(cells) > 1
        measured = self.measured(by_chance and not several)
        result: dict[str, Any] = {
            "status": status,
            "direction": problem.direction.name.lower(),
            "wrong_sign": settings.wrong_sign,
            "updates": self.done,
            "wall_seconds": round(self.seconds, 3),
            "seed": settings.seed,
            "replicas": len(settings.seeds),
            unit(problem): self.steps,
            "objective": measured.pop("objective"),
            "set_aside": {str(replica): step for replica, step in self.set_aside.items()},
            "saving_seconds": round(self.saving, 3),
        }
        of = {"measures": problem.measures, "headline": list(problem.headline), "by_chance": by_chance and not several}
        if problem.solved is not None:
            result["first_solved"] = self.first_solved
            result["threshold"] = dict([problem.solved])
        result |= of | measured | ({"best_update": self.best} if self.best else {})
        if several:
            solved = [{} if problem.solved is None else {"first_solved": self.solved.get(n)} for n in range(len(cells))]
            result["sweep"] = [
                {"settings": cell.named, "seeds": list(settings.seeds[: int(settings.replicas)])}
                | {unit(problem): self.steps_of(cell.replicas), "by_chance": by_chance}
                | self.measured(by_chance, cell)
                | own
                for cell, own in zip(cells, solved, strict=True)
            ]
        return result


@cache
def validator() -> TypeAdapter[State]:
    """The validator of a state in a checkpoint, which may come from anyone. Making it takes a moment."""
    return TypeAdapter(State)

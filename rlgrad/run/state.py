"""How far a run is, and what its summary says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from torch import Tensor

from rlgrad.errors import RunError
from rlgrad.loop import Update
from rlgrad.run.clock import seconds_since_start
from rlgrad.run.statistics import summarize
from rlgrad.settings import FollowSettings
from rlgrad.trainable import Trainable

Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def unit(problem: Trainable) -> str:
    """What the problem's work is counted in: env_steps, examples."""
    return problem.work.rpartition("/")[2]


@dataclass
class State:
    """Everything of a checkpoint but parameters and optimizer. Lists have one number for each of the R replicas."""

    done: Count = 0  # updates
    work: list[float] = field(default_factory=list)  # environment steps or examples so far
    steps_before: Count = 0  # the same before the last update, mean over replicas
    seconds: Amount = 0.0  # wall time, over all sittings
    evaluations: Count = 0  # of the objective, each time of all replicas together
    objective: list[float] = field(default_factory=list)  # of the last update, before it
    final: list[float] = field(default_factory=list)  # the objective of the parameters that are saved
    evaluation: dict[str, list[float]] = field(default_factory=dict)  # the metrics of the last evaluation
    first_solved: dict[str, int | Amount] | None = None
    finished: bool = False  # whether the problem has nothing left to do
    saving: Amount = 0.0  # seconds that went into checkpoints
    set_aside: dict[Count, Count] = field(default_factory=dict)  # replicas that diverged, and in which update

    def absorb(self, update: Update, values: Mapping[str, Tensor], work: str) -> None:
        """Take note of an update and of its values [R]."""
        counted, self.steps_before = values[work].tolist(), self.steps
        self.done = update.step + 1
        self.evaluations += update.evaluations
        self.work = [a + b for a, b in zip(self.work or [0.0] * len(counted), counted, strict=True)]
        self.objective = values["objective/value"].tolist()

    def judge(self, problem: Trainable) -> None:
        """Remember when the last evaluation of every replica was at the threshold for the first time."""
        if problem.solved is None or self.first_solved is not None:
            return
        metric, threshold = problem.solved
        if metric not in self.evaluation:
            raise RunError(f"{type(problem).__name__}.solved names {metric!r}, which its evaluate does not return")
        if min(self.remaining(self.evaluation[metric])) >= threshold:
            self.first_solved = {"env_steps": self.steps, "seconds": round(seconds_since_start(), 3)}

    def over(self, settings: FollowSettings) -> bool:
        """Whether there is nothing left to do."""
        return self.complete(settings) or (settings.stop_when_solved and self.first_solved is not None)

    def count(self, settings: FollowSettings) -> int:
        """How far it is, in what its length is told in."""
        return self.done if settings.updates else self.steps

    def complete(self, settings: FollowSettings) -> bool:
        return self.finished or self.count(settings) >= settings.length

    def due(self, every_updates: int | None, every_steps: int | None) -> bool:
        """Whether the last update was one of every so many, or crossed a multiple of so many steps."""
        if every_steps:
            return self.steps // every_steps > self.steps_before // every_steps
        return bool(every_updates) and self.done % (every_updates or 1) == 0

    def remaining(self, values: list[float]) -> list[float]:
        """Those of the replicas that have not been set aside."""
        return [value for replica, value in enumerate(values) if replica not in self.set_aside]

    def statistics(self, problem: Trainable, values: list[float]) -> dict[str, Any]:
        """What the replicas say together that have not been set aside."""
        return summarize(values, self.set_aside, problem.by_chance)

    def mean(self, value: Tensor) -> float:
        """Of values [R], over the replicas that have not been set aside; of those that there are, where some have none
        yet, as before a segment's first episode has ended."""
        if self.set_aside:
            value = value[[replica for replica in range(len(value)) if replica not in self.set_aside]]
        return float(value.nanmean())

    @property
    def steps(self) -> int:
        """Work so far, mean over replicas."""
        counted = self.remaining(self.work)
        return round(sum(counted) / max(1, len(counted)))

    def summary(self, settings: FollowSettings, problem: Trainable, status: str) -> dict[str, Any]:
        """The content of summary.json. Keys only ever get added."""
        result: dict[str, Any] = {
            "status": status,
            "direction": problem.direction.name.lower(),
            "wrong_sign": settings.wrong_sign,
            "updates": self.done,
            "wall_seconds": round(self.seconds, 3),
            "seed": settings.seed,
            "replicas": settings.replicas,
            unit(problem): self.steps,
            "objective": self.statistics(problem, self.final) if self.final else None,
            "set_aside": {str(replica): step for replica, step in self.set_aside.items()},
            "saving_seconds": round(self.saving, 3),
        }
        result |= {"headline": list(problem.headline), "by_chance": problem.by_chance}  # environment.json has it, too
        if problem.solved is not None:
            result["first_solved"] = self.first_solved
            result["threshold"] = dict([problem.solved])
        found = {name: self.statistics(problem, values) for name, values in self.evaluation.items()}
        return result | {f"evaluation.{name}": statistics for name, statistics in found.items()}


@cache
def validator() -> TypeAdapter[State]:
    """Checks what a checkpoint says of a state: a stranger may have written it. Making it takes a moment."""
    return TypeAdapter(State)

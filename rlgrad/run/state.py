"""How far a run is, and what its summary says."""

from dataclasses import dataclass, field
from typing import Any

from rlgrad.loop import Update
from rlgrad.run.clock import seconds_since_start
from rlgrad.run.statistics import summarize
from rlgrad.settings import RunSettings, Trainable


def unit(problem: Trainable) -> str:
    """What the problem's work is counted in: env_steps, examples."""
    return problem.work.rpartition("/")[2]


@dataclass
class State:
    """Everything of a checkpoint but parameters and optimizer. Lists have one number for each of the R replicas."""

    done: int = 0  # updates
    work: list[float] = field(default_factory=list)  # environment steps or examples so far
    seconds: float = 0.0  # wall time, over all sittings
    objective: list[float] = field(default_factory=list)  # of the last update
    evaluation: dict[str, list[float]] = field(default_factory=dict)  # the metrics of the last evaluation
    first_solved: dict[str, float] | None = None

    def absorb(self, update: Update, work: str) -> None:
        """Take note of an update."""
        counted = update.metrics[work].tolist()
        self.done = update.step + 1
        self.work = [a + b for a, b in zip(self.work or [0.0] * len(counted), counted, strict=True)]
        self.objective = update.value.tolist()

    def solved(self, problem: Trainable) -> bool:
        """Whether the last evaluation of every replica is at the threshold; the first such time is remembered."""
        if problem.solved is None:
            return False
        metric, threshold = problem.solved
        if min(self.evaluation[metric]) < threshold:
            return False
        if self.first_solved is None:
            self.first_solved = {"env_steps": self.steps, "seconds": round(seconds_since_start(), 3)}
        return True

    @property
    def steps(self) -> int:
        """Work so far, mean over replicas."""
        return round(sum(self.work) / max(1, len(self.work)))

    def summary(self, settings: RunSettings, problem: Trainable, status: str) -> dict[str, Any]:
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
            "objective": summarize(self.objective) if self.objective else None,
        }
        if problem.solved is not None:
            result["first_solved"] = self.first_solved
        return result | {f"evaluation.{name}": summarize(values) for name, values in self.evaluation.items()}

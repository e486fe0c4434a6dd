"""From a run directory to what was learned: a policy or a classifier."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgrad.config import Config
from rlgrad.errors import UsageError
from rlgrad.run import checkpoint, weights
from rlgrad.run.faults import attempt
from rlgrad.run.identity import check_data, trained_with
from rlgrad.run.resuming import content_of, recorded_config, say_what_has_changed
from rlgrad.run.statistics import number, summarize
from rlgrad.run.weights import Weights

if TYPE_CHECKING:
    from rlgrad.agents.trained import TrainedPolicy
    from rlgrad.supervised.trained import TrainedClassifier

APART = 2**40  # an update that no run comes to: its held-out episodes are none of a run's, or of `rlgrad evaluate`


def load(
    run: str | Path,
    *,
    replica: int | None = None,
    update: int | str | None = None,
    allow_imports: bool = False,
    environment: Any = None,
    policy: Any = None,
) -> "TrainedPolicy | TrainedClassifier":
    """What a run has learned: a policy with its normalisers, or a classifier with its preprocessing. Its `origin` says
    where it comes from.

    run: its directory, of which nothing is executed.
    replica: its number, from 0; None: the best of several, by an evaluation that is apart from those of the run.
    update: after how many updates, or "best", where `keep` has kept these weights; None: after the last.
    allow_imports: whether the config's `imports` may run code.
    environment, policy: as for `train`, where the run was given them; the network for a single replica.

    Raises UsageError in one line.
    """
    path = Path(run)
    config = recorded_config(path, allow_imports, {"environment": environment, "policy": policy})
    found = weights.read(weights.where(path, update))
    if found.description is None:
        message = "were written by an older version, without what it takes to use them"
        raise UsageError(f"{found.path}: the weights {message}: rlgrad train --resume {path} writes them anew")
    count = weights.replicas(found.tensors)
    if replica is not None and not 0 <= replica < count:
        raise UsageError(f"{path}: there is no replica {replica}: the run has the replicas 0 to {count - 1}")
    config.trained({name: tensor[:1] for name, tensor in found.tensors.items()}, found.description)  # or a refusal
    because = ""
    if replica is None:
        replica, because = (0, "") if count == 1 else best(config, found)
    told = ""
    if config.settings.grid:
        cell = config.settings.cells[replica // int(config.settings.replicas)]
        told, config = f" ({cell.name})", config.with_settings(config.settings.alone(replica))
    model: Any = config.trained({name: tensor[[replica]] for name, tensor in found.tensors.items()}, found.description)
    weights.check(found, found.description, model.description())
    model.origin = f"replica {replica} of {path}{told}, {stage(path, found, replica)}{because}"
    if because:
        print(model.origin, file=sys.stderr)
    return model  # type: ignore[no-any-return]


def stage(path: Path, found: Weights, replica: int) -> str:
    """How far the replica had been trained, and whether that was all."""
    done = found.update[replica] if isinstance(found.update, list) else found.update
    status = content_of(path / "summary.json").get("status", "not ended")
    unfinished = "" if status == "completed" else f" (the run is {status}; --resume goes on with it)"
    return f"after {done} updates{unfinished}"


def best(config: Config, found: Weights) -> tuple[int, str]:
    """The replica that is the best in a further evaluation, and why it was taken."""
    problem = config.build().problem
    metric, direction = problem.judged
    weights.fill(problem, found)
    values = attempt(lambda: problem.evaluate(APART), config.settings.update_seconds_limit)[metric].tolist()
    chosen = max(range(len(values)), key=lambda k: direction.sign * values[k])
    policy = (found.description or {}).get("form", {}).get("kind") == "policy"
    on = "new episodes, apart from all of the run's" if policy else "the held-out examples"
    return chosen, f": the best of {len(values)} on {on} ({metric.replace('_', ' ')} {number(values[chosen])})"


def evaluate(config: Config, path: Path, update: int | str | None, episode_seed: int) -> dict[str, Any]:
    """What an evaluation of all replicas comes to, or of those of each value of a sweep, played as their run played."""
    found = weights.read(weights.where(path, update))
    saved = checkpoint.load(path) or {}
    trained_with(path, saved, config.settings)
    problem = config.build().problem
    check_data(path, saved, problem)
    say_what_has_changed(path, config.settings, problem)
    weights.fill(problem, found)
    step = config.settings.length + episode_seed
    measured = attempt(lambda: problem.evaluate(step), config.settings.update_seconds_limit)
    return {
        f"{cell.name}: {name}" if cell.values else name: summarize(
            values[list(cell.replicas)].tolist(), by_chance=problem.by_chance
        )
        for cell in config.settings.cells
        for name, values in measured.items()
    }

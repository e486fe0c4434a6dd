"""Loads the trained model of a run: a policy or a classifier."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgrad.config import Config
from rlgrad.errors import UsageError
from rlgrad.files import in_command, read_json
from rlgrad.run import checkpoint, weights
from rlgrad.run.faults import attempt
from rlgrad.run.identity import check_data, trained_with
from rlgrad.run.resuming import recorded_config, say_what_has_changed
from rlgrad.run.statistics import number, summarize
from rlgrad.run.weights import Weights

if TYPE_CHECKING:
    from rlgrad.agents.trained import TrainedPolicy
    from rlgrad.supervised.trained import TrainedClassifier

APART = 2**40  # an update that no run reaches: its held-out episodes are new to every run and to `rlgrad evaluate`


def load(
    run: str | Path,
    *,
    replica: int | None = None,
    update: int | str | None = None,
    allow_imports: bool = False,
    environment: Any = None,
    policy: Any = None,
) -> "TrainedPolicy | TrainedClassifier":
    """The trained model of a run: a policy with its normalisers, or a classifier with its preprocessing. Its `origin`
    names the run, the replica and the update.

    run: the run directory; nothing in it is executed.
    replica: the replica's number, from 0; None: the best one in a new evaluation, separate from those of the run.
    update: the number of updates, or "best", if `keep` has kept these weights; None: the last update.
    allow_imports: whether the config's `imports` may run code.
    environment, policy: as for `train`, if the run was started with them; the network for a single replica.

    Raises UsageError in one line.
    """
    path = Path(run)
    config = recorded_config(path, allow_imports, {"environment": environment, "policy": policy})
    found = weights.read(weights.where(path, update))
    if found.description is None:
        message = f"{found.path}: the weights were written by an older version, and lack what is needed to use them"
        raise UsageError(f"{message}: rlgrad train --resume {in_command(path)} writes them again")
    count = weights.replicas(found.tensors)
    if replica is not None:
        replica = numbered(path, replica, count)
    # refuse what cannot be loaded, before the replicas are evaluated
    config.trained({name: tensor[:1] for name, tensor in found.tensors.items()}, found.description)
    because = ""
    if replica is None:
        replica, because = (0, "") if count == 1 else best(config, path, found)
    swept = ""
    if config.settings.grid:
        cell = config.settings.cells[replica // int(config.settings.replicas)]
        swept, config = f" ({cell.name})", config.with_settings(config.settings.alone(replica))
    model: Any = config.trained({name: tensor[[replica]] for name, tensor in found.tensors.items()}, found.description)
    weights.check(found, found.description, model.description())
    model.origin = f"replica {replica} of {path}{swept}, {stage(path, found, replica)}{because}"
    if because:
        print(model.origin, file=sys.stderr)
    return model  # type: ignore[no-any-return]


def numbered(path: Path, replica: int, count: int) -> int:
    """The number of one of a run's replicas. Raises UsageError if the run has no such replica."""
    if replica not in range(count) or isinstance(replica, bool):
        those = f"the replicas 0 to {count - 1}" if count > 1 else "one, replica 0"
        raise UsageError(f"{path}: there is no replica {replica!r}: the run has {those}")
    return int(replica)


def stage(path: Path, found: Weights, replica: int) -> str:
    """The number of updates that the replica was trained for, and whether its run is completed, as text."""
    done = found.update[replica] if isinstance(found.update, list) else found.update
    status = read_json(path / "summary.json").get("status", "not ended")
    unfinished = "" if status == "completed" else f" (the run is {status}; --resume goes on with it)"
    return f"after {done} update{'s' * (done != 1)}{unfinished}"


def set_aside(saved: Mapping[str, Any], found: Weights) -> set[int]:
    """The replicas that were set aside before these weights were kept: they count in no statistic. saved: the run's
    checkpoint."""
    aside = saved.get("state", {}).get("set_aside", {})
    done = found.update if isinstance(found.update, list) else [found.update or 0] * weights.replicas(found.tensors)
    return {replica for replica, updates in enumerate(done) if updates > aside.get(replica, updates)}


def best(config: Config, path: Path, found: Weights) -> tuple[int, str]:
    """The best replica in a new evaluation, and the reason for this choice as text."""
    problem = config.build().problem
    metric, direction = problem.judged
    weights.fill(problem, found)
    values = attempt(lambda: problem.evaluate(APART), config.settings.update_seconds_limit)[metric].tolist()
    left = sorted({*range(len(values))} - set_aside(checkpoint.load(path) or {}, found))
    chosen = max(left, key=lambda k: direction.sign * values[k])
    policy = (found.description or {}).get("form", {}).get("kind") == "policy"
    seen = "held-out" if held_out(config.settings.model_dump(), metric) else "training"
    on = "new episodes, other than those of the run" if policy else f"the {seen} examples"
    return chosen, f": the best of {len(left)} on {on} ({metric.replace('_', ' ')} {number(values[chosen])})"


def held_out(settings: Mapping[str, Any], metric: str) -> bool:
    """Whether a metric of a run with these settings is of what the run does not learn from."""
    apart = metric.startswith("validation_") or isinstance(settings.get("replicas"), dict)
    return apart or any(settings.get(name, True) for name in ("test_fraction", "test_data"))


def evaluate(config: Config, path: Path, update: int | str | None, episode_seed: int) -> dict[str, Any]:
    """Evaluate all replicas of a run again, as the run did. Returns the statistics; those of each cell in a sweep."""
    kept, saved = weights.read(weights.where(path, update)), checkpoint.load(path) or {}
    trained_with(path, saved, config.settings)
    problem = config.build().problem
    check_data(path, saved, problem)
    say_what_has_changed(path, config.settings, problem)
    weights.fill(problem, kept)
    step = config.settings.length + episode_seed
    measured = attempt(lambda: problem.evaluate(step), config.settings.update_seconds_limit)
    found, gone = {}, set_aside(saved, kept)
    for cell in config.settings.cells:
        without = {number for number, replica in enumerate(cell.replicas) if replica in gone}
        for name, numbers in measured.items():
            statistics = summarize(numbers[list(cell.replicas)].tolist(), without, problem.by_chance)
            found[f"{cell.name}: {name}" if cell.values else name] = statistics
    return found

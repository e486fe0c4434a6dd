"""Runs a run again, and compares the two bit for bit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rlgrad.errors import UsageError, printable, text_of
from rlgrad.files import read, read_json
from rlgrad.run import checkpoint, directory
from rlgrad.run.identity import check_data, trained_with
from rlgrad.run.observers.log import METRICS
from rlgrad.run.resuming import extensions, recorded_config, resume, say_what_has_changed
from rlgrad.run.training import launch
from rlgrad.run.weights import INITIAL, NAME
from rlgrad.trainable import Trainable


class Verdict(NamedTuple):
    """The result of a reproduction."""

    directory: Path  # of the second run
    identical: bool
    sentence: str


def reproduce(
    path: str | Path, *, out: str | Path | None = None, quiet: bool = True, allow_imports: bool = False
) -> Verdict:
    """Train a completed run again, in a new directory, and compare the two bit for bit.

    Raises UsageError if there is no completed run, and RunError if the second run fails.
    """
    path = Path(path)
    config = recorded_config(path, allow_imports)
    if read_json(path / "summary.json").get("status") != "completed":
        raise UsageError(f"{path}: the run is not completed, so there is no end to compare; --resume it first")
    saved = checkpoint.load(path) or {}
    trained_with(path, saved, config.settings)

    def check(problem: Trainable) -> None:
        check_data(path, saved, problem)
        say_what_has_changed(path, config.settings, problem)

    environment = read_json(path / "environment.json")
    whole, unit = config.settings.length, config.settings.counts
    lengths = [*(each for each in extensions(environment) if each < whole), whole]  # the run was extended at each
    begun = {unit: lengths[0]} | ({"initial": str(path / INITIAL)} if config.settings.initial else {})
    first = config.with_settings(config.settings.model_copy(update=begun), f"{path.name}-again")
    run = launch(first, out, quiet, check=check)
    for length in lengths[1:]:
        run = resume(run.directory, extend_to=length, quiet=quiet, allow_imports=allow_imports)
    changed = directory.otherwise(environment, directory.environment(config.settings, run.problem))
    return compare(path, run.directory, changed)


def compare(a: Path, b: Path, changed: list[str]) -> Verdict:
    """Compare two runs bit for bit. The verdict names the first difference. changed: the changes of the environment."""
    difference = first_difference_of_metrics(a, b) or first_difference_of_weights(a, b)
    if difference:
        difference = printable(difference)  # names and values come from a file
        because = f"; between the two, these have changed: {', '.join(changed)}" if changed else ""
        return Verdict(b, False, f"{a} and {b} differ: {difference}{because}")
    return Verdict(b, True, f"{a} and {b} are identical: every number of {METRICS} and every bit of {NAME}")


def first_difference_of_metrics(a: Path, b: Path) -> str | None:
    """The first difference between the logs of two runs as text, or None."""
    old, new = rows(a), rows(b)
    for one, other in zip(old, new, strict=False):
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                pair = f"{one.get(key)} in the first, {other.get(key)} in the second"
                return f"{METRICS}, update {one.get('update')}: {key} is {pair}"
    return f"{METRICS} has {len(old)} lines in the first, {len(new)} in the second" if len(old) != len(new) else None


def first_difference_of_weights(a: Path, b: Path) -> str | None:
    """The first difference between the weights of two runs as text, or None. Raises UsageError."""
    from safetensors.torch import load

    try:
        old, new = load(read(a / NAME)), load(read(b / NAME))
    except Exception as error:  # a damaged file can make safetensors raise anything
        raise UsageError(f"{a / NAME} cannot be read: {text_of(error)}") from error
    for name in sorted(old.keys() | new.keys()):
        x, y = old.get(name), new.get(name)
        if x is None or y is None or (x.shape, x.dtype) != (y.shape, y.dtype):
            return f"{NAME}: {name} has another shape, or is in only one of them"
        if x.numpy().tobytes() != y.numpy().tobytes():
            place = (x != y).nonzero()[:1].flatten().tolist()
            return f"{NAME}: {name}{place} is {x[tuple(place)]} in the first, {y[tuple(place)]} in the second"
    return None


def rows(path: Path) -> list[Mapping[str, Any]]:
    """The lines of metrics.jsonl. Raises UsageError."""
    try:
        return [dict(json.loads(line)) for line in read(path / METRICS).decode().splitlines()]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{path / METRICS} cannot be read: {text_of(error)}") from error

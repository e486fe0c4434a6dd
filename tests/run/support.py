"""Configs of runs that take no time, and what is read from run directories."""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from rlgrad.run import checkpoint
from rlgrad.run.observers.log import Log

AGENT = {
    "problem": "reinforce",
    "environment": "CartPole-v1",
    "episodes": 4,
    "updates": 6,
    "replicas": 2,
    "policy": {"hidden": [4]},
    "optimizer": {"name": "Adam", "lr": 0.05},
    "schedule": {"name": "ExponentialLR", "gamma": 0.9},
    "evaluation": {"every_updates": 2, "episodes": 5},
}
CLASSIFIER = {
    "problem": "logistic",
    "data": "iris",
    "batch_size": 16,
    "updates": 6,
    "replicas": 2,
    "optimizer": {"name": "LBFGS", "lr": 0.1, "max_iter": 3},
    "schedule": {"name": "ReduceLROnPlateau", "patience": 0, "factor": 0.5},
}
POINT = {  # nothing is faster
    "problem": "surface",
    "function": "rosenbrock",
    "updates": 4,
    "optimizer": {"name": "Adam", "lr": 0.1},
    "checkpoint": {"every_updates": 2},
    "evaluation": {"every_updates": 100},
}
SURFACE = {
    "problem": "surface",
    "function": "rosenbrock",
    "updates": 8,
    "replicas": 3,
    "optimizer": {"name": "SGD", "lr": 1e-4, "momentum": 0.9},
    "evaluation": {"every_updates": 3},
}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def events(path: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    return accumulator.Reload()


def summary(path: Path) -> dict[str, Any]:
    return json.loads((path / "summary.json").read_text())


def points(path: Path) -> list[tuple[str, int, float]]:
    """All of TensorBoard's, but for those that measure time."""
    found = events(path)
    return [(tag, p.step, p.value) for tag in found.Tags()["scalars"] if "speed" not in tag for p in found.Scalars(tag)]


def assert_same(one: Path, other: Path, *, with_events: bool = True) -> None:
    """Two runs are the same to the bit in everything but the time they took."""
    assert rows(one) == rows(other)
    assert [row["update"] for row in rows(one)] == list(range(1, len(rows(one)) + 1))
    if with_events:
        assert equal(points(one), points(other))
    a, b = (load_file(path / "model.safetensors") for path in (one, other))
    assert {k: v.numpy().tobytes() for k, v in a.items()} == {k: v.numpy().tobytes() for k, v in b.items()}
    a, b = (checkpoint.load(path) for path in (one, other))
    for part in ("model", "optimizer", "schedule", "problem"):
        assert equal(a[part], b[part]), part
    assert timeless(one) == timeless(other)


def timeless(path: Path) -> dict[str, Any]:
    """The summary, but for what depends on the clock."""
    return {k: v for k, v in summary(path).items() if k not in ("wall_seconds", "saving_seconds", "first_solved")}


def equal(a: Any, b: Any) -> bool:
    """Deep equality, of tensors to the bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b or (a != a and b != b)


class Crash(Exception):
    pass


def crashing(step: int, run: Callable[[], Any]) -> None:
    """Run until the update with this number is logged, and die."""
    original = Log.seen

    def seen(self: Log, run: Any, update: Any, record: Any) -> None:
        original(self, run, update, record)
        if update.step == step:
            self.flush()
            raise Crash

    Log.seen = seen  # type: ignore[method-assign]
    try:
        run()
        raise AssertionError("it did not crash")
    except Crash:
        pass
    finally:
        Log.seen = original  # type: ignore[method-assign]


def forked(work: Callable[[], Any], output: Path | None = None) -> int:
    """Do it in a process of its own, which starts at once as nothing is to be imported; the process's number.

    Its exit status is 0, or 7 with a traceback where `work` raises. output: where its standard error goes.
    """
    number = os.fork()
    if number:
        return number
    status = 7
    try:
        if output is not None:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        code = work()
        status = code if isinstance(code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

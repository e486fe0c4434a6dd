"""rlgrad: one training loop that moves parameters in two directions. `rlgrad.loop` is the page to read first."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlgrad.errors import RunError, UsageError
    from rlgrad.estimator import LogisticClassifier
    from rlgrad.loop import Apart, Direction, Estimate, Evaluation, Problem, Update, make_optimizer, updates
    from rlgrad.replicas import clipping
    from rlgrad.reports.loading import load
    from rlgrad.run import Run, follow, resume, train
    from rlgrad.run.observer import Observer, Record
    from rlgrad.trainable import Trainable

__version__ = "0.2.0"

_HOMES = {
    "rlgrad.loop": ("Apart", "Direction", "Estimate", "Evaluation", "Problem", "Update", "make_optimizer", "updates"),
    "rlgrad.replicas": ("clipping",),
    "rlgrad.reports.loading": ("load",),
    "rlgrad.run": ("Run", "follow", "resume", "train"),
    "rlgrad.run.observer": ("Observer", "Record"),
    "rlgrad.trainable": ("Trainable",),
    "rlgrad.estimator": ("LogisticClassifier",),
    "rlgrad.errors": ("RunError", "UsageError"),
}
__all__ = [
    "Apart", "Direction", "Estimate", "Evaluation", "LogisticClassifier", "Observer", "Problem", "Record", "Run",
    "RunError", "Trainable", "Update", "UsageError", "clipping", "follow", "load", "make_optimizer", "resume", "train",
    "updates",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: the bare loop needs no pydantic, no TensorBoard."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'rlgrad' has no attribute {name!r}")

"""rlgrad: one training loop that moves parameters in two directions. `rlgrad.loop` is the page to read first."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlgrad.errors import RunError, UsageError
    from rlgrad.loop import Direction, Estimate, Problem, Update, make_optimizer, updates
    from rlgrad.run import Run, resume, train

__version__ = "0.1.0"

_HOMES = {
    "rlgrad.loop": ("Direction", "Estimate", "Problem", "Update", "make_optimizer", "updates"),
    "rlgrad.run": ("Run", "resume", "train"),
    "rlgrad.errors": ("RunError", "UsageError"),
}
__all__ = [
    "Direction", "Estimate", "Problem", "Run", "RunError", "Update", "UsageError", "make_optimizer", "resume", "train",
    "updates",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: the bare loop needs no pydantic, no TensorBoard."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'rlgrad' has no attribute {name!r}")

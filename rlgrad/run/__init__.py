"""Runs: training from a config, or with a problem made in Python, written to a directory."""

from rlgrad.run.resuming import resume
from rlgrad.run.sitting import Run
from rlgrad.run.training import follow, train

__all__ = ["Run", "follow", "resume", "train"]

"""Runs: training from a config, written to a directory."""

from rlgrad.run.resuming import resume
from rlgrad.run.training import Run, train

__all__ = ["Run", "resume", "train"]

"""Runs: training from a config, written to a directory."""

from rlgrad.run.training import Run, resume, train

__all__ = ["Run", "resume", "train"]

"""Saves checkpoints of the run, regularly and at its end."""

import time

from rlgrad.errors import RunError, say
from rlgrad.loop import Update
from rlgrad.run import checkpoint, directory, weights
from rlgrad.run.following import Following
from rlgrad.run.identity import identity
from rlgrad.run.observer import Observer, Record, by_name, tell

SHARE = 0.02  # the largest share of a run's time for checkpoints that are made by the clock


class Checkpoints(Observer):
    """Saves everything that a run needs to continue to the same bits."""

    def begin(self, run: Following) -> None:
        self.saved, self.cost = time.monotonic(), 0.0  # when the last checkpoint was made, and the seconds it took

    def seen(self, run: Following, update: Update, record: Record) -> None:
        asked = bool(run.save_signals)
        run.save_signals.clear()
        if not run.over and (asked or self.due(run)):  # at the end one is always made
            self.save(run)

    def due(self, run: Following) -> bool:
        """Whether a checkpoint is due, by updates or by the clock."""
        every = run.settings.checkpoint
        by_updates = every.every_updates is not None and run.state.done % every.every_updates == 0
        if by_updates or every.every_seconds is None:
            return by_updates
        return run.now - self.saved >= max(every.every_seconds, self.cost / SHARE)

    def save(self, run: Following) -> None:
        """Save a checkpoint. Raises OSError, and RunError if a checkpoint cannot hold the state of an observer."""
        if run.directory is None:
            return
        began = time.monotonic()
        states = {name: tell(observer, "state_dict") for name, observer in by_name(run.observers).items()}
        states["the problem"] = run.attempt(run.problem.state_dict)
        for name, state in states.items():
            if not checkpoint.readable(state):
                kinds = "tensors, numbers, texts, bytes, lists and dicts"
                raise RunError(f"{name}: its state_dict must be made of {kinds}")
        content = {
            "model": run.problem.model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "schedule": run.schedule.state_dict() if run.schedule else None,
            "problem": states.pop("the problem"),
            "state": vars(run.state),
            **identity(run),
            "observers": {name: state for name, state in states.items() if state is not None},
        }
        checkpoint.save(run.directory, content)
        weights.save(run.directory / weights.NAME, run.problem, run.state.best or run.state.done)
        for name in directory.describe(run.directory, run.settings, run.problem, anew=False):
            say(f"{run.directory / name} was removed; it is written again")
        self.saved = time.monotonic()
        self.cost = self.saved - began
        run.state.saving += self.cost

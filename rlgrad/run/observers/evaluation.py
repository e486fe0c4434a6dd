"""Evaluates on held-out data, regularly and after the last update."""

from rlgrad.loop import Update
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record


class HeldOut(Observer):
    """Adds `evaluation/…` to the record, and notes when the problem was first solved."""

    def seen(self, run: Following, update: Update, record: Record) -> None:
        wanted = run.settings.evaluation
        if not (run.state.complete(run.settings) or run.state.due(wanted.every_updates, wanted.every_steps)):
            return
        self.evaluate(run, update, record)

    def evaluate(self, run: Following, update: Update, record: Record) -> None:
        """Evaluate now, and add the result to the record and the state."""
        found = run.counted(dict(run.attempt(lambda: run.problem.evaluate(update.step))))
        record.evaluated = True
        record.values |= {f"evaluation/{name}": value for name, value in found.items()}
        run.state.evaluation = {name: value.tolist() for name, value in found.items()}
        run.state.judge(run.problem, run.swept)

"""Early stopping: stops each replica when it no longer improves on held-out examples, and restores its best weights."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from rlgrad.loop import Update
from rlgrad.run.following import Following
from rlgrad.run.observer import Record
from rlgrad.run.observers.evaluation import HeldOut
from rlgrad.run.observers.keep import Best
from rlgrad.run.statistics import number


class EarlyStopping(HeldOut):
    """Held-out evaluation with early stopping: a replica stops after `patience` evaluations in a row that are no better
    (Prechelt 1998, https://doi.org/10.1007/3-540-49430-8_3). It then keeps its best weights while others go on. At the
    end of the run all replicas get their best weights, and the results and saved weights are those."""

    def __init__(self) -> None:
        self.best = Best()
        self.waited: list[int] = []  # [R] evaluations since the best one
        self.stopped: dict[int, int] = {}  # replica -> the number of updates after which it stopped
        self.last: dict[str, torch.Tensor] = {}  # the last weights, before the best ones replaced them at the end
        self.before: dict[str, Any] = {}  # all of this before an evaluation that only the end of the run asked for

    def begin(self, run: Following) -> None:
        """Undo the old end, if the run was made longer: a run that was always so long has none there."""
        if self.last and not run.over:
            run.problem.model.load_state_dict(self.last)
            run.state.best, self.last = [], {}
            if self.before:
                self.load_state_dict(self.before)
            self.restore_best(run, self.stopped)

    def seen(self, run: Following, update: Update, record: Record) -> None:
        """Evaluate if it is due, and stop the replicas that have waited for `patience` evaluations."""
        patience, state, wanted = run.problem.patience or 0, run.state, run.settings.evaluation
        self.restore_best(run, self.stopped)
        super().seen(run, update, record)
        if not record.evaluated:
            return
        due = state.due(wanted.every_updates, wanted.every_steps)
        self.before = {} if due else copy.deepcopy(self.content())
        better = self.best.improved(run, record)
        self.waited = [0 if k in better else n + 1 for k, n in enumerate(self.waited or [0] * run.replicas)]
        new = [k for k, n in enumerate(self.waited) if n >= patience and k not in {*self.stopped, *state.set_aside}]
        self.stopped |= dict.fromkeys(new, state.done)
        state.finished |= due and len({*self.stopped, *state.set_aside}) == run.replicas
        if state.over(run.settings):
            self.last = {name: tensor.clone() for name, tensor in run.problem.model.state_dict().items()}
            new, state.best = list(range(run.replicas)), list(self.best.updates)
        if new:
            self.restore_best(run, new)
            self.evaluate(run, update, record)

    @torch.no_grad()
    def restore_best(self, run: Following, replicas: Iterable[int]) -> None:
        """Give these replicas their best weights."""
        model = run.problem.model.state_dict()
        for k in replicas:
            for name, tensor in self.best.tensors.items():
                model[name][k] = tensor[k]

    def conclusion(self, run: Following) -> Sequence[str]:
        if not run.state.best:
            return ()
        metric, _ = run.problem.judged or ("", None)
        of = [k for k in range(run.replicas) if k not in run.state.set_aside]
        ends, best = sorted(self.stopped.values()), sorted(self.best.updates[k] for k in of)
        who = "" if run.replicas == 1 else f"{len(ends)} of {run.replicas} replicas "
        why = f"no better {metric.replace('_', ' ')} in {run.problem.patience} evaluations in a row"
        said = f"{who}stopped early at {span(ends)}: {why}" if ends else "no replica stopped early"
        value = number(sum(self.best.values[k] for k in of) / len(of))
        return [f"{said}; the weights are those of {span(best)}, where it was best: {value}"]

    def content(self) -> dict[str, Any]:
        """The state, with the tensors themselves."""
        return {**vars(self), "best": vars(self.best)}

    def state_dict(self) -> Any:
        return self.content() if self.waited else None

    def load_state_dict(self, state: Any) -> None:
        vars(self.best).update(state["best"])
        vars(self).update({name: value for name, value in state.items() if name != "best"})


def span(updates: Sequence[int]) -> str:
    """The range of sorted update numbers as text: 'update 70', 'updates 60 to 90'."""
    return f"update {updates[0]}" if updates[0] == updates[-1] else f"updates {updates[0]} to {updates[-1]}"

"""Compares the effect of an update with what its gradient predicted."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from rlgrad.loop import Update, parameters_apart
from rlgrad.replicas import product_per_replica
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record
from rlgrad.trainable import Trainable


class Diagnosis(Observer):
    """Adds the problem's diagnosis of the update to the record, every `diagnose_every_updates`."""

    def seen(self, run: Following, update: Update, record: Record) -> None:
        if update.step % run.settings.diagnose_every_updates:
            return
        found = run.counted(dict(run.attempt(lambda: effect(run.problem, update, run.step()))))
        remaining = [replica for replica in range(run.replicas) if replica not in run.state.set_aside]
        # a step may leave the domain of a function, and give values that are not finite
        record.values |= {tag: value for tag, value in found.items() if value[remaining].isfinite().all()}


def effect(problem: Trainable, update: Update, step: Iterable[Tensor]) -> Mapping[str, Tensor]:
    """The problem's diagnosis of an update, [R] each. step: the change of each parameter."""
    theirs = parameters_apart(problem.model)  # left out: a critic has another objective, its error
    pairs = zip(problem.model.parameters(), update.gradient, strict=True)
    gradient = [None if parameter in theirs else g for parameter, g in pairs]
    return problem.diagnose(update, product_per_replica(gradient, step))

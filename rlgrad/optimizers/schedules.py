"""The schedules of a config: all of torch's, and some that torch offers only through a function."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, optim
from torch.optim.lr_scheduler import *  # noqa: F403 - a config finds them all by name in this one module
from torch.optim.lr_scheduler import LRScheduler

from rlgrad.optimizers.parts import groups_of_each, is_count, require


def advance(schedule: LRScheduler, value: Any, place: int | None) -> None:
    """Let a schedule set the next learning rate. value: the objective, or in a sweep that of each value: a schedule may
    watch it. place: set the learning rate of update `place`, however far from the last one; None: of the next update.
    Raises TypeError for a schedule that can only move to the next place, such as SequentialLR."""
    if isinstance(schedule, optim.lr_scheduler.ReduceLROnPlateau):
        schedule.step(value)
    elif place is None:
        schedule.step()
    else:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch warns unless it is the next one
            schedule.step(place)


def counts_steps(schedule: LRScheduler) -> bool:
    """Return whether `advance` can move a schedule to any place: its learning rate there must not depend on the one
    before, as that of MultiplicativeLR does. The schedule and its optimizer are left as they were."""
    if isinstance(schedule, optim.lr_scheduler.ReduceLROnPlateau):  # it counts nothing
        return True
    groups, before = schedule.optimizer.param_groups, dict(vars(schedule))
    saved, found = [dict(group) for group in groups], list[list[float]]()
    try:
        place = schedule.last_epoch + 1
        for more in (0.0, 1.0):
            for group, values in zip(groups, saved, strict=True):
                group["lr"] = values["lr"] + more
            advance(schedule, None, place)
            found.append([float(group["lr"]) for group in groups])
    except Exception:  # SequentialLR raises a TypeError, and a user's own anything
        return False
    finally:
        vars(schedule).clear()
        vars(schedule).update(before)
        for group, values in zip(groups, saved, strict=True):
            group.update(values)
    return found[0] == found[1]


class Hyperbolic(LRScheduler):
    """lr / (1 + decay (j + i)) + floor, at update i of epoch j.

    The learning rate falls within an epoch. Each epoch starts again at lr / (1 + decay j) + floor, which falls from
    epoch to epoch. It is the schedule of Harrington's "Machine Learning in Action", section 5.2.

    epoch_length: updates in an epoch.
    floor: the learning rate never falls below this.
    """

    def __init__(
        self,
        optimizer: optim.Optimizer,
        epoch_length: int,
        decay: float = 1.0,
        floor: float = 0.0,
        last_epoch: int = -1,
    ):
        require(is_count(epoch_length), "epoch_length must be a whole number of at least 1", epoch_length)
        self.epoch_length, self.decay, self.floor = epoch_length, decay, floor
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each parameter group."""
        epoch, update = divmod(self.last_epoch, self.epoch_length)  # torch calls every step an epoch
        return [lr / (1 + self.decay * (epoch + update)) + self.floor for lr in self.base_lrs]


class ReduceLROnPlateau(optim.lr_scheduler.ReduceLROnPlateau):  # type: ignore[no-redef]
    """torch's ReduceLROnPlateau, corrected for objectives below zero.

    A relative threshold requires an improvement by a part of the best value so far. torch requires best · (1 ±
    threshold), which is worse than `best` below zero: there a constant objective counts as better each time, and the
    learning rate is never reduced. Here the requirement is best ± threshold · |best|.
    """

    def _is_better(self, value: float, best: float) -> bool:
        margin = self.threshold
        if self.threshold_mode == "rel":
            margin = margin * abs(best) if math.isfinite(best) else 0.0
        return bool(value > best + margin if self.mode == "max" else value < best - margin)


class PlateauOfEach(ReduceLROnPlateau):
    """One ReduceLROnPlateau for each value of a sweep, on its own groups. `step` takes one objective per value."""

    def __init__(self, optimizer: optim.Optimizer, **arguments: Any):
        self.optimizer = optimizer
        self.each = list(self.on_groups_of_each(lambda _: ReduceLROnPlateau(optimizer, **arguments)))

    def on_groups_of_each(self, act: Callable[[int], Any]) -> Iterator[Any]:
        """Yield act(n) for each value n of the sweep, with the optimizer reduced to the groups of that value."""
        every = self.optimizer.param_groups
        try:
            for number, own in enumerate(groups_of_each(self.optimizer)):
                self.optimizer.param_groups = own
                yield act(number)
        finally:
            self.optimizer.param_groups = every

    def step(self, values: Sequence[float]) -> None:  # type: ignore[override]
        for _ in self.on_groups_of_each(lambda number: self.each[number].step(values[number])):
            pass

    def state_dict(self) -> dict[str, Any]:
        return {"each": [schedule.state_dict() for schedule in self.each]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for schedule, state in zip(self.each, state_dict["each"], strict=True):
            schedule.load_state_dict(state)

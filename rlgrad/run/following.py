"""Follows the updates of the loop: acts on the run after each update, and calls its observers."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from rlgrad import distributed
from rlgrad.errors import RunError, say
from rlgrad.loop import Update, updates
from rlgrad.optimizers.parts import of_each
from rlgrad.optimizers.schedules import PlateauOfEach, advance
from rlgrad.replicas import clipping, norm_per_replica
from rlgrad.run import divergence
from rlgrad.run.faults import attempt, limited
from rlgrad.run.observer import Observer, Record, tell
from rlgrad.run.signals import received
from rlgrad.run.state import State
from rlgrad.settings import FollowSettings
from rlgrad.trainable import Trainable

Answer = TypeVar("Answer")


class Following:
    """A run in progress: what it trains, its state, and its observers. An observer may read all of it."""

    def __init__(
        self,
        settings: FollowSettings,
        problem: Trainable,
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler | None,
        observers: Sequence[Observer],
        directory: Path | None,
        state: State | None = None,
        here: Path | None = None,
    ):
        """directory: an absolute path, as an environment may change the working directory. here: messages show the path
        of the directory relative to this one."""
        self.settings, self.problem, self.optimizer, self.schedule = settings, problem, optimizer, schedule
        self.observers, self.directory = list(observers), directory
        self.shown = directory.relative_to(here) if directory and here and directory.is_relative_to(here) else directory
        self.state = state or State()
        self.stop_signals: list[int] = []  # the signals that ask this process to end the run
        self.interrupted: list[int] = []  # such signals to any process of the run, before this update
        self.save_signals: list[int] = []  # the signals that ask for a checkpoint
        self.swept = settings.cells if settings.grid else []  # the cells of a sweep
        self.by_chance = problem.by_chance and not self.swept  # whether all replicas differ by chance alone
        self.replicas = len(settings.seeds)
        self.parameters = list(problem.model.parameters())
        self.before: list[Tensor] = []  # the parameters before the update
        self.last: Update | None = None
        with received() as (asked, _), limited(settings.update_seconds_limit):
            self.facts = problem.facts  # this may run an environment
        if asked:
            raise KeyboardInterrupt(asked[0])

    def __call__(self) -> None:
        """Train until all updates are done, the problem is solved, or the run is interrupted."""
        settings = self.settings
        most = settings.spread().max_gradient_norm
        transform = None if most is None else clipping(most)
        stream = updates(self.problem, self.optimizer, self.state.done, transform)
        self.began = self.now = time.monotonic()
        self.earlier = self.state.seconds
        acts = (
            self.judge,  # first, so that no observer sees the values of a diverged replica
            self.count,
            self.advance,  # sets the next learning rate; the record has the one that was used
        )
        self.remember()
        while not self.ends():
            self.problem.progress = self.state.count(settings) / settings.length
            update = self.last = self.attempt(lambda: next(stream))
            record = self.measured(update)
            for act in acts:
                act(update, record)
            for observer in self.observers:
                tell(observer, "seen", self, update, record)
            self.remember()

    def ends(self) -> bool:
        """Whether the run is over; all processes of the run agree on this."""
        self.interrupted = distributed.anyone(self.stop_signals)
        return self.over

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do, or the run was interrupted."""
        return bool(self.interrupted) or self.state.over(self.settings)

    def attempt(self, call: Callable[[], Answer]) -> Answer:
        """Return what `call` returns. Raises RunError with one line if it fails or takes too long."""
        return attempt(call, self.settings.update_seconds_limit)

    def step(self) -> list[Tensor]:
        """The change of each parameter in the update, [R, ...]."""
        return [p.detach() - b for p, b in zip(self.parameters, self.before, strict=True)]

    def counted(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The values [R] with NaN for the replicas set aside. Raises RunError if a value is not of shape [R]."""
        for tag, value in values.items():
            if not isinstance(value, Tensor) or list(value.shape) != [self.replicas]:
                found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise RunError(f"{tag} must be a tensor of shape [{self.replicas}], the replicas: not {found}")
        return divergence.blank(values, self.state.set_aside)

    def measured(self, update: Update) -> Record:
        """The record of an update."""
        values = {"objective/value": update.value, "gradient/norm": update.gradient_norm, **update.metrics}
        values["work/evaluations"] = torch.full_like(update.value, float(update.evaluations))
        values["update/size"] = norm_per_replica(self.step())
        rate, tag = of_each(self.optimizer, "lr"), "update/learning_rate"
        if isinstance(rate, np.ndarray):
            return Record(values | {tag: torch.as_tensor(rate)})
        return Record(values, {tag: float(rate)})

    def judge(self, update: Update, record: Record) -> None:
        """Find diverged replicas: the run fails, or they return to their last parameters and no longer count."""
        aside, settings = self.state.set_aside, self.settings
        for sentence in divergence.judge(update.step, record.values, aside, settings.on_divergence):
            say(sentence)
        divergence.freeze(self.parameters, self.before, aside)
        record.values = self.counted(record.values)

    def count(self, update: Update, record: Record) -> None:
        """Count what has been done so far, in updates, work and seconds."""
        if self.problem.work not in record.values:
            name = type(self.problem).__name__
            raise RunError(f"{name}.work is {self.problem.work!r}, which is not among the metrics of its objective")
        done = float(record.values[self.problem.work].nansum())
        self.state.absorb(update, record.values, self.problem.work)
        self.state.finished = self.problem.finished
        evaluations = torch.full_like(update.value, float(self.state.evaluations))
        record.values |= self.counted({"work/evaluations": evaluations})
        record.values[self.problem.work] = torch.tensor(self.state.work)
        lap, self.now = self.now, time.monotonic()
        self.state.seconds, seconds = self.earlier + self.now - self.began, max(self.now - lap, 1e-9)
        record.numbers |= {"speed/work_per_second": done / seconds, "speed/updates_per_second": 1 / seconds}
        record.numbers["speed/seconds"] = self.state.seconds

    def advance(self, update: Update, record: Record) -> None:
        """Let the schedule set the next learning rate; some schedules use the objective for this."""
        schedule, values = self.schedule, record.values["objective/value"]
        if schedule is None:
            return
        each = isinstance(schedule, PlateauOfEach)
        value = values.reshape(len(self.swept), -1).nanmean(1).tolist() if each else self.state.mean(values)
        self.attempt(lambda: advance(schedule, value, self.place))

    @property
    def place(self) -> int | None:
        """The place of the schedule if the run is told in steps: the last update may go too far. None: the next one."""
        return min(self.state.steps, self.settings.steps) if self.settings.steps else None

    def catch_up(self) -> None:
        """Let a run that was made longer leave the old end. Raises what its schedule raises."""
        self.state.leave_end(self.settings)
        watches = isinstance(self.schedule, ReduceLROnPlateau)
        if self.schedule and self.place and not watches and self.place != self.schedule.last_epoch:
            advance(self.schedule, None, self.place)

    @torch.no_grad()
    def remember(self) -> None:
        """Copy the parameters into `before`."""
        self.before = self.before or [parameter.detach().clone() for parameter in self.parameters]
        for kept, parameter in zip(self.before, self.parameters, strict=True):
            kept.copy_(parameter)

    def finish(self) -> None:
        """Measure the objective of the parameters that will be saved."""
        update = self.last
        if update is not None:
            final = self.attempt(lambda: self.problem.final(update))
            self.state.final = [math.nan if k in self.state.set_aside else float(v) for k, v in enumerate(final)]

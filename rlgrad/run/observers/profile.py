"""Measures where the time of a run goes: `--profile`.

Without `--profile` this costs nothing: only a profiled run has its functions replaced by timed ones.
"""

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, record_function

from rlgrad.errors import say
from rlgrad.loop import Evaluation
from rlgrad.run import checkpoint
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer

TRACED = 3  # updates in the trace, after the same number before it; viewers are slow with a longer trace
SAMPLING = "sampling, else"


class Profile(Observer):
    """Adds up the seconds of each activity. Each second counts once, for the innermost activity.

    trace: where to write a trace of a few updates, for Perfetto (ui.perfetto.dev) or chrome://tracing.
    """

    def __init__(self, trace: Path):
        self.trace = trace
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self.stack = ["everything else"]
        self.since = time.perf_counter()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self.torch = torch.profiler.profile(activities=activities, acc_events=True)
        self.tracing = False
        self.before: list[tuple[Any, str, Any]] = []

    def begin(self, run: Following) -> None:
        """Replace these functions, those in `problem.timed`, and the other observers by timed ones."""
        problem: Any = run.problem
        timed: dict[str, tuple[Any, str]] = {
            SAMPLING: (problem, "sample"),
            "evaluation, else": (problem, "evaluate"),
            "diagnosis, else": (problem, "diagnose"),
            "objective": (Evaluation, "__call__"),
            "optimizer": (run.optimizer, "step"),
            "checkpoint": (checkpoint, "save"),
            **problem.timed,
        }
        watching = {type(each).__name__.lower(): (each, "seen") for each in run.observers if each is not self}
        for name, (owner, attribute) in (timed | watching).items():
            self.before.append((owner, attribute, vars(owner).get(attribute)))
            setattr(owner, attribute, self.timed(name, getattr(owner, attribute)))
        self.since = time.perf_counter()

    def end(self, run: Following, summary: Mapping[str, Any]) -> None:
        """Print the report."""
        self._count()
        self._write()
        print("\n".join(["", *self.report()]))
        if self.calls[SAMPLING] <= TRACED:
            say(f"no {self.trace.name}: the trace begins at update {TRACED + 1}, and there were {self.calls[SAMPLING]}")

    def close(self) -> None:
        """Put the original functions back."""
        for owner, name, function in self.before:
            if function is None:
                delattr(owner, name)
            else:
                setattr(owner, name, function)
        self.before = []

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its seconds counted under this name."""

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            self._count()
            self.calls[name] += 1
            if name == SAMPLING:
                self._begin_update()
                self.since = time.perf_counter()  # the time for the trace itself does not count
            self.stack.append(name)
            try:
                with record_function(name):
                    return function(*arguments, **options)
            finally:
                self._count()
                self.stack.pop()

        return call

    def report(self) -> list[str]:
        """The lines of the report, one for each activity, the longest first."""
        whole = sum(self.seconds.values())
        lines = [f"{'where the time went':24} {'seconds':>9} {'part':>6} {'calls':>9}"]
        for name, seconds in sorted(self.seconds.items(), key=lambda item: item[1], reverse=True):
            lines.append(f"{name:24} {seconds:9.3f} {seconds / whole:6.1%} {self.calls.get(name, 0) or '':>9}")
        return lines

    def _count(self) -> None:
        now = time.perf_counter()
        self.seconds[self.stack[-1]] += now - self.since
        self.since = now

    def _begin_update(self) -> None:
        number = self.calls[SAMPLING]
        if number == TRACED + 1:
            self.torch.start()
            self.tracing = True
        elif number == 2 * TRACED + 1:
            self._write()

    def _write(self) -> None:
        if self.tracing:
            self.tracing = False
            self.torch.stop()
            self.torch.export_chrome_trace(str(self.trace))

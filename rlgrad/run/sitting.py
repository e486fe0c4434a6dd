"""One sitting of a run: from its first update, or from a checkpoint, to its end."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlgrad import ranks
from rlgrad.errors import RunError
from rlgrad.files import reason
from rlgrad.run import checkpoint, directory, weights
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, tell
from rlgrad.run.observers.checkpoints import Checkpoints
from rlgrad.run.observers.diagnosis import Diagnosis
from rlgrad.run.observers.evaluation import HeldOut
from rlgrad.run.observers.keep import Keep
from rlgrad.run.observers.log import Log
from rlgrad.run.observers.pictures import Pictures
from rlgrad.run.observers.progress import Display
from rlgrad.run.observers.stopping import EarlyStopping
from rlgrad.run.signals import received
from rlgrad.settings import FollowSettings
from rlgrad.trainable import Trainable


@dataclass(frozen=True)
class Run:
    """A run that has ended: its directory, settings and summary, and the problem with its trained model."""

    directory: Path
    settings: FollowSettings
    problem: Trainable
    summary: dict[str, Any]
    signal: int | None = None  # the signal that interrupted the run, if any


def begin(run: Following, quiet: bool, profile: bool = False) -> Run:
    """Train from the first update."""
    assert run.directory is not None
    try:
        if run.settings.initial and ranks.here.first:
            weights.save(run.directory / weights.INITIAL, run.problem, 0)
        if ranks.here.first:
            directory.describe(run.directory, run.settings, run.problem)
    except OSError as error:
        raise RunError(f"{run.directory}: the run directory cannot be written to: {reason(error)}") from error
    run.observers += own(run)
    return sit(run, Log(run.directory), quiet, profile)


def sit(run: Following, log: Log, quiet: bool, profile: bool = False) -> Run:
    """Run one sitting to its end, and write the summary."""
    path, saver = log.directory, Checkpoints()
    run.observers = watchers(run, log, quiet, saver, profile)
    status, failure, conclusion, findings = "failed", None, None, dict[str, Any]()
    try:
        with received() as (run.stop_signals, run.save_signals):
            try:
                for observer in run.observers:
                    tell(observer, "begin", run)
                run()
                run.finish()
                if ranks.here.first:
                    saver.save(run)
                said = [each for observer in run.observers for each in tell(observer, "conclusion", run)]
                conclusion = [*said, *run.attempt(run.problem.conclusion)]
                findings = dict(run.problem.findings())
                status = "completed" if run.state.over(run.settings) else "interrupted"
            except RunError as error:
                failure = f"update {run.state.done}: {error}"
            except OSError as error:
                failure = f"update {run.state.done}: the run directory cannot be written to: {reason(error)}"
            summary = run.state.summary(run.settings, run.problem, status)
            summary |= ({"conclusion": conclusion} if conclusion else {}) | findings
            summary |= {"error": failure} if failure else {}
            ends = [fault_of(write, path, summary)]
            ends += [fault_of(tell, observer, "end", run, summary) for observer in run.observers]
    finally:
        closed = [fault_of(tell, observer, "close") for observer in run.observers]
        run.problem.close()
    if fault := failure or next((fault for fault in (*ends, *closed) if fault), None):
        if not failure:
            fault_of(write, path, summary | {"status": "failed", "error": fault})
        raise RunError(f"{run.shown}: {fault}; {remains(path)}")
    by = min(run.interrupted, key=lambda number: number == signal.SIGPIPE) if status == "interrupted" else None
    return Run(run.shown or path, run.settings, run.problem, summary, by)


def own(run: Following) -> list[Observer]:
    """The observers of every run whose state is saved in its checkpoints."""
    return [EarlyStopping() if run.problem.patience else HeldOut(), Keep()]


def watchers(run: Following, log: Log, quiet: bool, saver: Checkpoints, profile: bool) -> list[Observer]:
    """The observers of a run, in order. Of several processes only the first writes files and shows progress."""
    taking_part = [Diagnosis(), *(each for each in run.observers if isinstance(each, HeldOut))]
    if not ranks.here.first:
        return taking_part
    others = (each for each in run.observers if each not in taking_part)
    found = [*taking_part, Pictures(), *others, log, *([] if quiet else [Display()]), saver]
    if profile:
        from rlgrad.run.observers.profile import Profile

        found.append(Profile(log.directory / "trace.json"))
    return found


def write(path: Path, summary: Mapping[str, Any]) -> None:
    """Write the summary of a run. Raises OSError."""
    if ranks.here.first:
        directory.write_json(path / "summary.json", summary)


def fault_of(call: Callable[..., Any], *arguments: Any) -> str | None:
    """Call a function. Returns its error as text, or None, so that what comes after it is still done."""
    try:
        call(*arguments)
    except RunError as error:
        return str(error)
    except OSError as error:
        return f"the run directory cannot be written to: {reason(error)}"
    return None


def remains(path: Path) -> str:
    """The sentence that says whether a failed run has a checkpoint."""
    return "the last checkpoint is whole" if checkpoint.exists(path) else "there is no checkpoint"

"""One sitting of a run: from its first update, or from a checkpoint, to its end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlgrad.errors import RunError
from rlgrad.run import checkpoint, directory, weights
from rlgrad.run.files import reason
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, tell
from rlgrad.run.observers.checkpoints import Checkpoints
from rlgrad.run.observers.diagnosis import Diagnosis
from rlgrad.run.observers.evaluation import HeldOut
from rlgrad.run.observers.keep import Keep
from rlgrad.run.observers.log import Log
from rlgrad.run.observers.progress import Display
from rlgrad.run.signals import interruptions
from rlgrad.settings import FollowSettings
from rlgrad.trainable import Trainable


@dataclass(frozen=True)
class Run:
    """A run that has ended: where it is written, what came out, and the problem with its trained model."""

    directory: Path
    settings: FollowSettings
    problem: Trainable
    summary: dict[str, Any]
    signal: int | None = None  # that interrupted it


def begin(run: Following, quiet: bool, profile: bool = False) -> Run:
    """Train from the first update."""
    assert run.directory is not None
    try:
        if run.settings.initial:
            weights.save(run.directory / weights.INITIAL, run.problem, 0)
        directory.write_text(run.directory / "config.yaml", directory.dump(run.settings))
        directory.write_json(run.directory / "environment.json", directory.environment(run.settings, run.problem.facts))
    except OSError as error:
        raise RunError(f"{run.directory}: the run directory cannot be written to: {reason(error)}") from error
    run.observers.append(Keep())
    return sit(run, Log(run.directory), quiet, profile)


def sit(run: Following, log: Log, quiet: bool, profile: bool = False) -> Run:
    """Follow a run to its end in this sitting, and write what came out."""
    path, saver = log.directory, Checkpoints()
    run.observers = [Diagnosis(), HeldOut(), *run.observers, log, Display(quiet), saver]
    if profile:
        from rlgrad.run.observers.profile import Profile

        run.observers.append(Profile(path / "trace.json"))
    status, failure, conclusion = "failed", None, None
    try:
        with interruptions() as run.interrupted:
            try:
                for observer in run.observers:
                    tell(observer, "begin", run)
                run()
                run.finish()
                saver.save(run)
                conclusion = list(run.attempt(run.problem.conclusion))
                status = "completed" if run.state.over(run.settings) else "interrupted"
            except RunError as error:
                failure = f"update {run.state.done}: {error}"
            except OSError as error:
                failure = f"update {run.state.done}: the run directory cannot be written to: {reason(error)}"
            summary = run.state.summary(run.settings, run.problem, status)
            summary |= {"conclusion": conclusion} if conclusion else {}
            summary |= {"error": failure} if failure else {}
            try:
                directory.write_json(path / "summary.json", summary)
            except OSError as error:
                failure = failure or f"the run directory cannot be written to: {reason(error)}"
            ends = [told(observer, "end", run, summary) for observer in run.observers]
    finally:
        closed = [told(observer, "close") for observer in run.observers]
    failure = next((fault for fault in (failure, *ends, *closed) if fault), None)
    if failure:
        raise RunError(f"{path}: {failure}; {remains(path)}")
    return Run(path, run.settings, run.problem, summary, run.interrupted[0] if status == "interrupted" else None)


def told(observer: Observer, *what: Any) -> str | None:
    """Tell an observer, whatever comes of it: those after it are told all the same. What went wrong."""
    try:
        tell(observer, *what)
    except RunError as error:
        return str(error)
    except OSError as error:
        return f"the run directory cannot be written to: {reason(error)}"
    return None


def remains(path: Path) -> str:
    """What there is to go on from after a failure."""
    return "the last checkpoint is whole" if checkpoint.exists(path) else "there is no checkpoint"

"""A run: the loop's updates, watched. Evaluation, log, checkpoints, progress and the end are here, not in the loop."""

import functools
import math
import signal
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import threadpoolctl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from rlgrad.config import Built, Config, load
from rlgrad.errors import RunError
from rlgrad.loop import Update, updates
from rlgrad.optimizers.per_replica import parts_of
from rlgrad.replicas import norm_per_replica
from rlgrad.run import checkpoint, directory, divergence
from rlgrad.run.faults import attempt
from rlgrad.run.files import reason
from rlgrad.run.observers.log import Log
from rlgrad.run.observers.progress import Display
from rlgrad.run.signals import interruptions
from rlgrad.run.state import State, unit
from rlgrad.settings import RunSettings
from rlgrad.trainable import Trainable

SHARE = 0.02  # of a run's time: more does not go into checkpoints that are made by the clock


@dataclass(frozen=True)
class Run:
    """A run that has ended: where it is written, what came out, and the problem with its trained model."""

    directory: Path
    settings: RunSettings
    problem: Trainable
    summary: dict[str, Any]
    signal: int | None = None  # that interrupted it


def train(
    config: str | Path | Mapping[str, Any] | Config,
    *,
    out: str | Path | None = None,
    quiet: bool = True,
    allow_imports: bool = False,
    profile: bool = False,
    **overrides: Any,
) -> Run:
    """Train as a config says, and write it all to a run directory.

    config: a file, a name in configs/, or a mapping.
    out: the run directory, instead of runs/<config>-<number>.
    allow_imports: whether the config's `imports` may run code.
    profile: whether to print where the time went, and to write a trace of a few updates to trace.json.
    overrides: settings in place of the config's; nested ones as mappings, optimizer={"lr": 0.1}.

    Raises UsageError before anything is written, and RunError where the run cannot go on (its summary says `failed`).
    """
    if not isinstance(config, Config):
        config = load(config, directory.flat(overrides), allow_imports)
    use_threads(config.settings.threads)
    built = config.build()
    path = directory.claim(config.name, out)
    with directory.held(path):
        try:
            directory.write_text(path / "config.yaml", directory.dump(config.settings))
            directory.write_json(path / "environment.json", directory.environment(config.settings))
        except OSError as error:
            raise RunError(f"{path}: the run directory cannot be written to: {reason(error)}") from error
        if not profile:
            return begin(path, config.settings, built, quiet)
        from rlgrad.run.profile import Profile

        watched = Profile(path / "trace.json")
        with watched.watching(built.problem, built.optimizer):
            run = begin(path, config.settings, built, quiet)
        print("\n".join(["", *watched.report()]))
        return run


def use_threads(count: int) -> None:
    """So many threads for torch; one for numpy's products, whose other threads would only spin beside torch's."""
    torch.set_num_threads(count)
    one_thread_for_numpy()


@functools.cache
def one_thread_for_numpy() -> None:
    for library in threadpoolctl.ThreadpoolController().lib_controllers:
        if library.user_api == "blas" and "torch" not in library.filepath and library.num_threads != 1:
            library.set_num_threads(1)


def begin(path: Path, settings: RunSettings, built: Built, quiet: bool) -> Run:
    """Train from the first update."""
    try:
        log = Log(path)
        log.begin(built.problem.direction, settings.wrong_sign, directory.dump(settings))
    except OSError as error:
        raise RunError(f"{path}: the run directory cannot be written to: {reason(error)}") from error
    return follow(path, settings, built, State(), log, quiet)


def follow(path: Path, settings: RunSettings, built: Built, state: State, log: Log, quiet: bool) -> Run:
    """Iterate over the updates of a run until all are done, the problem is solved, or somebody interrupts."""
    problem, optimizer, schedule = built
    display = Display(settings.updates, state.done, problem.direction, unit(problem), quiet)
    if settings.wrong_sign:
        display.warn_of_wrong_sign(problem.direction)
    parameters = list(problem.model.parameters())
    before = [p.detach().clone() for p in parameters]
    stream = updates(problem, optimizer, state.done, settings.max_gradient_norm or math.inf)
    limit = settings.update_seconds_limit
    watch = Stopwatch(state.seconds)
    status, failure = "failed", None
    conclusion: list[str] | None = None

    def save() -> None:
        began = time.monotonic()
        content = {
            "model": problem.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict() if schedule else None,
            "problem": problem.state_dict() if hasattr(problem, "state_dict") else None,  # optional: see Trainable
            "state": vars(state),
            "lengths": log.lengths(),
        }
        checkpoint.save(path, content)
        checkpoint.save_weights(path / "model.safetensors", problem.model)
        watch.saved = time.monotonic()
        watch.cost = watch.saved - began
        state.saving += watch.cost

    with interruptions() as received:
        try:
            over = state.over(settings)
            while not over:
                update = attempt(lambda: next(stream), limit)
                values = {"objective/value": update.value, "gradient/norm": update.gradient_norm, **update.metrics}
                if update.step % settings.diagnose_every_updates == 0:
                    values |= attempt(lambda: effect(problem, update, before, state.set_aside), limit)  # noqa: B023 - called at once
                values["update/size"] = norm_per_replica(
                    p.detach() - b for p, b in zip(parameters, before, strict=True)
                )
                for sentence in divergence.judge(update.step, values, state.set_aside, settings.on_divergence):
                    print(sentence, file=sys.stderr, flush=True)
                divergence.freeze(parameters, before, state.set_aside)
                remember(before, parameters)
                values = divergence.blank(values, state.set_aside)
                state.absorb(update.step, values, problem.work)
                values[problem.work] = torch.tensor(state.work)
                evaluated = state.done == settings.updates or state.done % settings.evaluation.every_updates == 0
                if evaluated:
                    found = attempt(lambda: problem.evaluate(update.step), limit)  # noqa: B023
                    found = divergence.blank(found, state.set_aside)
                    values |= {f"evaluation/{name}": value for name, value in found.items()}
                    state.evaluation = {name: value.tolist() for name, value in found.items()}
                    state.judge(problem)
                state.seconds, lap = watch.lap()
                speed = float(update.metrics[problem.work].sum()) / lap
                if evaluated or state.done % settings.log_every_updates == 0:
                    log.write(update.step, values, state, optimizer.param_groups[0]["lr"], speed, 1 / lap)
                display.show(state, values, speed)
                if schedule:
                    attempt(lambda: advance(schedule, state.mean(values["objective/value"])))  # noqa: B023
                if display.console.gone:
                    received.append(signal.SIGPIPE)
                over = bool(received) or state.over(settings)
                if not over and save_is_due(settings, state.done, watch):
                    save()
            save()
            if hasattr(problem, "conclusion"):  # optional: what has come out, in sentences
                conclusion = attempt(problem.conclusion)
            status = "completed" if state.over(settings) else "interrupted"
        except RunError as error:
            failure = f"update {state.done}: {error}"
        except OSError as error:
            failure = f"update {state.done}: the run directory cannot be written to: {reason(error)}"
        finally:
            display.close()
        summary = state.summary(settings, problem, status) | ({"conclusion": conclusion} if conclusion else {})
        summary |= {"error": failure} if failure else {}
        try:
            log.end(directory.flat(settings.model_dump(mode="json")), state)
            directory.write_json(path / "summary.json", summary)
        except OSError as error:
            failure = failure or f"the run directory cannot be written to: {reason(error)}"
        log.close()
    if failure:
        raise RunError(f"{path}: {failure}; {remains(path)}")
    display.report(path, summary)
    return Run(path, settings, problem, summary, received[0] if status == "interrupted" else None)


def remains(path: Path) -> str:
    """What there is to go on from after a failure."""
    return "the last checkpoint is whole" if checkpoint.exists(path) else "there is no checkpoint"


class Stopwatch:
    """Wall seconds of a run: in all, since the last update, and since the last checkpoint."""

    def __init__(self, earlier: float):
        self.began = self.now = self.saved = time.monotonic()
        self.earlier = earlier
        self.cost = 0.0  # of the last checkpoint

    def lap(self) -> tuple[float, float]:
        """Seconds in all, earlier sittings included, and since the last call."""
        last, self.now = self.now, time.monotonic()
        return self.earlier + self.now - self.began, max(self.now - last, 1e-9)


def effect(
    problem: Trainable, update: Update, before: list[Tensor], set_aside: Collection[int] = ()
) -> dict[str, Tensor]:
    """What the update came to, beside what its gradient promised: [R] each.

    before: the parameters before the update. set_aside: replicas that do not count.
    """
    remaining = [replica for replica in range(len(update.value)) if replica not in set_aside]
    mine = set(parts_of(problem.model, problem.direction.sign)[0].parameters)  # a critic's error is another objective
    pairs = [
        (p, b) for p, b in zip(problem.model.parameters(), before, strict=True) if p in mine and p.grad is not None
    ]
    promised = [(p.grad * (p.detach() - b)).flatten(1).sum(1) for p, b in pairs if p.grad is not None]
    value, found = problem.again(update.step)
    change = {"predicted_change": torch.stack(promised).sum(0), "achieved_change": value - update.value}
    found = {f"objective/{name}": one for name, one in change.items()} | dict(found)
    # a step may leave where a function is defined
    return {tag: one for tag, one in found.items() if one[remaining].isfinite().all()}


def remember(before: list[Tensor], parameters: list[torch.nn.Parameter]) -> None:
    """Let `before` follow the parameters."""
    for kept, parameter in zip(before, parameters, strict=True):
        kept.copy_(parameter.detach())


def advance(schedule: LRScheduler, value: float) -> None:
    """The next learning rate. value: the objective, which some schedules watch."""
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(value)
    else:
        schedule.step()


def save_is_due(settings: RunSettings, done: int, watch: Stopwatch) -> bool:
    every = settings.checkpoint
    by_updates = every.every_updates is not None and done % every.every_updates == 0
    if by_updates or every.every_seconds is None:
        return by_updates
    return watch.now - watch.saved >= max(every.every_seconds, watch.cost / SHARE)

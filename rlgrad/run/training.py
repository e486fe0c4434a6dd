"""A run: the loop's updates, watched. Evaluation, log, checkpoints, progress and the end are here, not in the loop."""

import itertools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from rlgrad.config import Built, Config, load, read
from rlgrad.loop import Update, norm_per_replica, parts_of, updates
from rlgrad.run import checkpoint, directory
from rlgrad.run.log import Log
from rlgrad.run.progress import Display
from rlgrad.run.signals import interruptions
from rlgrad.run.state import State, unit
from rlgrad.settings import RunError, RunSettings, Trainable, UsageError


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
    **overrides: Any,
) -> Run:
    """Train as a config says, and write it all to a run directory.

    config: a file, a name in configs/, or a mapping.
    out: the run directory, instead of runs/<config>-<number>.
    allow_imports: whether the config's `imports` may run code.
    overrides: settings in place of the config's; nested ones as mappings, optimizer={"lr": 0.1}.

    Raises UsageError before anything is written, and RunError where the run cannot go on (its summary says `failed`).
    """
    if not isinstance(config, Config):
        config = load(config, directory.flat(overrides), allow_imports)
    torch.set_num_threads(config.settings.threads)
    built = config.build()
    path = directory.claim(config.name, out)
    directory.write_atomically(path / "config.yaml", directory.dump(config.settings))
    directory.write_json(path / "environment.json", directory.environment(config.settings))
    log = Log(path)
    log.begin(built.problem.direction, config.settings.wrong_sign, directory.dump(config.settings))
    return follow(path, config.settings, built, State(), log, quiet)


def resume(path: str | Path, *, quiet: bool = True, allow_imports: bool = False) -> Run:
    """Continue a run from its checkpoint, bit for bit as if nothing had happened. Raises UsageError."""
    path = Path(path)
    if not (path / "config.yaml").is_file():
        raise UsageError(f"--resume {path}: there is no run here (no config.yaml)")
    config = Config(*read(path / "config.yaml"), path.name, allow_imports)
    torch.set_num_threads(config.settings.threads)
    saved = checkpoint.load(path / "checkpoint.pt")
    built = config.build()
    try:
        built.problem.model.load_state_dict(saved["model"])
        built.optimizer.load_state_dict(saved["optimizer"])
        if built.schedule:
            built.schedule.load_state_dict(saved["schedule"])
        state, log = State(**saved["state"]), Log(path, saved["lengths"])
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path}: checkpoint.pt does not belong to the rest of the run: {reason}") from error
    return follow(path, config.settings, built, state, log, quiet)


def follow(path: Path, settings: RunSettings, built: Built, state: State, log: Log, quiet: bool) -> Run:
    """Iterate over the updates of a run until all are done, the problem is solved, or somebody interrupts."""
    problem, optimizer, schedule = built
    display = Display(settings.updates, state.done, problem.direction, unit(problem), quiet)
    if settings.wrong_sign:
        display.warn_of_wrong_sign(problem.direction)
    parameters = list(problem.model.parameters())
    before = [p.detach().clone() for p in parameters]
    stream = updates(problem, optimizer, state.done, settings.max_gradient_norm or math.inf)
    watch = Stopwatch(state.seconds)
    status, failure = "failed", None
    conclusion: list[str] | None = None

    def save() -> None:
        content = {
            "model": problem.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict() if schedule else None,
            "state": vars(state),
            "lengths": log.lengths(),
        }
        checkpoint.save(path / "checkpoint.pt", content)
        watch.saved = watch.now

    with interruptions() as received:
        try:
            for update in itertools.islice(stream, max(0, settings.updates - state.done)):
                values = {"objective/value": update.value, "gradient/norm": update.gradient_norm, **update.metrics}
                if update.step % settings.diagnose_every_updates == 0:
                    values |= effect(problem, update, before)
                values["update/size"] = movement(before, parameters)
                check(values)
                state.absorb(update, problem.work)
                values[problem.work] = torch.tensor(state.work)
                last = state.done == settings.updates
                evaluated = last or state.done % settings.evaluation.every_updates == 0
                if evaluated:
                    found = problem.evaluate(update.step)
                    values |= {f"evaluation/{name}": value for name, value in found.items()}
                    state.evaluation = {name: value.tolist() for name, value in found.items()}
                    solved = state.solved(problem)
                else:
                    solved = False
                state.seconds, lap = watch.lap()
                speed = float(update.metrics[problem.work].sum()) / lap
                if evaluated or state.done % settings.log_every_updates == 0:
                    log.write(update.step, values, optimizer.param_groups[0]["lr"], speed, 1 / lap)
                display.show(state, values, speed)
                if isinstance(schedule, ReduceLROnPlateau):
                    schedule.step(float(update.value.mean()))
                elif schedule:
                    schedule.step()
                if received or (solved and settings.stop_when_solved):
                    break
                if save_is_due(settings, state.done, watch):
                    save()
            status = "interrupted" if received and state.done < settings.updates else "completed"
            save()
            checkpoint.save_weights(path / "model.safetensors", problem.model)
            if hasattr(problem, "conclusion"):  # optional: what has come out, in sentences
                conclusion = problem.conclusion()
        except RunError as error:
            failure = f"update {state.done}: {error}"
        finally:
            display.close()
            summary = state.summary(settings, problem, status)
            summary |= {"conclusion": conclusion} if conclusion else {}
            log.end(directory.flat(settings.model_dump(mode="json")), state.evaluation)
            directory.write_json(path / "summary.json", summary | ({"error": failure} if failure else {}))
    if failure:
        raise RunError(f"{path}: {failure}")
    display.report(path, summary)
    return Run(path, settings, problem, summary, received[0] if status == "interrupted" else None)


class Stopwatch:
    """Wall seconds of a run: in all, since the last update, and since the last checkpoint."""

    def __init__(self, earlier: float):
        self.began = self.now = self.saved = time.monotonic()
        self.earlier = earlier

    def lap(self) -> tuple[float, float]:
        """Seconds in all, earlier sittings included, and since the last call."""
        last, self.now = self.now, time.monotonic()
        return self.earlier + self.now - self.began, max(self.now - last, 1e-9)


def effect(problem: Trainable, update: Update, before: list[Tensor]) -> dict[str, Tensor]:
    """What the update came to, beside what its gradient promised: [R] each.

    before: the parameters before the update.
    """
    mine = set(parts_of(problem.model, problem.direction)[0].parameters)  # a critic's error is another objective
    pairs = [
        (p, b) for p, b in zip(problem.model.parameters(), before, strict=True) if p in mine and p.grad is not None
    ]
    promised = [(p.grad * (p.detach() - b)).flatten(1).sum(1) for p, b in pairs if p.grad is not None]
    value, found = problem.again(update.step)
    change = {"predicted_change": torch.stack(promised).sum(0), "achieved_change": value - update.value}
    found = {f"objective/{name}": one for name, one in change.items()} | dict(found)
    return {
        tag: one for tag, one in found.items() if one.isfinite().all()
    }  # a step may leave where a function is defined


def movement(before: list[Tensor], parameters: list[torch.nn.Parameter]) -> Tensor:
    """How far [R] the parameters have moved since they were in `before`, which follows them."""
    size = norm_per_replica([p.detach() - b for p, b in zip(parameters, before, strict=True)])
    for kept, parameter in zip(before, parameters, strict=True):
        kept.copy_(parameter.detach())
    return size


def check(values: Mapping[str, Tensor]) -> None:
    """Raises RunError where an update cannot be trusted."""
    for tag in ("objective/value", "gradient/norm", "update/size"):
        if not values[tag].isfinite().all():
            replica = int((~values[tag].isfinite()).nonzero()[0])
            hint = "a smaller learning rate or a max_gradient_norm may help"
            raise RunError(f"{tag} of replica {replica} is not finite; {hint}")


def save_is_due(settings: RunSettings, done: int, watch: Stopwatch) -> bool:
    every = settings.checkpoint
    by_updates = every.every_updates is not None and done % every.every_updates == 0
    return by_updates or (every.every_seconds is not None and watch.now - watch.saved >= every.every_seconds)

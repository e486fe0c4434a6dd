"""Runs: training from a config, or with a problem made in Python, written to a directory."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from rlgrad import distributed, files
from rlgrad.config import Config, load_config, valid
from rlgrad.errors import SettingError, UsageError, called, numbered
from rlgrad.loop import parameters_apart
from rlgrad.optimizers.schedules import counts_steps
from rlgrad.run import directory, guest, resuming
from rlgrad.run.clock import running
from rlgrad.run.faults import limited
from rlgrad.run.following import Following
from rlgrad.run.identity import check_alike
from rlgrad.run.observer import Observer, check_observers
from rlgrad.run.sitting import Run, begin
from rlgrad.run.weights import begin_from
from rlgrad.settings import FollowSettings
from rlgrad.trainable import Trainable


@running()
@numbered()
def train(
    config: str | Path | Mapping[str, Any] | Config,
    *,
    out: str | Path | None = None,
    quiet: bool = True,
    allow_imports: bool = False,
    profile: bool = False,
    observers: Sequence[Observer] = (),
    environment: Callable[..., Any] | str | None = None,
    policy: nn.Module | Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Run:
    """Train as a config says, and write everything to a run directory.

    config: a file, a name in configs/, or a mapping.
    out: the run directory, instead of runs/<config>-<number>. If torchrun restarts a run, it is continued there.
    allow_imports: whether the config's `imports` may run code.
    profile: whether to print where the time went, and to write a trace of a few updates to trace.json.
    observers: your own, besides those that every run has.
    environment: a callable that makes a copy of the environment, such as its class, instead of an id.
    policy: the policy's network, observations [R, ..., D] -> numbers [R, ..., A], instead of the config's.
    overrides: settings that replace the config's; nested ones as mappings, optimizer={"lr": 0.1}.

    Raises UsageError before anything is written, and RunError if the run cannot go on (its summary says `failed`).
    """
    check_observers(observers)
    if out and distributed.RESTARTS and (Path(out) / "config.yaml").is_file():
        given: dict[str, Any] = {"environment": environment, "policy": policy, **overrides}
        allow_imports = config.allow_imports if isinstance(config, Config) else allow_imports
        given |= {"quiet": quiet, "allow_imports": allow_imports, "observers": observers}
        return resuming.resume(out, config=config, **given)
    settings, objects = directory.split_arguments(overrides, environment=environment, policy=policy)
    return launch(load_config(config, settings, allow_imports, objects), out, quiet, profile, observers)


def launch(
    config: Config,
    out: str | Path | None,
    quiet: bool,
    profile: bool = False,
    observers: Sequence[Observer] = (),
    check: Callable[[Trainable], None] | None = None,
) -> Run:
    """Train with a loaded config. check: a function that raises UsageError if the problem is not the wanted one."""
    here, settings = files.here(), config.settings  # an environment may change the working directory
    with (
        distributed.together(settings.update_seconds_limit, settings.device),
        guest.on(distributed.place(settings.device)),
        guest.threads(settings.threads),
        config.importing(),
    ):
        with limited(settings.update_seconds_limit):  # environments are tried
            built, theirs = config.build(), config.observers(Observer)
        if check:
            check(built.problem)
        begin_from(built.problem, settings.initial)
        check_alike(settings, built.problem)
        path = distributed.from_first(lambda: directory.claim(config.name, out, here))
        with directory.held(path):
            return begin(Following(config.settings, *built, [*theirs, *observers], path, here=here), quiet, profile)


@running()
@numbered()
def follow(
    problem: Trainable,
    optimizer: torch.optim.Optimizer,
    *,
    updates: int | None = None,
    out: str | Path | None = None,
    observers: Sequence[Observer] = (),
    schedule: LRScheduler | None = None,
    resume: bool = False,
    quiet: bool = True,
    **settings: Any,
) -> Run:
    """Train a problem made in Python, with everything that a run from a config has: log, dashboard, checkpoints,
    held-out evaluation, intervals over replicas, summary.

    optimizer, schedule: objects of torch, or an optimizer from `make_optimizer`.
    updates: the number of updates; or give `steps`, the work of each replica. Then the schedule counts steps, too.
    out: the run directory, instead of runs/<the problem's class>-<number>.
    resume: continue the run in `out`, to the same bits as an unbroken run. Give the same objects, in their first state.
    settings: those of `rlgrad.settings.FollowSettings`, such as evaluation={"every_updates": 5}.

    Raises UsageError before anything is written, and RunError if the run cannot go on.
    """
    if not isinstance(problem, Trainable):
        raise UsageError(f"{called(problem)} must derive from rlgrad.Trainable to be followed")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(f"{called(optimizer)} is no torch.optim.Optimizer; rlgrad.make_optimizer makes one")
    given = {"problem": called(problem), "optimizer": called(optimizer)}
    given |= {"schedule": called(schedule)} if schedule else {}
    replicas = next((len(parameter) for parameter in problem.model.parameters() if parameter.ndim), 0)
    try:
        wanted = valid(FollowSettings, {"updates": updates, "replicas": replicas, "given": given} | settings)
    except SettingError as error:
        raise UsageError(f"follow: {'.'.join(error.path)}: {error}") from error
    check_observers(observers)
    check_way(problem, optimizer, wanted)
    check_schedule(schedule, wanted)
    device = guest.device_of(problem)
    with (
        distributed.together(wanted.update_seconds_limit, device.type),
        guest.on(device),
        guest.threads(wanted.threads),
    ):
        if not resume:
            begin_from(problem, wanted.initial)
        check_alike(wanted, problem)
        name, here = type(problem).__name__.lower(), files.here()
        path = resuming.existing(out) if resume else distributed.from_first(lambda: directory.claim(name, out))
        with directory.held(path):
            run = Following(wanted, problem, optimizer, schedule, observers, here / path, here=here)
            return resuming.follow_on(run, quiet) if resume else begin(run, quiet)


def check_schedule(schedule: LRScheduler | None, settings: FollowSettings) -> None:
    """Raises UsageError if a run told in steps cannot move the schedule on by the steps of an update."""
    if settings.steps and schedule and not counts_steps(schedule):
        what = f"schedule: {type(schedule).__name__} can only go on from update to update, and has to count steps here"
        raise UsageError(f"follow: {what}: give `updates`, or a function of the steps, such as LambdaLR")


def check_way(problem: Trainable, optimizer: torch.optim.Optimizer, settings: FollowSettings) -> None:
    """Raises UsageError if an optimizer of torch moves the objective in the wrong direction for the run."""
    up = settings.heading(problem.direction).sign > 0
    default = False if type(optimizer).__module__.startswith("torch.") else up  # for an optimizer without `maximize`
    ours, theirs = type(optimizer).__module__.startswith("rlgrad."), parameters_apart(problem.model)
    for group in () if ours else optimizer.param_groups:
        if group.get("maximize", default) != up and not theirs.issuperset(group["params"]):
            way = ("maximize", "descends") if up else ("minimize", "ascends")
            message = f"the run should {way[0]} the objective, but the optimizer {way[1]}: "
            raise UsageError(message + "rlgrad.make_optimizer(problem, ...) makes one that goes the right way")

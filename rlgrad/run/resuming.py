"""Continues a run from its last checkpoint, to the same bits as if it had never stopped."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlgrad import distributed, files, ranks
from rlgrad.config import Config, load_config, located, valid
from rlgrad.errors import SettingError, UsageError, called, numbered, say, text_of
from rlgrad.files import in_command, read_json, reason
from rlgrad.optimizers import Composite
from rlgrad.run import checkpoint, directory, guest
from rlgrad.run.clock import running
from rlgrad.run.faults import limited
from rlgrad.run.following import Following
from rlgrad.run.identity import MOVABLE, MOVED, check_alike, check_data, differences, trained_with
from rlgrad.run.observer import Observer, by_name, check_observers, tell
from rlgrad.run.observers.evaluation import HeldOut
from rlgrad.run.observers.log import Log, clear
from rlgrad.run.sitting import Run, begin, own, sit
from rlgrad.run.state import State, validator
from rlgrad.run.weights import INITIAL, begin_from
from rlgrad.settings import FollowSettings, RunSettings
from rlgrad.trainable import Trainable
from rlgrad.usage import find
from rlgrad.written import read


@running()
@numbered()
def resume(
    path: str | Path,
    *,
    config: str | Path | Mapping[str, Any] | Config | None = None,
    extend_to: int | None = None,
    quiet: bool = True,
    allow_imports: bool = False,
    observers: Sequence[Observer] = (),
    environment: Callable[..., Any] | str | None = None,
    policy: nn.Module | Mapping[str, Any] | None = None,
    **overrides: Any,
) -> Run:
    """Continue a run from its last checkpoint, to the same bits as if it had never stopped.

    path: the run directory; or "auto", for the newest run of `config` in runs/.
    config, overrides: as for `train`; settings that differ from those of the run are refused.
    extend_to: the new length of the run in all, in updates or steps; it must be larger than the old one.
    observers, environment, policy: as for `train`, if the run was started with them.

    Raises UsageError, with nothing changed, and RunError if the run cannot go on.
    """
    check_observers(observers)
    if str(path) == "auto":
        if config is None or isinstance(config, Mapping):
            raise UsageError("--resume auto finds the newest run of a config: --config NAME is missing")
        path = newest(config.name if isinstance(config, Config) else find(config).stem)
    path, here = Path(path), files.here()
    given, objects = directory.split_arguments(overrides, environment=environment, policy=policy)
    recorded = recorded_config(path, allow_imports, objects)
    if distributed.RESTARTS and extend_to == recorded.settings.length:
        extend_to = None  # the process before this one has already extended the run
    for name in MOVABLE.intersection(given):
        recorded = moved(recorded, name, given.pop(name))
    if config is not None or given:
        source = path / "config.yaml" if config is None else config
        asked = load_config(source, given, allow_imports, None if isinstance(source, Config) else objects)
        refuse_changes(path, recorded.settings, asked.resolve(), extend_to)
    limit, device = recorded.settings.update_seconds_limit, recorded.settings.device
    with distributed.together(limit, device), guest.on(distributed.place(device)), directory.held(path):
        settings = recorded.settings if extend_to is None else longer(path, recorded, extend_to)
        found = checkpoint.newest(path, fits(path))
        before = trained_with(path, found[1], recorded.settings) if found else recorded.settings
        with guest.threads(settings.threads), recorded.importing():
            with limited(settings.update_seconds_limit):  # environments are tried
                built = recorded.with_settings(settings).build()
            run = Following(settings, *built, [*recorded.observers(Observer), *observers], here / path, here=here)
            return go_on(run, quiet, before, found)


def moved(recorded: Config, name: str, value: Any) -> Config:
    """Return the config with another device or number of workers. Raises UsageError."""
    with located({(): f"--{name}"}):
        data = recorded.settings.model_dump() | {name: value}
        return recorded.with_settings(valid(type(recorded.settings), data))


def follow_on(run: Following, quiet: bool) -> Run:
    """Continue a run whose problem was made in Python. The problem must be as it was at the start of the run."""
    path, before = directory_of(run), recorded_settings(run)
    found = checkpoint.newest(path, fits(path))
    return go_on(run, quiet, trained_with(path, found[1], before) if found else before, found)


def fits(path: Path) -> Callable[[Mapping[str, Any]], None]:
    """A check for `checkpoint.newest`: whether the log of a run agrees with a checkpoint."""
    return lambda saved: Log(path).fits(log_in(saved))


def log_in(saved: Mapping[str, Any]) -> Any:
    """The state of the log in a checkpoint; version 0.1 stored it under another key."""
    states = saved.get("observers")
    return (states.get(called(Log)) if isinstance(states, Mapping) else None) or saved.get("lengths")


def go_on(run: Following, quiet: bool, before: FollowSettings, found: tuple[str, dict[str, Any]] | None) -> Run:
    """Continue a run. before: the settings of its past updates. found: the name and content of its checkpoint."""
    path, first = directory_of(run), ranks.here.first
    if found is None:
        how = {None: "was killed", "failed": "failed"}.get(read_json(path / "summary.json").get("status"))
        if how is None:
            raise UsageError(f"{path}: there is no checkpoint to resume from")
        begin_from(run.problem, run.settings.initial and path / INITIAL)
        check_alike(run.settings, run.problem)
        if first:
            say(f"{path}: it {how} before its first checkpoint, and begins again")
            clear(path)
        return begin(run, quiet)
    check_data(path, found[1], run.problem)
    check_alike(run.settings, run.problem)  # only after this check may the first process write
    log = Log(path)
    run.observers += own(run)
    restore(run, *found, log)
    try:
        run.catch_up()
    except Exception as error:  # a schedule that was given may raise anything
        raise UsageError(f"{path}: its schedule cannot go on to {run.place} steps: {text_of(error)}") from error
    if not first:
        return sit(run, log, quiet)
    say_what_has_changed(path, run.settings, run.problem)
    if run.state.over(run.settings) and not quiet:
        how = "more updates lengthen" if "problem" in run.settings.given else "--extend-to N lengthens"
        print(f"{path} is completed already; {how} it")
    if run.settings != before:
        record_changes(path, before, run.settings, run.state)
        log.extend(run.state.steps, directory.dump(run.settings))
    (path / "summary.json").unlink(missing_ok=True)
    return sit(run, log, quiet)


def directory_of(run: Following) -> Path:
    assert run.directory is not None
    return run.directory


def recorded_settings(run: Following) -> FollowSettings:
    """The settings of a run whose problem was made in Python. Raises UsageError if it was begun with other settings;
    only its length may be larger now."""
    path = directory_of(run)
    data, _ = read(path / "config.yaml")
    try:
        recorded = valid(FollowSettings, data)
    except SettingError as error:
        raise UsageError(f"{path}: its problem was not made in Python: continue it with rlgrad.resume") from error
    longer = run.settings.counts == recorded.counts and run.settings.length > recorded.length
    refuse_changes(path, recorded, run.settings, run.settings.length if longer else None)
    return recorded if longer else run.settings


def existing(out: str | Path | None) -> Path:
    """The directory of the run to resume. Raises UsageError if there is no run."""
    if out is None:
        raise UsageError("which run should be resumed? out= is missing")
    file = Path(out) / "config.yaml"
    if not file.is_file() or not file.stat().st_size:
        raise UsageError(f"{out}: there is no run here to resume (no config.yaml)")
    return Path(out)


def newest(name: str) -> Path:
    """The run of a config, runs/<name>-<number>, that was begun last. Raises UsageError if there is none."""
    pattern = rf"{re.escape(name)}-\d+"
    found = [path for path in Path("runs").glob("*/config.yaml") if re.fullmatch(pattern, path.parent.name)]
    if not found:
        raise UsageError(f"--resume auto: there is no run of {name} in {Path('runs').absolute()}")
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent


def recorded_config(path: Path, allow_imports: bool = False, objects: Mapping[str, Any] | None = None) -> Config:
    """The config that a run was begun with. Raises UsageError."""
    file = path / "config.yaml"
    if not file.is_file():
        raise UsageError(f"{path}: there is no run here (no config.yaml)")
    if not file.stat().st_size and not checkpoint.exists(path):
        raise UsageError(f"{path}: the run was killed before it began, and nothing is lost: begin it again elsewhere")
    return Config(*read(file), path.name, allow_imports, objects)


def refuse_changes(path: Path, recorded: FollowSettings, asked: FollowSettings, extend_to: int | None) -> None:
    """Raises UsageError if the settings asked for are not those of the run."""
    if not (changed := differences(recorded, asked, MOVED, extend_to == asked.length)):
        return
    message = f"{path} was begun with other settings: {changed}"
    if "problem" in recorded.given:
        raise UsageError(f"{message}; to go on, give the same settings: only `{asked.counts}` may be larger")
    hint = ", --extend-to N lengthens it" if recorded.length != asked.length else ""
    raise UsageError(f"{message}; --resume {in_command(path)} goes on with its own{hint}")


def longer(path: Path, recorded: Config, length: int) -> RunSettings:
    """The settings of a run with a larger length. Raises UsageError if that would change the past updates."""
    settings = recorded.settings
    if length <= settings.length:
        raise UsageError(f"--extend-to {length}: {path} has {settings.length} {settings.counts} already")
    if bound := settings.bound_to_updates():
        raise UsageError(
            f"--extend-to: {path} cannot be lengthened: its {bound} is reached at the last update, and with more "
            f"{settings.counts} all earlier ones would have been different"
        )
    if settings.schedule:
        arguments = ", ".join(f"{key}: {value}" for key, value in settings.schedule.arguments.items())
        say(f"the schedule {settings.schedule.name} goes on by its own settings ({arguments})")
    return settings.model_copy(update={settings.counts: length})


def record_changes(path: Path, before: FollowSettings, after: FollowSettings, state: State) -> None:
    """Write the new config. If a run at its end is made longer, also note its old length in environment.json, because a
    longer run might have no evaluation there. Raises UsageError if the files cannot be written."""
    try:
        if state.complete(before) and not state.complete(after):
            environment = read_json(path / "environment.json")
            environment["extended_from"] = sorted({*extensions(environment), before.length})
            directory.write_json(path / "environment.json", environment)
        files.write(path / "config.yaml", directory.dump(after))
    except OSError as error:
        raise UsageError(f"{path}: the run directory cannot be written to: {reason(error)}") from error


def restore(run: Following, file: str, saved: Mapping[str, Any], log: Log) -> None:
    """Restore everything from the checkpoint, and cut off the log where it ended then. Raises UsageError."""
    path, replicas = directory_of(run), run.replicas
    try:
        run.problem.model.load_state_dict(saved["model"])
        checkpoint.check_finite(run.problem.model)
        restore_optimizer(run.optimizer, saved["optimizer"])
        if run.schedule:
            run.schedule.load_state_dict(saved["schedule"])
        run.problem.load_state_dict(saved["problem"] or {})
        state = validator().validate_python(vars(State(**saved["state"])))
        lists = [state.work, state.objective, state.final, [*map(float, state.best)], *state.evaluation.values()]
        gone = state.set_aside
        if any(len(each) not in (0, replicas) for each in lists) or state.done > run.settings.length:
            raise ValueError(f"it belongs to a run with other settings, after update {state.done}")
        if len(gone) >= replicas or any(k >= replicas or step >= state.done for k, step in gone.items()):
            raise ValueError("no replica is left, or one that does not exist was set aside")
        if not all(0 <= work < 2**63 for work in state.remaining(state.work)):
            raise ValueError("no run does so much work")
        state.final = state.final or state.objective  # version 0.1 did not save `final`
        states = {**(saved.get("observers") or {}), called(log): log_in(saved)}
        run.state = state
        first = ranks.here.first  # the other processes restore only the held-out evaluation
        for name, observer in by_name([*run.observers, log]).items():  # the log is last, because it cuts its files
            if (first and observer is log) or (name in states and (first or isinstance(observer, HeldOut))):
                tell(observer, "load_state_dict", states[name])
        if first:
            checkpoint.reinstate(path, file)
    except OSError as error:
        raise UsageError(f"{path}: the run cannot be written to: {reason(error)}") from error
    except Exception as error:  # a state of another shape can make torch raise anything
        message = f"{path}: the checkpoint does not belong to the rest of the run: "
        raise UsageError(message + text_of(error)) from error


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load an optimizer's state bit for bit. torch's own `load_state_dict` casts it to the dtype of the parameters.
    This changes the updates of NAdam and ASGD, because they keep some numbers in another dtype. Raises ValueError if a
    switch, such as `maximize`, is not as the config says."""
    before = switches(optimizer)
    optimizer.load_state_dict(saved)
    undo_casts(optimizer, saved)
    now = switches(optimizer)
    if changed := [name for name in before if now.get(name, before[name]) != before[name]]:
        raise ValueError(f"its optimizer has another {changed[0].rpartition('.')[2]}")


def switches(optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """The settings of an optimizer that are true or false, by group. No schedule changes them."""
    each = optimizer.each if isinstance(optimizer, Composite) else [optimizer]
    groups = [group for one in each for group in one.param_groups]
    return {f"{n}.{name}": on for n, group in enumerate(groups) for name, on in group.items() if isinstance(on, bool)}


def undo_casts(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Put the saved numbers into the state that was just loaded. The groups stay the loaded objects: the optimizers of
    parts share them with the schedule."""
    if isinstance(optimizer, Composite):
        for each, state in zip(optimizer.each, saved["each"], strict=True):
            undo_casts(each, state)
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in saved["state"].items():
        parameter = parameters[number]
        optimizer.state[parameter] = checkpoint.on(parameter.device, values)


def extensions(environment: Mapping[str, Any]) -> list[int]:
    """The lengths at which a run ended before it was made longer."""
    found = environment.get("extended_from")
    return [each for each in found if isinstance(each, int)] if isinstance(found, list) else []


def say_what_has_changed(path: Path, settings: FollowSettings, problem: Trainable) -> None:
    """Warn if the machine or the versions have changed: the same bits are promised only without such changes."""
    recorded = read_json(path / "environment.json")
    now = directory.environment(settings, problem)
    if "packages" not in recorded:
        say(f"{path}: environment.json was lost: it is written again, and nobody knows what has changed")
        directory.write_json(path / "environment.json", now | recorded)
    elif changed := directory.otherwise(recorded, now):
        say(f"{path}: its last bits may change, as these have: {', '.join(changed)}")

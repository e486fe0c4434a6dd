"""Builds optimizers and schedules by name. Arguments are checked like settings, and tried out before a run begins."""

import collections.abc
import difflib
import functools
import inspect
import math
from collections.abc import Sequence
from typing import Any, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from torch import nn, optim

from rlgrad import optimizers
from rlgrad.errors import SettingError, said
from rlgrad.loop import Apart, Direction, Estimate, Problem, make_optimizer, parts_apart, updates
from rlgrad.optimizers import schedules
from rlgrad.optimizers.curvature import Differentiated
from rlgrad.optimizers.parts import groups_of_each, of_one
from rlgrad.settings import SHARED, Key, Named, RunSettings, refusal, side_by_side

SET_BY_US = ("params", "optimizer", "maximize", "sign", "last_epoch", "schedulers")  # arguments that no config gives
TRIED = 100  # steps of a schedule that are tried, at most


def build_optimizer(settings: RunSettings, problem: Problem) -> optim.Optimizer:
    """Build any optimizer in rlgrad.optimizers, including torch's. Raises SettingError for a wrong name or argument."""
    each = settings.each()
    for path in settings.optimizers_of_parts():
        beside(path, [one.optimizers_of_parts()[path] for one in each], int(settings.replicas))
    arguments = beside(("optimizer",), [one.optimizer for one in each], int(settings.replicas))
    name, heading = settings.optimizer.name, settings.heading(problem.direction)
    try:
        return make_optimizer(problem, name, direction=heading, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingError(("optimizer",), f"{name}: {error}") from error


def beside(path: Key, each: Sequence[Named], replicas: int) -> dict[str, Any]:
    """Join the arguments of all cells of a sweep, each with this number of replicas; a swept number is a tensor [R].
    Raises SettingError."""
    arguments = [arguments_of(path, one) for one in each]
    first = arguments[0]
    for name in first:
        if any(one[name] != first[name] for one in arguments) and not all(fractional(one[name]) for one in arguments):
            raise SettingError((*path, name), SHARED)
    return {name: side_by_side([one[name] for one in arguments], replicas) for name in first}


def fractional(value: Any) -> bool:
    """Whether a value is a fraction, or a list of fractions; only these can be swept."""
    return isinstance(value, float) or (isinstance(value, tuple | list) and all(map(fractional, value)))


def build_schedule(
    settings: RunSettings, optimizer: optim.Optimizer, direction: Direction
) -> optim.lr_scheduler.LRScheduler | None:
    """Build any scheduler in rlgrad.optimizers.schedules, including torch's and nested ones. Raises SettingError."""
    if (schedule := settings.schedule) is None:
        return None
    if schedule.name == "ReduceLROnPlateau" and settings.grid:
        if len(groups_of_each(optimizer)) != len(settings.cells):
            message = "it watches each value of a sweep, but some share a learning rate here: sweep only optimizer.lr"
            raise SettingError(("schedule", "name"), message)
        return schedules.PlateauOfEach(optimizer, mode=direction.value, **arguments_of(("schedule",), schedule))
    if schedule.name in ("OneCycleLR", "CyclicLR"):
        if "lr" in settings.optimizer.arguments:
            raise SettingError(("optimizer", "lr"), f"it has no effect: {schedule.name} sets the learning rate")
        if len({float(group["lr"]) for group in optimizer.param_groups}) > 1:
            message = f"{schedule.name} gives all parts one learning rate: leave critic.learning_rate out"
            raise SettingError(("schedule", "name"), message)
    made = make_schedule(("schedule",), schedule, optimizer, direction.value)
    ends = getattr(made, "total_steps", None)  # OneCycleLR refuses to be stepped any further
    if ends is not None and ends < settings.length:
        raise SettingError(("schedule",), f"{schedule.name} ends after {ends} {settings.counts}, before the run ends")
    return made


def make_schedule(path: Key, named: Named, optimizer: optim.Optimizer, mode: str) -> optim.lr_scheduler.LRScheduler:
    """Make a schedule, and those that it holds. mode: `min` or `max`. Raises SettingError."""
    arguments = arguments_of(path, named)
    if isinstance(inner := named.arguments.get("schedulers"), list):  # SequentialLR and ChainedScheduler hold others
        arguments["schedulers"] = [
            make_schedule((*path, "schedulers", str(number)), nested(path, each), optimizer, mode)
            for number, each in enumerate(inner)
        ]
    if named.name == "ReduceLROnPlateau":
        arguments["mode"] = mode
    try:
        if named.name == "ChainedScheduler":
            return optim.lr_scheduler.ChainedScheduler(**arguments, optimizer=optimizer)
        return getattr(schedules, named.name)(optimizer, **arguments)  # type: ignore[no-any-return]
    except Exception as error:  # torch checks little, so wrong arguments can raise anything
        raise SettingError(path, f"{named.name}: {said(error)}") from error


def nested(path: Key, inner: Any) -> Named:
    try:
        return Named.model_validate(inner)
    except ValidationError as error:
        raise SettingError((*path, "schedulers"), "each of the schedulers needs a `name`") from error


class Trial(Problem):
    """A test problem: a quadratic bowl (or its opposite), with two parameters, and two more for each part that is
    `Apart`."""

    def __init__(self, problem: Problem, direction: Direction, replica: int = 0):
        """replica: the replica whose arguments the parts have."""
        self.direction, self.line_search = direction, problem.line_search
        self.curved, self.informed, self.rests = problem.curved, problem.informed, problem.rests
        self.point = nn.Parameter(torch.zeros(1, 1, 2, dtype=torch.float64))
        self.model = nn.Module()
        self.model.register_parameter("point", self.point)
        for number, part in enumerate(parts_apart(problem.model)):
            self.model.add_module(str(number), Copy(part, replica))

    def objective(self, batch: Any) -> Estimate:
        value = torch.zeros(1, dtype=torch.float64)
        for parameter in self.model.parameters():
            value = value - self.direction.sign * (parameter - 1).square().sum((1, 2))
        return Estimate(value, {}, curvature=lambda: self.bend(batch))

    def bend(self, batch: Any) -> Differentiated:
        with torch.enable_grad():
            return Differentiated(self.objective(batch).value, [self.point])


class Copy(Apart):
    """A part of the test problem, with the optimizer and arguments of a real part."""

    def __init__(self, part: Apart, replica: int):
        super().__init__()
        self.direction, self.arguments = part.direction, of_one(part.arguments, replica)
        self.optimizer = part.optimizer and of_one(part.optimizer, replica)
        self.point = nn.Parameter(torch.zeros(1, 1, 2, dtype=torch.float64))


def try_out(settings: RunSettings, problem: Problem) -> None:
    """Let the optimizer and the schedule take some steps on a test problem, so that the real one stays untouched.

    Raises SettingError if one of them fails, moves nothing, or gives values that are not finite.
    """
    parts, tried = parts_apart(problem.model), list[Any]()
    for number, each in enumerate(settings.each()):
        replica = number * int(settings.replicas)
        arguments = [each.optimizer, *(of_one([part.arguments, part.optimizer], replica) for part in parts)]
        if arguments not in tried:  # cells that differ only in other settings, such as a penalty, need one trial
            try_alone(each, problem, replica)
            tried.append(arguments)


def try_alone(settings: RunSettings, problem: Problem, replica: int) -> None:
    """Try the optimizer and the schedule of one replica. Raises SettingError."""
    settings = settings.model_copy(update={"replicas": 1})
    trial = Trial(problem, settings.heading(problem.direction), replica)
    optimizer = build_optimizer(settings, trial)
    schedule = build_schedule(settings, optimizer, problem.direction)
    moved, name = False, settings.optimizer.name
    training = updates(trial, optimizer)
    for step in range(min(settings.length, TRIED)):
        if step < 3:
            moved |= float(optimizer.param_groups[0]["lr"]) == 0
            try:
                next(training)
            except Exception as error:
                raise SettingError(("optimizer",), f"{name}: {said(error)}") from error
            moved |= bool(trial.point.any())
            if not all(bool(parameter.isfinite().all()) for parameter in trial.model.parameters()):
                raise SettingError(("optimizer",), f"{name}: with these arguments its steps are not finite")
        if schedule:
            take(schedule, settings)
            for group in optimizer.param_groups:
                if not 0 <= float(group["lr"]) < math.inf:
                    message = f"the learning rate after {step + 1} updates would be {float(group['lr']):g}"
                    raise SettingError(("schedule",), message)
    if not moved:
        raise SettingError(("optimizer",), f"{name}: with these arguments it takes no step")


def take(schedule: optim.lr_scheduler.LRScheduler, settings: RunSettings) -> None:
    """Let the schedule take one step. Raises SettingError."""
    try:
        schedules.advance(schedule, 0.0, schedule.last_epoch + 1 if settings.steps else None)
    except Exception as error:
        assert settings.schedule is not None
        raise SettingError(("schedule",), f"{settings.schedule.name}: {said(error)}") from error


def arguments_of(path: Key, named: Named) -> dict[str, Any]:
    """The arguments, in the types that torch expects. Raises SettingError for a wrong name or argument."""
    kind = "schedule" if path[0] == "schedule" else "optimizer"
    if named.name not in (valid := offered(kind)):
        raise SettingError((*path, "name"), f"there is no {kind} {named.name!r}", valid, named.name)
    chosen = getattr(optimizers if kind == "optimizer" else schedules, named.name)
    given, known = named.arguments, set(inspect.signature(chosen).parameters)
    for argument in given:
        if argument == "maximize" or (argument, named.name) == ("mode", "ReduceLROnPlateau"):
            raise SettingError((*path, argument), f"the direction belongs to the problem, not to the {kind}")
        if argument not in known or (argument in SET_BY_US and argument != "schedulers"):
            raise SettingError((*path, argument), f"{named.name} has no such argument", known - {*SET_BY_US}, argument)
    theirs = {key: each for key, each in given.items() if key != "schedulers"}
    try:
        found = types_of(chosen).model_validate(theirs)
    except ValidationError as error:
        where, message = refusal(error, theirs)
        if where[0] not in theirs:
            raise SettingError(path, f"{named.name}: its argument {where[0]} is missing") from error
        raise SettingError((*path, *where), message) from error
    result = {key: getattr(found, key) for key in found.model_fields_set}
    for argument, value in result.items():
        check_numbers((*path, argument), value, given[argument], type(found).model_fields[argument].default)
    return result


def check_numbers(path: Key, value: Any, given: Any, default: Any) -> None:
    """Raises SettingError if a value is not a number, not finite, or negative where no number of the default is."""
    if isinstance(value, list | tuple):
        for number, (each, was) in enumerate(zip(value, given, strict=True)):
            check_numbers((*path, str(number)), each, was, default)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        usual = default if isinstance(default, list | tuple) else (default,)
        if isinstance(given, bool):
            raise SettingError(path, f"input should be a number (here: {str(given).lower()})")
        if not math.isfinite(value):
            raise SettingError(path, f"input should be a finite number (here: {given})")
        if value < 0 and not any(isinstance(each, int | float) and each < 0 for each in usual):
            raise SettingError(path, f"input should not be negative (here: {given})")


@functools.cache
def types_of(chosen: type) -> type[BaseModel]:
    """A settings class for the arguments of an optimizer or a schedule, with the types in its signature."""
    unseen = vars(collections.abc) | {"Iterable": list}  # names that torch imports for type checkers only
    stated = get_type_hints(chosen.__init__, localns=unseen)  # type: ignore[misc]
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(chosen).parameters.items():
        if name in SET_BY_US:
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        plain = {bool: bool, str: str, int: float, float: float}.get(type(default), Any)  # if no type is stated
        fields[name] = (stated.get(name, plain), default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(chosen.__name__, __config__=config, **fields)


@functools.cache
def offered(kind: str) -> frozenset[str]:
    """The names that an `optimizer` or a `schedule` can have."""
    if kind == "optimizer":
        composed = {"Composite", *subclasses_in(optimizers, optimizers.Composite)}  # they are made of other optimizers
        return subclasses_in(optimizers, optim.Optimizer) - composed - {"SparseAdam"}  # it takes only sparse gradients
    base = optim.lr_scheduler.LRScheduler
    return subclasses_in(schedules, base) - {"LRScheduler", "LambdaLR", "MultiplicativeLR", "PlateauOfEach"}


def name_meant(kind: str, given: str) -> str:
    """The setting for the optimizer or schedule whose name is most like the given one: `optimizer.name Adam`."""
    names = {name.lower(): name for name in sorted(offered(kind))}
    word = given.lower()
    close = difflib.get_close_matches(word, names, n=1) or [name for name in names if word in name]
    return f"{kind}.name {names[close[0]] if close else 'NAME'}"


def subclasses_in(module: Any, base: type) -> frozenset[str]:
    return frozenset(
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base and not name.startswith("_")
    )

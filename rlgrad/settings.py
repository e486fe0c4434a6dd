"""The settings that every run has, whatever its problem.

A problem's own settings derive from `RunSettings`, in the problem's file.
"""

import ast
import functools
import inspect
import itertools
import math
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeAlias, TypeVar

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from torch import Tensor

from rlgrad.errors import SettingError, blame, short
from rlgrad.loop import Direction
from rlgrad.trainable import Trainable

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

NonNegativeInt = Annotated[int, Field(ge=0)]
Importable = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]  # module:name
Number = TypeVar("Number")
Key = tuple[str, ...]  # the path of a setting: ("optimizer", "lr")
MAX_REPLICAS = 100_000
SHARED = "all replicas of a run share it, so it cannot be swept: rlgrad search tries its values run by run"


class Strict(BaseModel):
    """Unknown keys, infinite numbers, and true or false instead of a number are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        given, field = value if isinstance(value, list | tuple) else [value], cls.model_fields[info.field_name or ""]
        if any(isinstance(each, bool) for each in given) and "bool" not in str(field.annotation):
            raise ValueError("input should not be true or false")
        return value


class Sweep(Strict, Generic[Number]):
    """Several values of one number, tried side by side: `{sweep: [0.01, 0.1]}`."""

    sweep: Annotated[tuple[Number, ...], Field(min_length=1)]


def either(kind: Any, **mappings: type[BaseModel]) -> Any:
    """The annotation of a number, or of a mapping instead of it. mappings: the models of the mappings, each by the key
    that identifies it; a mapping with none of these keys is read as the last model."""

    def chosen(given: Any) -> str:
        if isinstance(given, Mapping):
            return next((key for key in mappings if key in given), list(mappings)[-1])
        return next((key for key, model in mappings.items() if isinstance(given, model)), "number")

    union: Any = Annotated[kind, Tag("number")]
    for key, model in mappings.items():
        union = union | Annotated[model, Tag(key)]
    return Annotated[union, Discriminator(chosen)]


if TYPE_CHECKING:
    Each: TypeAlias = Number | Tensor
else:

    class Each:
        """`Each[float]`: a number that may differ from replica to replica. A config has a number or a `Sweep` there;
        `spread` turns a `Sweep` into a tensor [R]."""

        def __class_getitem__(cls, kind: Any) -> Any:
            return either(kind, sweep=Sweep[kind])


class Section(Strict):
    """A part of a config. Nothing in it can be changed after it is read."""

    @classmethod
    def meaning(cls, name: str) -> str:
        """What a setting means: if this class only gives it another type or default, the base class says it."""
        said = (meanings(base).get(name) for base in cls.__mro__ if issubclass(base, Section))
        return next(filter(None, said), "")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: "CoreSchema", handler: "GetJsonSchemaHandler") -> "JsonSchemaValue":
        whole = handler(core)
        properties = handler.resolve_ref_schema(whole).get("properties", {})
        for name, property in properties.items():
            properties[name] = {"description": cls.meaning(name), **property} if cls.meaning(name) else property
        return whole


@functools.cache
def meanings(cls: type) -> Mapping[str, str]:
    """The text below each attribute of a class. pydantic could read it, too, but for every class when it is made."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError):  # a class typed into a console
        return {}
    found = {}
    for attribute, below in itertools.pairwise(vars(tree)["body"]):
        match attribute, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found


class Named(Section):
    """An object of torch by its name, with its arguments as further keys: `{name: Adam, lr: 0.01}`."""

    model_config = ConfigDict(extra="allow")

    name: str
    """its name"""

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Optimizer(Named):
    """Any optimizer of torch.optim, Newton, or NaturalGradient: its name, and its own arguments as further keys."""


class Schedule(Named):
    """Any scheduler of torch.optim.lr_scheduler, or Hyperbolic: its name, and its own arguments as further keys."""


class Evaluation(Section):
    """How often the run is evaluated. It is always evaluated after its last update."""

    every_updates: PositiveInt = 10
    """updates between evaluations"""
    every_steps: PositiveInt | None = None
    """instead of updates: the work of one replica between evaluations, such as environment steps"""


class Checkpoint(Section):
    """How often the run is saved; the limit that is reached first counts. It is always saved at its end."""

    every_updates: PositiveInt | None = None
    """updates between checkpoints; null: only `every_seconds` counts"""
    every_seconds: PositiveFloat | None = 60.0
    """seconds between checkpoints, but at least 50 times the time to save one; null: only `every_updates` counts"""


class Keep(Section):
    """Which weights are kept as files in kept/. The weights of the last update are always kept."""

    every_updates: PositiveInt | None = None
    """updates between the weights that are kept, each in a file with its number; null: none are kept"""
    every_steps: PositiveInt | None = None
    """instead of updates: the work of one replica between the weights that are kept, such as environment steps"""
    best: bool = False
    """keep the weights of each replica's best evaluation, as best.safetensors"""


class FollowSettings(Section):
    """The settings of `rlgrad.follow`: how any problem is trained, watched and saved."""

    updates: PositiveInt | None = None
    """the number of updates of the run; set this or `steps`"""
    steps: PositiveInt | None = None
    """instead of `updates`: how much work each replica does, such as environment steps (the mean, if replicas differ);
    the run ends with the first update that reaches it, and a schedule counts these steps, not updates"""
    seed: NonNegativeInt = 0
    """replica k draws all its random numbers from streams of seed + k; in a sweep every value has the same seeds"""
    replicas: Annotated[int, Field(gt=0, le=MAX_REPLICAS)] = 1
    """how many independent copies are trained side by side; in a sweep: how many for each value"""
    max_gradient_norm: Each[PositiveFloat] | None = None
    """scale each replica's gradient down to this Euclidean norm, taken over all its parameters, including a critic's;
    null: do not scale it"""
    wrong_sign: bool = False
    """move against the objective, up a cost or down a return, to see what a wrong sign does; also --wrong-sign"""
    evaluation: Evaluation = Evaluation()
    diagnose_every_updates: PositiveInt = 25
    """updates between measurements of the gradient's quality and the step's effect; each takes as long as an update"""
    log_every_updates: PositiveInt = 1
    """updates between points in metrics.jsonl and TensorBoard; evaluations and the last update are always logged"""
    pictures_every_updates: PositiveInt | None = None
    """updates between pictures in TensorBoard, if the problem has any: a film of the greedy policy at play, a surface
    with the path on it, or a classifier's calibration, ROC curve, boundary and coefficients, which are also written to
    the run directory; pictures take at most a tenth of the time; null: none"""
    checkpoint: Checkpoint = Checkpoint()
    keep: Keep = Keep()
    initial: str | None = None
    """a run, or a file of its weights, to start from: all replicas from the weights of one replica, or each from its
    own; null: from new initial weights"""
    on_divergence: Literal["stop", "set_aside"] = "stop"
    """what happens when a replica's objective, gradient or step is not finite. stop: the run fails. set_aside: that
    replica keeps its last finite parameters and no longer counts, and the others go on"""
    update_seconds_limit: PositiveFloat | None = 3600.0
    """the run fails if an update or an evaluation takes longer, for example if an environment hangs; null: never"""
    stop_when_solved: bool = False
    """end the run at the first evaluation at which every replica reaches the environment's reward threshold"""
    threads: Annotated[int, Field(gt=0, le=1024)] = 1
    """number of threads of torch; small networks are fastest with one. numpy does little work and always gets one"""
    given: dict[str, str] = {}
    """what was given as an object from Python, which a config cannot hold: to resume, give the same object again"""

    @field_validator("initial")
    @classmethod
    def from_anywhere(cls, value: str | None) -> str | None:
        """Make the path absolute, so that it names the same file wherever the run is continued from."""
        return value and str(Path(value).expanduser().absolute())

    @model_validator(mode="after")
    def one_length(self) -> "FollowSettings":
        if (self.updates is None) == (self.steps is None):
            what = "set one" if self.steps is None else "not both; null unsets one"
            raise ValueError(f"the length of a run is given in `updates` or in `steps`: {what}")
        return self

    _seeds: tuple[int, ...] = PrivateAttr(())

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each of the R replicas. In a sweep the replicas of one value follow each other."""
        own = tuple(range(self.seed, self.seed + int(self.replicas)))
        return self._seeds or own * math.prod(len(values) for values in self.grid.values())

    @property
    def grid(self) -> dict[Key, Sequence[float]]:
        """The values of each swept setting, by the path of the setting."""
        return dict(swept(self))

    @property
    def cells(self) -> list["Cell"]:
        """The points of the grid, which are tried side by side; the last setting changes fastest. A run without a sweep
        has one cell."""
        return cells(self.grid, int(self.replicas))

    def each(self) -> list[Self]:
        """The settings of each cell, as if it were a run of its own."""
        return [self._at(cell) for cell in self.cells]

    def _at(self, cell: "Cell") -> Self:
        return self.model_validate(replaced(self.model_dump(), cell.values)) if cell.values else self

    def spread(self) -> Self:
        """The settings for a problem that holds all R replicas at once: `replicas` is R, and a swept number is a tensor
        [R]."""
        if not self.grid and isinstance(self.replicas, int):
            return self
        whole: Self = side_by_side(self.each(), int(self.replicas)).model_copy(update={"replicas": len(self.seeds)})
        whole._seeds = self.seeds
        return whole

    def of(self, replicas: slice) -> Self:
        """The settings for a problem that holds some of the R replicas, as `spread` gives them for all."""
        part: Self = some(self.spread(), replicas)
        part = part.model_copy(update={"replicas": len(self.seeds[replicas])})
        part._seeds = self.seeds[replicas]
        return part

    def alone(self, replica: int) -> Self:
        """The settings of one replica as a run of its own."""
        cell = self._at(self.cells[replica // int(self.replicas)])
        return cell.model_copy(update={"seed": self.seeds[replica], "replicas": 1})

    @property
    def length(self) -> int:
        """The length of the run, in updates or steps."""
        return self.updates or self.steps or 0

    @property
    def counts(self) -> Literal["updates", "steps"]:
        """The unit of the run's length."""
        return "updates" if self.updates else "steps"

    def heading(self, direction: Direction) -> Direction:
        """The direction in which the run moves the objective: the given one, or its opposite with `wrong_sign`."""
        return direction.opposite if self.wrong_sign else direction

    def bound_to_updates(self) -> str | None:
        """The setting, if any, whose meaning depends on `updates`. A run with such a setting cannot be extended: its
        past updates would not be those of the longer run."""
        return None


class RunSettings(FollowSettings):
    """The settings that every problem of a config shares."""

    imports: tuple[str, ...] = ()
    """modules to import before anything else, such as those that register environments; this runs their code, so it
    needs --allow-imports"""
    imports_from: str | None = None
    """a folder in which the imports are found, besides the working directory; null: the folder of the config's file"""
    problem: str
    """the kind of problem: a file in rlgrad/problems"""
    optimizer: Optimizer
    """name: any optimizer of torch.optim, or one that needs the objective's curvature: Newton {max_iter, tolerance,
    solver} for classifiers and surfaces, NaturalGradient {kl, damping, iterations, line_search} for agents too; the
    other keys are its own arguments"""
    schedule: Schedule | None = None
    """name: any scheduler of torch.optim.lr_scheduler, or Hyperbolic {epoch_length, decay, floor}; stepped after every
    update"""

    device: str = "cpu"
    """where the tensors are: cpu, cuda (a GPU) or cuda:N; environments and random numbers stay on the CPU"""

    takes: ClassVar[tuple[str, ...]] = ()  # the settings for which an object may be given from Python
    observers: tuple[Importable, ...] = ()
    """your own classes that watch the run, as module:Class; the module must be in `imports`"""

    @field_validator("device")
    @classmethod
    def known_device(cls, value: str) -> str:
        if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", value):
            raise ValueError("it is cpu, cuda or cuda:N")
        return value

    def resolved(self) -> Self:
        """The settings with everything that depends on the data as numbers, as config.yaml of a run has them. Raises
        SettingError."""
        return self

    def build(self, **objects: Any) -> Trainable:
        """The problem that these settings describe. Raises SettingError if it cannot be built.

        objects: what was given from Python instead of settings, by the names of the settings.
        """
        raise NotImplementedError

    def optimizers_of_parts(self) -> dict[Key, Optimizer]:
        """The optimizers of the parts of the model that have their own, by the path of the setting."""
        return {}

    def trained(self, tensors: Mapping[str, Any], description: Mapping[str, Any], **objects: Any) -> Any:
        """The trained model of one replica, ready for use, from its tensors [1, ...] and the description beside them.
        Raises SettingError if the problem has no such model, and any exception if tensors or description do not fit."""
        raise SettingError(("problem",), f"a run of {self.problem} learns neither a policy nor a classifier")

    def named(self, path: Key, text: str) -> Any:
        """The object that `module:name` names; the module is in `imports`. Raises SettingError."""
        return imported(self.imports, path, text)

    def made(self, path: Key, text: str, *arguments: Any) -> Any:
        """Call the object that `module:name` names; return the result. Raises SettingError, also if the call fails."""
        thing = self.named(path, text)
        try:
            return thing(*arguments)
        except Exception as error:
            raise SettingError(path, f"{text}: {blame(error)}") from error


class Cell(NamedTuple):
    """One point of the grid of a sweep."""

    values: Mapping[Key, float]  # of the swept settings
    replicas: range  # the replicas that have these values

    @property
    def named(self) -> dict[str, float]:
        return {".".join(path): value for path, value in self.values.items()}

    @property
    def name(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in self.named.items())


def cells(grid: Mapping[Key, Sequence[float]], replicas: int) -> list[Cell]:
    """The points of a grid, with this number of replicas each."""
    each = (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
    return [Cell(values, range(n * replicas, (n + 1) * replicas)) for n, values in enumerate(each)]


def replaced(value: Any, others: Mapping[Key, Any], path: Key = ()) -> Any:
    """Nested mappings and lists, with the values at some paths replaced by those of `others`."""
    if path in others:
        return others[path]
    if isinstance(value, Mapping):
        return {key: replaced(inner, others, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(inner, others, (*path, str(number))) for number, inner in enumerate(value)]
    return value


def is_meant(value: Any, word: str) -> bool:
    """Whether the value holds several values of one setting: `{sweep: ...}` or `{search: ...}`. word: which of both."""
    kinds = list | tuple | Mapping if word == "search" else list | tuple
    return isinstance(value, Mapping) and list(value) == [word] and isinstance(value[word], kinds)


def meant(value: Any, word: str, path: Key = ()) -> dict[Key, Any]:
    """The content of every `{sweep: ...}` or `{search: ...}`, by the path of the setting, also where none is allowed.
    word: `sweep` or `search`."""
    if is_meant(value, word):
        return {path: value[word]}
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    found: dict[Key, Any] = {}
    for key, each in inner:
        found |= meant(each, word, (*path, str(key)))
    return found


def swept(value: Any, path: Key = (), open: bool = False) -> Iterator[tuple[Key, Sequence[float]]]:
    """Yield the path and the values of each swept setting. open: whether any number here may be swept, as among the
    arguments of an optimizer."""
    if isinstance(value, Sweep):
        yield path, value.sweep
    elif open and is_meant(value, "sweep"):
        yield path, value["sweep"]
    elif isinstance(value, Section):
        for name, inner in value:
            yield from swept(inner, (*path, name), open or isinstance(value, Optimizer))
    elif open and isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from swept(inner, (*path, str(number)), open)


def check_sweeps(settings: Section) -> None:
    """Raises SettingError if something is swept that cannot be, and ValidationError if a value of a sweep does not fit
    the other settings."""
    if not isinstance(settings, FollowSettings):
        return
    grid = settings.grid
    for path in meant(settings.model_dump(), "sweep"):
        if path not in grid:
            raise SettingError(path, SHARED)
        values = list(grid[path])
        if not values or any(isinstance(each, bool) or not isinstance(each, int | float) for each in values):
            raise SettingError(path, f"a sweep must list one or more numbers (here: {short(str(values))})")
        if len(set(values)) < len(values):
            raise SettingError(path, f"each value may appear only once (here: {short(str(values))})")
        if settings.initial and path[-1].startswith("initial_"):
            raise SettingError(path, "a sweep of it has no effect: the run begins with the weights of `initial`")
    if len(settings.seeds) > MAX_REPLICAS:
        message = f"{len(settings.cells)} values of a sweep times {int(settings.replicas)} are more than {MAX_REPLICAS}"
        raise SettingError(("replicas",), message)
    settings.each()


def side_by_side(each: Sequence[Any], replicas: int) -> Any:
    """Join the settings of several cells, each with this number of replicas: a number that differs between cells
    becomes a tensor [R]."""
    first = each[0]
    if isinstance(first, Section):
        all_of = zip(*each, strict=True)  # pairs of a name and a value
        return first.model_copy(update={pairs[0][0]: side_by_side([v for _, v in pairs], replicas) for pairs in all_of})
    if isinstance(first, tuple | list):
        return type(first)(side_by_side(values, replicas) for values in zip(*each, strict=True))
    if all(one == first for one in each):
        return first
    return torch.tensor(each, dtype=torch.float64, device="cpu").repeat_interleave(replicas)


def some(value: Any, replicas: slice) -> Any:
    """Settings that `side_by_side` has joined, for some of the replicas."""
    if isinstance(value, Section):
        return value.model_copy(update={name: some(inner, replicas) for name, inner in value})
    if isinstance(value, tuple | list):
        return type(value)(some(inner, replicas) for inner in value)
    return value[replicas] if isinstance(value, Tensor) else value


def refusal(error: ValidationError, data: Any) -> tuple[Key, str]:
    """The path of the first setting that is wrong, and the message that says what is wrong with it. If it may have
    several types, that is an error of the type that it comes closest to: its error is the deepest."""
    found = [(path_in(each["loc"], each["type"], data), each) for each in error.errors(include_url=False)]
    first = found[0][0]
    path, closest = max((one for one in found if one[0][: len(first)] == first), key=lambda one: len(one[0]))
    message = re.sub("unable to parse string as an? .*", "in digits", closest["msg"].removeprefix("Value error, "))
    message = re.sub(r"a valid dictionary( or instance of \w+)?", "a mapping, {key: value}", message)
    given = "" if isinstance(closest["input"], dict) else f" (here: {short(closest['input'])})"
    return path, message[0].lower() + message[1:] + given


def path_in(places: Sequence[str | int], kind: str, data: Any) -> Key:
    """The path of a setting. places: where pydantic found an error of this kind; they also hold the name of a type
    below a setting that may have several types."""
    path = []
    for part in places:
        if isinstance(data, dict) and (part in data or kind == "missing"):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path.append(str(part))
    return tuple(path)


def imported(modules: Iterable[str], path: Key, text: str) -> Any:
    """The object that `module:name` names, in one of the imported modules. Raises SettingError for the setting at this
    path."""
    module, _, name = text.partition(":")
    if module not in modules:
        raise SettingError(path, f"{text} is in a module that is not in `imports`: set imports: [{module}]")
    members = vars(sys.modules[module])
    if name not in members:
        raise SettingError(path, f"{module} has no {name!r}", [key for key in members if key[:1] != "_"], name)
    return members[name]

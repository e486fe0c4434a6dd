"""From a YAML file and overrides to validated settings. Nothing in a config is ever executed.

Every value remembers where it was written, so that an error can name the file and line, or the option.
"""

import copy
import difflib
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from torch import optim

import rlgrad.problems
from rlgrad import optimizers
from rlgrad.environments import given_id
from rlgrad.errors import RunError, SettingError, UsageError, called
from rlgrad.loop import Direction, Problem, make_optimizer
from rlgrad.optimizers import schedules
from rlgrad.settings import Named, RunSettings, Section, imported
from rlgrad.usage import SHIPPED, find, split_overrides

MAX_NODES = 10_000  # values in a config: far more than anyone writes, and few enough that no alias bomb goes off

SET_BY_US = ("params", "maximize", "sign")  # arguments of an optimizer that no config gives

Anything = TypeVar("Anything", bound=Section)
Thing = TypeVar("Thing")
Key = tuple[str, ...]  # the path of a setting: ("optimizer", "lr")
Sources = dict[Key, str]  # where each was written: "cartpole.yaml:7", "--optimizer.lr"


class Loader(yaml.SafeLoader):
    """YAML as people write it: here 1e-3 is a number, as in YAML 1.2 (to PyYAML it is a string)."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class Config:
    """Settings, and where each was written."""

    def __init__(
        self,
        data: Mapping[str, Any],
        sources: Sources,
        name: str,
        allow_imports: bool = False,
        objects: Mapping[str, Any] | None = None,
    ):
        """objects: what is given from Python in the place of settings, by their names."""
        self.sources, self.name, self.allow_imports = sources, name, allow_imports
        self.folder = str(data.get("imports_from") or "")
        self.objects = {key: thing for key, thing in (objects or {}).items() if thing is not None}
        with self.located():
            if ":" in str(data.get("problem")):  # its settings are in a module
                self._import(listed(data.get("imports")))
            self.settings = validate(data)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Turns a SettingError into a UsageError that says where the setting was written."""
        try:
            yield
        except SettingError as error:
            path = error.path
            while path and path not in self.sources:
                path = path[:-1]
            where = self.sources[path]
            dotted = ".".join(error.path)
            at = where if not dotted or where == f"--{dotted}" else f"{where}: {dotted}"
            dashes = "--" if where.startswith("--") else ""
            meant = " or ".join(dashes + name for name in error.meant)
            raise UsageError(f"{at}: {error}" + (f"; did you mean {meant}?" if meant else "")) from error

    def with_settings(self, settings: RunSettings, name: str | None = None) -> "Config":
        """The same config with other settings, which are valid already."""
        other = copy.copy(self)
        other.settings, other.name, other.folder = settings, name or self.name, settings.imports_from or ""
        return other

    def build(self) -> "Built":
        """What the settings describe. Raises UsageError."""
        with self.located():
            self._import(self.settings.imports)
            self._check_given()
            try:
                problem = self.settings.build(**self.objects)
                optimizer = build_optimizer(self.settings, problem)
                return Built(problem, optimizer, build_schedule(self.settings, optimizer, problem.direction))
            except (SettingError, RunError):
                raise
            except Exception as error:  # an environment that cannot be made, too little memory: it can be anything
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise SettingError((), f"what it describes cannot be made: {reason[:300]}") from error

    def trained(self, tensors: Mapping[str, Any], description: Mapping[str, Any]) -> Any:
        """What one replica has learned, to be used: from its tensors [1, ...] and what was said beside them. Raises
        UsageError."""
        with self.located():
            self._import(self.settings.imports)
            self._check_given()
            try:
                return self.settings.trained(tensors, description, **self.objects)
            except SettingError:
                raise
            except Exception as error:  # a stranger's words: they lead to whatever they lead to
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                raise SettingError((), f"the weights do not belong to this config: {reason}") from error

    def _check_given(self) -> None:
        """Raises SettingError where an object is not what the settings say that was given."""
        asked = self.settings.given
        for name in sorted(asked.keys() | self.objects.keys()):
            if name not in self.settings.takes:
                raise SettingError(("given", name), f"the problem {self.settings.problem} takes no {name} from Python")
            if name not in self.objects:
                message = f"this run's {name} was made in Python: give it again, as in rlgrad.resume(RUN, {name}=...)"
                raise SettingError(("given", name), message)
            if asked.get(name) != (found := called(self.objects[name])):
                raise SettingError(("given", name), f"the run was begun with {asked.get(name, 'none')}, not {found}")

    def observers(self, kind: type[Thing]) -> list[Thing]:
        """Those that the config names, all of this class. Raises UsageError."""
        made = []
        with self.located():
            for number, name in enumerate(self.settings.observers):
                path = ("observers", str(number))
                made.append(self.settings.made(path, name))
                if not isinstance(made[-1], kind):
                    raise SettingError(path, f"{name} must be a class that derives from rlgrad.Observer")
        return made

    def _import(self, modules: Iterable[str]) -> None:
        """The only place where a config makes code run, and only where the user has said so."""
        for module in modules:
            if not self.allow_imports:
                message = f"importing {module!r} runs its code; say --allow-imports if you trust it"
                raise SettingError(("imports",), message)
            try:
                with self.importing():
                    importlib.import_module(module)
            except Exception as error:  # whatever the module raises
                reason = " ".join(str(error).split())
                hint = (
                    "; it is looked for beside the config and in the working directory"
                    if isinstance(error, ModuleNotFoundError)
                    else ""
                )
                raise SettingError(("imports",), f"{module!r} cannot be imported: {reason}{hint}") from error

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Modules are also found beside the config and in the working directory, where they may be imported at all:
        the config's own, and those that they import themselves, be it later on."""
        folders = {str(Path(self.folder).absolute()): None, str(Path().absolute()): None} if self.allow_imports else {}
        added = [folder for folder in folders if folder not in sys.path]
        sys.path += added
        try:
            yield
        finally:
            for folder in added:
                with suppress(ValueError):  # somebody else has removed it
                    sys.path.remove(folder)


class Built(NamedTuple):
    """All that a run trains with."""

    problem: Any
    optimizer: optim.Optimizer
    schedule: optim.lr_scheduler.LRScheduler | None


def load_config(
    source: str | Path | Mapping[str, Any] | Config,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    allow_imports: bool = False,
    objects: Mapping[str, Any] | None = None,
) -> Config:
    """Settings from a file (a path, or a name in configs/) or a mapping, with overrides on top; a Config as it is.

    overrides: as on a command line, ["--optimizer.lr", "0.01"], or a mapping {"optimizer.lr": 0.01}.
    allow_imports: whether the config may import modules, and so run code.
    Raises UsageError in one line.
    """
    folder = Path()
    if isinstance(source, Config):
        if overrides or any(thing is not None for thing in (objects or {}).values()):
            raise UsageError("a Config is ready: give what is to be another to load_config, or the config's file")
        return source
    if isinstance(source, Mapping):
        name = "config"
        data, sources = deep_copy(source), cast("Sources", {(): "config"})
    else:
        path = find(source)
        name, folder, (data, sources) = path.stem, path.parent, read(path)
    given = parse_overrides(overrides) if not isinstance(overrides, Mapping) else overrides
    for dotted, value in given.items():
        override(data, sources, tuple(dotted.split(".")), value)
    for key, thing in (objects or {}).items():
        if thing is not None:
            data.setdefault("given", {})[key] = called(thing)
            if key == "environment":  # an id that it is registered by
                data[key] = given_id(thing)
    if data.get("imports"):
        data.setdefault("imports_from", str(folder.absolute()))
    return Config(data, sources, name, allow_imports, objects)


def read(path: Path) -> tuple[dict[str, Any], Sources]:
    """A YAML file's mapping, and the place of each key in it as 'file:line'."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    return parse(text, path)


def parse(text: str, path: Path) -> tuple[dict[str, Any], Sources]:
    """The same of a text. path: what it is called in messages. Raises UsageError."""
    sources: Sources = {(): str(path)}
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise UsageError(f"{path}: the file is empty; the configs in {SHIPPED} show what belongs in one")
        locate(node, path, sources)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise UsageError(f"{where}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}:1: a config is a list of `setting: value` lines, not {describe_node(node)}")
    return data, sources


def locate(node: yaml.Node, path: Path, sources: Sources) -> None:
    """Note the place of each key below a node. Raises UsageError where there are too many, or one is no key."""
    left = MAX_NODES

    def visit(node: yaml.Node, at: Key) -> None:
        nonlocal left
        left -= 1
        line = f"{path}:{node.start_mark.line + 1}"
        if left < 0 or len(at) > 20:
            raise UsageError(f"{line}: more than a config can hold ({MAX_NODES} values, nested 20 deep)")
        if isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                place = f"{path}:{key.start_mark.line + 1}"
                if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                    raise UsageError(f"{place}: a setting's name must be a word, which {describe_node(key)} is not")
                if key.value in keys:
                    raise UsageError(f"{place}: {key.value} is set twice")
                keys.add(key.value)
                sources[(*at, key.value)] = place
                visit(value, (*at, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                visit(value, (*at, str(number)))

    visit(node, ())


def describe_node(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value)[:40]
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """`--a.b 1 --c 2 3 --d=4` -> {"a.b": 1, "c": [2, 3], "d": 4}; values are read as YAML."""
    result = {}
    for name, values in split_overrides(words).items():
        parsed = [parse_value(name, value) for value in values]
        result[name] = parsed[0] if len(parsed) == 1 else parsed
    return result


def parse_value(name: str, text: str) -> Any:
    try:
        return yaml.load(text, Loader) if len(text) < 10_000 and "&" not in text else text
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"--{name}: {text!r} is not a value: {' '.join(str(error).split())}") from error


def override(data: dict[str, Any], sources: Sources, path: Key, value: Any) -> None:
    """Set one value in nested mappings, and note that it came from an option."""
    option = "--" + ".".join(path)
    for depth, key in enumerate(path[:-1]):
        inner = data.get(key)
        if inner is None:
            inner = data[key] = {}
            sources.setdefault(path[: depth + 1], option)
        if not isinstance(inner, dict):
            named = isinstance(inner, str) and key in ("optimizer", "schedule")
            instead = f"; did you mean --{name_meant(key, inner)}?" if named else ""
            within = ".".join(path[: depth + 1])
            raise UsageError(f"{option}: {within} is a single value and has no settings in it{instead}")
        data = inner
    data[path[-1]] = value
    for known in [known for known in sources if known[: len(path)] == path]:
        del sources[known]
    sources[path] = option


def deep_copy(value: Any) -> Any:
    """Plain copies of nested mappings, so that overrides do not reach into the caller's."""
    return {key: deep_copy(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def problem_names() -> list[str]:
    """The problems there are: the files in rlgrad/problems."""
    return [module.name for module in pkgutil.iter_modules(rlgrad.problems.__path__)]


def settings_class(problem: str) -> type[RunSettings]:
    """The settings of a problem: `Settings` in its file."""
    module = importlib.import_module(f"rlgrad.problems.{problem}")
    return module.Settings  # type: ignore[no-any-return]


def validate(data: Mapping[str, Any]) -> RunSettings:
    """Settings from nested mappings. Raises SettingError for the first thing that is wrong."""
    problem = data.get("problem")
    if problem is None and isinstance(given := data.get("given"), dict) and "problem" in given:
        message = (
            f"this run's problem, {given['problem']}, was made in Python: resume it there, by rlgrad.follow(problem,"
        )
        raise SettingError((), message + " optimizer, out=..., resume=True)")
    if problem is None:
        raise SettingError((), f"`problem` is missing: one of {', '.join(problem_names())}")
    if ":" in str(problem):
        cls = imported(listed(data.get("imports")), ("problem",), str(problem))
        if not (isinstance(cls, type) and issubclass(cls, RunSettings)):
            raise SettingError(("problem",), f"{problem} must be a class that derives from rlgrad.settings.RunSettings")
        return valid(cls, data)
    if problem not in problem_names():
        raise SettingError(("problem",), f"unknown problem {problem!r}", problem_names(), str(problem))
    return valid(settings_class(problem), data)


def listed(value: Any) -> list[str]:
    """The modules of `imports`, before anything has been validated."""
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)] if value else []


def valid(cls: type[Anything], data: Mapping[str, Any]) -> Anything:
    """Settings of a class. Raises SettingError for the first thing that is wrong."""
    refuse_huge(data)
    try:
        return cls.model_validate(with_lists(cls, data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = tuple(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise unknown(cls, data, path) from error
        if first["type"] == "missing":
            raise SettingError(path[:-1], f"the setting `{path[-1]}` is missing") from error
        if path in (("optimizer",), ("schedule",)) and isinstance(first["input"], str):
            message = f"it takes a name and arguments (here: {first['input'][:60]})"
            raise SettingError(path, message, meant=[name_meant(path[0], first["input"])]) from error
        message = re.sub("unable to parse string as an? .*", "in digits", first["msg"].removeprefix("Value error, "))
        given = "" if isinstance(first["input"], dict) else f" (here: {str(first['input'])[:60]})"
        raise SettingError(path, message[0].lower() + message[1:] + given) from error


def unknown(cls: type[Section], data: Mapping[str, Any], path: Key) -> SettingError:
    """What is said of a setting that there is not: `lr` may be meant for `optimizer.lr`."""
    key = path[-1]
    if key == "device":
        return SettingError(path, "there is no such setting: rlgrad trains on the CPU")
    if meant := [name for name in nested_names(cls, data) if name.endswith(f".{key}")]:
        return SettingError(path, "unknown setting", meant=meant)
    return SettingError(path, "unknown setting", keys_at(cls, path[:-1]), key)


def nested_names(cls: type[Section], data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The full names of all nested settings, the arguments of the optimizer that `data` names included."""
    for name, field in cls.model_fields.items():
        if inner := settings_in(field.annotation):
            yield from (f"{prefix}{name}.{key}" for key in inner.model_fields)
            yield from nested_names(inner, {}, f"{prefix}{name}.")
    optimizer = data.get("optimizer")
    chosen = optimizer.get("name") if isinstance(optimizer, Mapping) else None
    if isinstance(chosen, str) and chosen in offered("optimizer"):
        arguments = inspect.signature(getattr(optimizers, chosen)).parameters
        yield from (f"optimizer.{argument}" for argument in arguments if argument not in SET_BY_US)


def offered(kind: str) -> set[str]:
    """The names that an `optimizer` or a `schedule` can have."""
    if kind == "optimizer":
        return subclasses_in(optimizers, optim.Optimizer) - {"SparseAdam"}  # it serves sparse gradients only
    base = optim.lr_scheduler.LRScheduler
    return subclasses_in(schedules, base) - {"LRScheduler", "LambdaLR", "MultiplicativeLR"}


def name_meant(kind: str, given: str) -> str:
    """How the optimizer or schedule that is most like the one given is asked for: `optimizer.name Adam`."""
    names = {name.lower(): name for name in sorted(offered(kind))}
    word = given.lower()
    close = difflib.get_close_matches(word, names, n=1) or [name for name in names if word in name]
    return f"{kind}.name {names[close[0]] if close else 'NAME'}"


def refuse_huge(data: Any, path: Key = ()) -> None:
    """Raises SettingError where a whole number does not fit into 64 bits: nothing here counts so far."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            refuse_huge(value, (*path, str(key)))
    elif isinstance(data, list | tuple):
        for number, value in enumerate(data):
            refuse_huge(value, (*path, str(number)))
    elif isinstance(data, int) and abs(data) >= 2**63:
        raise SettingError(path, "the number is too large: it must fit into 64 bits")


def with_lists(cls: type[BaseModel], data: Any) -> Any:
    """A single value stands for a list of one where a list is asked for: `hidden: 64`."""
    if not isinstance(data, Mapping):
        return data
    result = dict(data)
    for name, field in cls.model_fields.items():
        if name in result and get_origin(field.annotation) is tuple and isinstance(result[name], int | float | str):
            result[name] = [result[name]]
        elif name in result and (inner := settings_in(field.annotation)):
            result[name] = with_lists(inner, result[name])
    return result


def settings_in(annotation: Any) -> type[Section] | None:
    """The settings class that an annotation names, if any: `Schedule | None` -> Schedule."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def keys_at(cls: type[Section] | None, path: Key) -> list[str]:
    """The valid keys of the settings at a path."""
    for key in path:
        cls = settings_in(cls.model_fields[key].annotation) if cls and key in cls.model_fields else None
    return list(cls.model_fields) if cls else []


def build_optimizer(settings: RunSettings, problem: Problem) -> optim.Optimizer:
    """Any optimizer in rlgrad.optimizers (torch's are). Raises SettingError for a wrong name or argument."""
    check_named(("optimizer",), settings.optimizer, optimizers, offered("optimizer"), without=SET_BY_US)
    name, arguments, heading = (
        settings.optimizer.name,
        settings.optimizer.arguments,
        settings.heading(problem.direction),
    )
    try:
        return make_optimizer(problem, name, direction=heading, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SettingError(("optimizer",), f"{settings.optimizer.name}: {error}") from error


def build_schedule(
    settings: RunSettings, optimizer: optim.Optimizer, direction: Direction
) -> optim.lr_scheduler.LRScheduler | None:
    """Any scheduler in rlgrad.schedules (torch's are), nested ones included. Raises SettingError."""
    if settings.schedule is None:
        return None
    made = make_schedule(("schedule",), settings.schedule, optimizer, direction.value)
    ends = getattr(made, "total_steps", None)  # OneCycleLR refuses to be stepped any further
    if ends is not None and ends < settings.updates:
        raise SettingError(("schedule",), f"{settings.schedule.name} ends after {ends} updates, before the run")
    return made


def make_schedule(path: Key, named: Named, optimizer: optim.Optimizer, mode: str) -> optim.lr_scheduler.LRScheduler:
    module = schedules
    check_named(path, named, module, offered("schedule"), without=("optimizer", "mode", "lr_lambda"))
    arguments = named.arguments
    if "schedulers" in arguments:  # SequentialLR and ChainedScheduler hold others
        arguments["schedulers"] = [
            make_schedule((*path, "schedulers", str(number)), nested(path, inner), optimizer, mode)
            for number, inner in enumerate(arguments["schedulers"])
        ]
    if named.name == "ReduceLROnPlateau":
        arguments["mode"] = mode
    try:
        if named.name == "ChainedScheduler":
            return optim.lr_scheduler.ChainedScheduler(**arguments, optimizer=optimizer)
        return getattr(module, named.name)(optimizer, **arguments)  # type: ignore[no-any-return]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise SettingError(path, f"{named.name}: {error}") from error


def nested(path: Key, inner: Any) -> Named:
    try:
        return Named.model_validate(inner)
    except ValidationError as error:
        raise SettingError((*path, "schedulers"), "each of the schedulers needs a `name`") from error


def subclasses_in(module: Any, base: type) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base and not name.startswith("_")
    }


def check_named(path: Key, named: Named, module: Any, valid: set[str], without: tuple[str, ...]) -> None:
    """A name that exists, and arguments that it has."""
    if named.name not in valid:
        kind = path[0]
        raise SettingError((*path, "name"), f"torch has no {kind} {named.name!r} to offer here", valid, named.name)
    signature = set(inspect.signature(getattr(module, named.name)).parameters) - set(without)
    for argument in named.arguments:
        if argument == "maximize":
            raise SettingError((*path, argument), "the direction belongs to the problem, not to the optimizer")
        if argument not in signature:
            raise SettingError((*path, argument), f"{named.name} has no such argument", signature, argument)


def schema() -> dict[str, Any]:
    """The JSON Schema of a config, for editors: one of the problems' settings."""
    from pydantic import TypeAdapter

    classes = tuple(settings_class(name) for name in problem_names())
    adapter: TypeAdapter[Any] = TypeAdapter(Union[classes])  # type: ignore[arg-type]  # noqa: UP007 - built as it runs
    result = adapter.json_schema()
    for name, module, base in (
        ("Optimizer", optimizers, optim.Optimizer), ("Schedule", schedules, optim.lr_scheduler.LRScheduler)
    ):  # fmt: skip
        result["$defs"][name]["properties"]["name"]["enum"] = sorted(subclasses_in(module, base))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "rlgrad config", **result}

"""Turns a YAML file and overrides into validated settings. Nothing in a config is ever executed.

The place where each value was written is remembered, so that an error can name the file and line, or the option.
"""

import copy
import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from torch import optim

import rlgrad.problems
from rlgrad import files, optimizers
from rlgrad.environments import given_id
from rlgrad.errors import RunError, SettingError, UsageError, called, said, say_once, short, strange, text_of
from rlgrad.named import build_optimizer, build_schedule, name_meant, offered, try_out, types_of
from rlgrad.notation import Loader, QuickLoader, write
from rlgrad.settings import SHARED, Key, RunSettings, Section, check_sweeps, imported, is_meant, meant, refusal
from rlgrad.usage import find
from rlgrad.written import Sources, override, parse, parse_overrides, plain, read

Anything = TypeVar("Anything", bound=Section)
Thing = TypeVar("Thing")


class Config:
    """The settings of a run, and the place where each was written."""

    def __init__(
        self,
        data: Mapping[str, Any],
        sources: Sources,
        name: str,
        allow_imports: bool = False,
        objects: Mapping[str, Any] | None = None,
    ):
        """objects: what is given from Python instead of settings, by the names of the settings."""
        self.sources, self.name, self.allow_imports = sources, name, allow_imports
        self.folder = str(data.get("imports_from") or "")
        self.objects = {key: thing for key, thing in (objects or {}).items() if thing is not None}
        with self.located():
            for path in meant(data, "search"):
                raise SettingError(path, "a run has one value: rlgrad search tries several, one run after the other")
            if ":" in str(data.get("problem")):  # its settings are in a module
                self._import(listed(data.get("imports")))
            self.settings = validate(data)

    def located(self) -> AbstractContextManager[None]:
        """Turn a SettingError into a UsageError that says where the setting was written."""
        return located(self.sources)

    def with_settings(self, settings: RunSettings, name: str | None = None) -> "Config":
        """The same config with other settings, which are valid already."""
        other = copy.copy(self)
        other.settings, other.name, other.folder = settings, name or self.name, settings.imports_from or ""
        return other

    def resolve(self) -> RunSettings:
        """Replace what depends on the data by numbers, and return the settings. Raises UsageError."""
        with self.located():
            self.settings = self.settings.resolved()
            check_sweeps(self.settings)
            return self.settings

    def build(self) -> "Built":
        """Build the problem, optimizer and schedule that the settings describe. Raises UsageError."""
        self.resolve()
        with self.located():
            self._import(self.settings.imports)
            self._check_given()
            try:
                problem = self.settings.build(**self.objects)
                self._check_replicas(problem)
                if self.settings.stop_when_solved and problem.solved is None:
                    raise SettingError(("stop_when_solved",), "it has no effect: nothing says when this is solved")
                optimizer = build_optimizer(self.settings, problem)
                schedule = build_schedule(self.settings, optimizer, problem.direction)
                try_out(self.settings, problem)
                return Built(problem, optimizer, schedule)
            except (SettingError, RunError):
                raise
            except BaseException as error:  # anything can go wrong here: an environment that fails, too little memory
                if not strange(error):
                    raise
                raise SettingError((), f"what it describes cannot be made: {said(error)}") from error

    def _check_replicas(self, problem: Any) -> None:
        """Raises SettingError if the user's own problem does not support sweeps."""
        count, cells = len(next(problem.model.parameters(), ())), len(self.settings.cells)
        if cells > 1 and count != len(self.settings.seeds):
            message = f"its model has {count} replicas, but the sweep needs {len(self.settings.seeds)}: build it of "
            raise SettingError(next(iter(self.settings.grid)), message + "settings.spread(), and with settings.seeds")

    def trained(self, tensors: Mapping[str, Any], description: Mapping[str, Any]) -> Any:
        """The trained model of one replica, ready for use, from its tensors [1, ...] and the description beside them.
        Raises UsageError."""
        with self.located():
            self._import(self.settings.imports)
            self._check_given()
            try:
                return self.settings.trained(tensors, description, **self.objects)
            except SettingError:
                raise
            except Exception as error:  # the file may come from anyone, so any error is possible
                reason = f"{type(error).__name__}: {text_of(error)}"
                raise SettingError((), f"the weights do not belong to this config: {reason}") from error

    def _check_given(self) -> None:
        """Raises SettingError if an object is not the one that `given` in the settings names."""
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
        """Make the observers that the config names; each must be of this class. Raises UsageError."""
        made = []
        with self.located():
            for number, name in enumerate(self.settings.observers):
                path = ("observers", str(number))
                made.append(self.settings.made(path, name))
                if not isinstance(made[-1], kind):
                    raise SettingError(path, f"{name} must be a class that derives from rlgrad.Observer")
        return made

    def _import(self, modules: Iterable[str]) -> None:
        """Import modules. This is the only place where a config can run code, and only if the user has allowed it."""
        for module in modules:
            if not self.allow_imports:
                message = f"importing {module!r} runs its code; say --allow-imports if you trust it"
                raise SettingError(("imports",), message)
            try:
                with self.importing():
                    found = importlib.import_module(module)
            except Exception as error:  # whatever the module raises
                message = f"{module!r} cannot be imported: {text_of(error)}"
                if isinstance(error, ModuleNotFoundError):
                    message += "; it is looked for beside the config and in the working directory"
                raise SettingError(("imports",), message) from error
            self._check_origin(found)
            if file := files.changed(module):
                say_once(f"{file} has changed since it was imported: the old text runs, until a new process begins")

    def _check_origin(self, module: ModuleType) -> None:
        """Raises SettingError if the module is not the one beside the config: another of its name was found first."""
        beside = PathFinder.find_spec(module.__name__, [str(Path(self.folder).absolute())])
        meant, found = beside and beside.origin, getattr(module, "__file__", None)
        if meant and Path(meant).resolve() != Path(found or "built in").resolve():
            message = f"{module.__name__!r} is {found or 'built in'}, and not {meant} beside the config: rename that"
            raise SettingError(("imports",), message)

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Let Python find modules beside the config and in the working directory too, if imports are allowed. This
        covers the config's own modules and those that they import themselves, also later."""
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
    """What a run trains with."""

    problem: Any
    optimizer: optim.Optimizer
    schedule: optim.lr_scheduler.LRScheduler | None


@contextmanager
def located(sources: Sources) -> Iterator[None]:
    """Turn a SettingError into a UsageError that says where the setting was written."""
    try:
        yield
    except SettingError as error:
        path = error.path
        while path and path not in sources:
            path = path[:-1]
        where = sources[path]
        dotted = ".".join(error.path)
        at = where if not dotted or where == f"--{dotted}" else f"{where}: {dotted}"
        dashes = "--" if where.startswith("--") else ""
        meant = " or ".join(dashes + name for name in error.meant)
        raise UsageError(f"{at}: {error}" + (f"; did you mean {meant}?" if meant else "")) from error


def load_config(
    source: str | Path | Mapping[str, Any] | Config,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    allow_imports: bool = False,
    objects: Mapping[str, Any] | None = None,
) -> Config:
    """The config in a file (a path, or a name in configs/) or a mapping, with overrides. A Config is returned as it is.

    overrides: as on a command line, ["--optimizer.lr", "0.01"], or a mapping {"optimizer.lr": 0.01}.
    allow_imports: whether the config may import modules, and so run code.
    objects: what is given from Python instead of settings, by the names of the settings.
    Raises UsageError in one line.
    """
    if isinstance(source, Config):
        if overrides or any(thing is not None for thing in (objects or {}).values()):
            raise UsageError("a Config is complete: give the changes to load_config, or give the config's file")
        return source
    data, sources, name = gathered(source, overrides)
    for key, thing in (objects or {}).items():
        if thing is not None:
            data.setdefault("given", {})[key] = called(thing)
            if key == "environment":  # the setting gets the id under which the object is registered
                data[key] = given_id(thing)
    return Config(data, sources, name, allow_imports, objects)


def gathered(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] | Mapping[str, Any]
) -> tuple[dict[str, Any], Sources, str]:
    """The content of a config with its overrides, not yet validated; the place of each value; the config's name."""
    folder = Path()
    if isinstance(source, Mapping):
        name = "config"
        data, sources = plain(source), cast("Sources", {(): "config"})
    else:
        path = find(source)
        name, folder, (data, sources) = path.stem, path.parent, read(path)
    given = plain(overrides) if isinstance(overrides, Mapping) else parse_overrides(overrides)
    for dotted, value in given.items():
        override(data, sources, tuple(dotted.split(".")), value)
    if data.get("imports"):
        data.setdefault("imports_from", str(folder.absolute()))
    return data, sources, name


def with_sweeps(source: str | Path, words: Sequence[str], allow_imports: bool = False) -> Config:
    """The config of `rlgrad sweep`: a setting that is given several values is swept, unless it is a list. Raises
    UsageError in one line."""
    given = parse_overrides(words)
    several = {name: values for name, values in given.items() if isinstance(values, list)}
    once = {name: value for name, value in given.items() if name not in several}
    plain = load_config(source, once, allow_imports).settings.model_dump()
    for name, values in several.items():
        holder: Any = plain
        for key in name.split("."):
            holder = holder.get(key) if isinstance(holder, Mapping) else None
        one = isinstance(holder, list | tuple) and not any(isinstance(value, list) for value in values)
        once[name] = values if one else {"sweep": values}
    config = load_config(source, once, allow_imports)
    if not config.resolve().grid:
        raise UsageError("nothing is swept: give a setting several values, as --optimizer.lr 0.003 0.01 0.03")
    return config


def problem_names() -> list[str]:
    """The names of all problems: the files in rlgrad/problems."""
    return [module.name for module in pkgutil.iter_modules(rlgrad.problems.__path__)]


def settings_class(problem: str) -> type[RunSettings]:
    """The class of a problem's settings: `Settings` in its file."""
    module = importlib.import_module(f"rlgrad.problems.{problem}")
    return module.Settings  # type: ignore[no-any-return]


def validate(data: Mapping[str, Any]) -> RunSettings:
    """The settings that nested mappings hold. Raises SettingError for the first thing that is wrong."""
    problem = data.get("problem")
    if problem is None and isinstance(given := data.get("given"), dict) and "problem" in given:
        message = f"this run's problem, {given['problem']}, was made in Python: resume it there, by "
        raise SettingError((), message + "rlgrad.follow(problem, optimizer, out=..., resume=True)")
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
    """The modules in `imports`, as a list, from a config that is not yet validated."""
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)] if value else []


def valid(cls: type[Anything], data: Mapping[str, Any]) -> Anything:
    """Validate the data as settings of this class. Raises SettingError for the first thing that is wrong."""
    try:
        data = with_lists(cls, plain(data))
        settings = cls.model_validate(data)
        check_sweeps(settings)
    except ValidationError as error:
        path, message = refusal(error, data)
        first = error.errors(include_url=False)[0]
        if first["type"] == "extra_forbidden":
            raise unknown(cls, data, path) from error
        if is_meant(first["input"], "sweep"):
            raise SettingError(path, SHARED) from error
        if first["type"] == "missing":
            raise SettingError(path[:-1], f"the setting `{path[-1]}` is missing") from error
        if path in (("optimizer",), ("schedule",)) and isinstance(first["input"], str):
            message = f"it takes a name and arguments (here: {short(first['input'])})"
            raise SettingError(path, message, meant=[name_meant(path[0], first["input"])]) from error
        raise SettingError(path, message) from error
    check_readable(settings)
    return settings


def check_readable(settings: Section) -> None:
    """Raises SettingError if the settings, written as YAML, would not read back the same."""
    content = settings.model_dump()
    for path, value in leaves(content):
        if isinstance(value, int) and abs(value) >= 2**63:
            raise SettingError(path, "the number is too large: it must fit into 64 bits")
        if not isinstance(value, str | int | float | None) or value != value:
            what = "nan" if isinstance(value, float) else called(type(value))
            raise SettingError(path, f"a config can only hold text, numbers, true, false, null (here: {what})")
    try:
        text = write(content)
        reader = Loader if "\\uD" in text else QuickLoader  # which cannot read what is not valid Unicode
        again = type(settings).model_validate(parse(text, Path("config"), reader)[0]).model_dump()
    except (UsageError, ValidationError) as error:
        raise SettingError((), f"it cannot be written as YAML and read back: {said(error)}") from error
    if again != content:
        old, new = dict(leaves(content)), dict(leaves(again))
        path = next((path for path in old | new if old.get(path) != new.get(path)), ())
        raise SettingError(path, "it changes when it is written as YAML and read back")


def leaves(value: Any, path: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield each single value in nested mappings and lists, with its path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise SettingError(path, f"a setting's name must be a word, not {short(repr(key))}")
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, str(number)))
    else:
        yield path, value


def unknown(cls: type[Section], data: Mapping[str, Any], path: Key) -> SettingError:
    """The error for a setting that does not exist. It suggests the setting that is meant: `optimizer.lr` for `lr`."""
    key = path[-1]
    if meant := [name for name in nested_names(cls, data) if name.endswith(f".{key}")]:
        return SettingError(path, "unknown setting", meant=meant)
    return SettingError(path, "unknown setting", keys_at(cls, path[:-1]), key)


def nested_names(cls: type[Section], data: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the full names of all nested settings, including the arguments of the optimizer that `data` names."""
    for name, field in cls.model_fields.items():
        if inner := settings_in(field.annotation):
            yield from (f"{prefix}{name}.{key}" for key in inner.model_fields)
            yield from nested_names(inner, {}, f"{prefix}{name}.")
    optimizer = data.get("optimizer")
    chosen = optimizer.get("name") if isinstance(optimizer, Mapping) else None
    if isinstance(chosen, str) and chosen in offered("optimizer"):
        yield from (f"optimizer.{argument}" for argument in types_of(getattr(optimizers, chosen)).model_fields)


def with_lists(cls: type[BaseModel], data: Any) -> Any:
    """Replace a single value by a list of one where the setting is a list: `hidden: 64`."""
    if not isinstance(data, Mapping):
        return data
    result = dict(data)
    for name, field in cls.model_fields.items():
        value = result.get(name)
        if get_origin(field.annotation) is tuple and isinstance(value, int | float | str | Mapping):
            result[name] = [value]
        elif name in result and (inner := settings_in(field.annotation)):
            result[name] = with_lists(inner, value)
    return result


def settings_in(annotation: Any) -> type[Section] | None:
    """The settings class in an annotation, if any: `Schedule | None` -> Schedule."""
    for candidate in () if get_origin(annotation) is tuple else (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def keys_at(cls: type[Section] | None, path: Key) -> list[str]:
    """The valid keys of the settings at a path."""
    for key in path:
        cls = settings_in(cls.model_fields[key].annotation) if cls and key in cls.model_fields else None
    return list(cls.model_fields) if cls else []


def schema() -> dict[str, Any]:
    """The JSON Schema of a config, for editors: the settings of any one of the problems."""
    from pydantic import TypeAdapter

    classes = tuple(settings_class(name) for name in problem_names())
    adapter: TypeAdapter[Any] = TypeAdapter(Union[classes])  # type: ignore[arg-type]  # noqa: UP007 - built as it runs
    result = adapter.json_schema()
    for name in ("Optimizer", "Schedule"):
        result["$defs"][name]["properties"]["name"]["enum"] = sorted(offered(name.lower()))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "rlgrad config", **result}

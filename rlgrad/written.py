"""Reads a config's file and a command's options, and remembers where each value was written.

So an error in a value can name the file and line, or the option. Nothing that is read is ever executed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from rlgrad.errors import UsageError, said, short
from rlgrad.named import name_meant
from rlgrad.notation import LARGEST, Loader
from rlgrad.settings import Key
from rlgrad.usage import SHIPPED, split_overrides

MAX_NODES = 10_000  # values in a config: far more than anyone writes, and few enough to stop an alias bomb
DEEPEST = 20  # settings within settings

Sources = dict[Key, str]  # where each value was written: "cartpole.yaml:7", "--optimizer.lr"


def read(path: Path) -> tuple[dict[str, Any], Sources]:
    """The mapping in a YAML file, and the place of each key as 'file:line'. Raises UsageError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise UsageError(f"{path}: larger than a config can be ({LARGEST >> 20} MB)")
        return parse(content.decode(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error


def parse(text: str, path: Path, reader: type[Any] = Loader) -> tuple[dict[str, Any], Sources]:
    """The mapping in a YAML text, and the place of each key. path: the text's name in messages. Raises UsageError."""
    sources: Sources = {(): str(path)}
    try:
        loader = reader(text)
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
        raise UsageError(f"{path}: not valid YAML: {said(error)}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}:1: a config is a list of `setting: value` lines, not {describe_node(node)}")
    return data, sources


def locate(node: yaml.Node, path: Path, sources: Sources) -> None:
    """Note the place of each key below a node. Raises UsageError if there are too many, or if a key is not a word."""
    left = MAX_NODES

    def visit(node: yaml.Node, at: Key) -> None:
        nonlocal left
        left -= 1
        line = f"{path}:{node.start_mark.line + 1}"
        if left < 0 or len(at) > DEEPEST:
            raise UsageError(f"{line}: more than a config can hold ({MAX_NODES} values, nested {DEEPEST} deep)")
        if isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                place = f"{path}:{key.start_mark.line + 1}"
                if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                    raise UsageError(f"{place}: a setting's name must be a word, not {describe_node(key)}")
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
        return short(repr(node.value))
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """`--a.b 1 --c 2 3 --d=4` -> {"a.b": 1, "c": [2, 3], "d": 4}; values are read as YAML."""
    result = {}
    for name, values in split_overrides(words).items():
        parsed = [parse_value(name, value) for value in values]
        result[name] = parsed[0] if len(parsed) == 1 else parsed
    return result


def parse_value(name: str, text: str) -> Any:
    """The value of an option, read as in a file; a leading & is text here, not a YAML anchor. Raises UsageError."""
    if text.startswith("&"):
        return text
    option, given = Path(f"--{name}"), short(repr(text))
    if len(text) > LARGEST:
        raise UsageError(f"{option}: longer than a config can be ({LARGEST >> 20} MB)")
    try:
        data, _ = parse(f"value: {text}", option)
    except UsageError as error:
        reason = re.sub(rf"^{re.escape(str(option))}[:\d]*: (not valid YAML: )?", "", str(error))
        raise UsageError(f"{option}: {given} is not a value: {reason}") from error
    if data.keys() != {"value"}:
        raise UsageError(f"{option}: {given} is not one value")
    return data["value"]


def override(data: dict[str, Any], sources: Sources, path: Key, value: Any) -> None:
    """Set one value in nested mappings and lists, and note that it came from an option."""
    option, holder = "--" + ".".join(path), cast("Any", data)
    for depth, key in enumerate(path):
        within = ".".join(path[:depth])
        at: Any = key
        if isinstance(holder, list):
            at = int(key) if re.fullmatch("[0-9]{1,5}", key) else -1
            if not 0 <= at < len(holder):
                raise UsageError(f"{option}: {within} is a list of {len(holder)}: its elements are 0, 1, ...")
        elif not isinstance(holder, dict):
            named = isinstance(holder, str) and path[:depth] in (("optimizer",), ("schedule",))
            instead = f"; did you mean --{name_meant(path[0], holder)}?" if named else ""
            raise UsageError(f"{option}: {within} is a single value and has no settings in it{instead}")
        if depth == len(path) - 1:
            holder[at] = value
        elif isinstance(holder, dict) and isinstance(holder.get(at), int | float | None):
            holder[at] = {}  # also instead of a number: {sweep: [1, 2]}, {folds: 10}
            sources[path[: depth + 1]] = option
        holder = holder[at]
    for known in [known for known in sources if known[: len(path)] == path]:
        del sources[known]
    sources[path] = option


def as_written(value: Any) -> str:
    """The value of a setting as a config has it: null, true, [32]; a text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def plain(value: Any, depth: int = 0) -> Any:
    """Copy nested mappings and lists, so that the caller's never change, and turn numpy's numbers into Python's. Raises
    UsageError if they are nested too deep, as a mapping is that contains itself."""
    if depth > DEEPEST:
        raise UsageError(f"config: it contains itself, or is nested more than {DEEPEST} deep")
    if isinstance(value, Mapping):
        return {key: plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, depth + 1) for inner in value]
    return value.item() if isinstance(value, np.generic) else value

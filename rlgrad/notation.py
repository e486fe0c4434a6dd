"""The YAML of configs: how a plain word is read, and how values are written so that they read back the same.

The scalars are those of YAML 1.2's core schema; PyYAML has those of 1.1. So yes, no, on, off, dates and times are text,
010 is ten, and 1e-3 is a number. There are no other types: a tag such as !!binary is refused.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml

LARGEST = 2**20  # bytes of a config: far more than anyone writes, and few enough to be read and refused fast

TAG = "tag:yaml.org,2002:"
SCALARS = {  # the pattern of each type, and the characters that it can begin with
    "bool": ("true|True|TRUE|false|False|FALSE", "tTfF"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "int": ("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "merge": ("<<", "<"),  # of YAML 1.1: as a setting's name it is refused
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
}


class Loader(yaml.SafeLoader):
    """Reads a config. Nothing in it is ever executed."""

    yaml_implicit_resolvers = {}
    yaml_constructors = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(TAG) in ("bool", "float", "map", "null", "seq", "str")
    }


class QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same in C, ten times as fast, for text that `write` has written: other text could exhaust the memory."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}
    yaml_constructors = Loader.yaml_constructors


class Dumper(yaml.SafeDumper):
    """Writes a config. Text is in quotes if YAML 1.1 or 1.2 would read it as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        """An object that occurs twice is written in full each time, without YAML's aliases."""
        return True


class QuickDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """The same in C, ten times as fast. It cannot write text that is not valid Unicode, such as some file names."""

    ignore_aliases = Dumper.ignore_aliases


def whole(loader: Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


Loader.yaml_constructors[f"{TAG}int"] = whole
for name, (pattern, first) in SCALARS.items():
    for reader in (Loader, QuickLoader, Dumper, QuickDumper):
        reader.add_implicit_resolver(TAG + name, re.compile(f"^(?:{pattern})$"), list(first))


def write(settings: Mapping[str, Any]) -> str:
    """Nested settings as YAML that reads back the same. Raises yaml.YAMLError for a value that is not text, a number,
    true, false, null, or a list or mapping of these."""
    form: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 120}
    try:
        text: str = yaml.dump(settings, Dumper=QuickDumper, **form)
    except UnicodeEncodeError:
        text = yaml.dump(settings, Dumper=Dumper, **form)
    return text

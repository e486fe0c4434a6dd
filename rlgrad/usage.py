"""Checks the words of a command line without torch or YAML, so that a mistake is answered at once."""

import argparse
import difflib
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlgrad.errors import UsageError, nearest, short
from rlgrad.files import in_command

PACKAGED = Path(__file__).parent / "configs"  # where a wheel has the configs; a checkout has them at its top
SHIPPED = PACKAGED if PACKAGED.is_dir() else Path(__file__).parent.parent / "configs"


def shipped() -> list[str]:
    """The names of the configs in configs/."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find(source: str | Path) -> Path:
    """The file of a config: a path, or a name in configs/, with or without .yaml. Raises UsageError."""
    given = Path(source).expanduser()
    for folder in (Path(), SHIPPED):
        for candidate in (folder / given, folder / f"{given}.yaml"):
            if candidate.is_file():
                return candidate
    raise UsageError(f"no config {str(source)!r}, neither as a path nor in {SHIPPED}" + nearest(given.stem, shipped()))


def whole(text: str) -> int:
    """The whole number in an option's text, within 64 bits, like the numbers of a config."""
    if not re.fullmatch("-?[0-9]{1,19}", text) or abs(int(text)) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be a whole number below 2^63 (here: {short(text)})")
    return int(text)


def too_early(number: int, frame: Any) -> None:
    """Ignore a signal that asks for a checkpoint, because there is nothing to save yet."""


def check_run(run: str) -> None:
    """Raises UsageError if there is no run in a directory."""
    if not os.path.isfile(os.path.join(run, "config.yaml")):
        there = (str(path.parent) for path in Path("runs").glob("*/config.yaml"))
        raise UsageError(f"{run}: there is no run here (no config.yaml)" + nearest(run, there))


def check_trained(run: str) -> None:
    """Raises UsageError if there is no run in a directory, or if it has not saved a model yet."""
    check_run(run)
    if not os.path.isfile(os.path.join(run, "model.safetensors")):
        hint = f"rlgrad train --resume {in_command(run)} goes on with it"
        raise UsageError(f"{run}: this run has not ended: there is no model yet (no model.safetensors); {hint}")


def check_first_word(words: Sequence[str], commands: Sequence[str]) -> None:
    """Raises UsageError if a command line does not begin with a command; the error names the probable one."""
    if not words:
        raise UsageError(f"which command? {', '.join(commands)}; rlgrad --help says what they do")
    first = words[0]
    if first in (*commands, "-h", "--help", "-V", "--version"):
        return
    if first in shipped():
        meant = f"rlgrad train --config {shlex.join(words)}"
        raise UsageError(f"{first!r} is not a command but a config; did you mean {meant}?")
    if not first.startswith("-"):
        raise UsageError(f"unknown command {first!r}" + nearest(first, commands))
    if len(words) == 1 and "=" not in first:
        raise UsageError(f"unknown option {first!r}" + nearest(first, ("--help", "--version")))
    command = next((word for word in words if word in commands), "train")
    ordered = [command, *(word for word in words if word != command)]
    raise UsageError(f"{first!r} comes before the command; did you mean rlgrad {shlex.join(ordered)}?")


def which_config(words: Sequence[str]) -> UsageError:
    """The error for a command line without --config. It suggests a config or run that the words name."""
    for word in words:
        if os.path.isfile(os.path.join(word, "config.yaml")):
            return UsageError(f"which config? did you mean --resume {in_command(word)}?")
        if word.endswith((".yaml", ".yml")) and os.path.isfile(word):
            return UsageError(f"which config? did you mean --config {in_command(word)}?")
        for name in difflib.get_close_matches(word.lower().removesuffix(".yaml"), shipped(), n=1, cutoff=0.8):
            return UsageError(f"which config? did you mean --config {name}?")
    return UsageError("which config? --config FILE, or a name: " + ", ".join(shipped()))


def split_overrides(words: Sequence[str]) -> dict[str, list[str]]:
    """`--a.b 1 --c 2 3 --d=4` -> {"a.b": ["1"], "c": ["2", "3"], "d": ["4"]}. Raises UsageError."""
    result: dict[str, list[str]] = {}

    def is_option(word: str) -> bool:
        return word.startswith("--") and len(word) > 2

    position = 0
    while position < len(words):
        word = words[position]
        if not is_option(word):
            raise UsageError(f"unexpected argument {word!r}; overrides are written --setting value")
        name, equals, inline = word[2:].partition("=")
        position += 1
        values = [inline] if equals else []
        while not equals and position < len(words) and not is_option(words[position]):
            values.append(words[position])
            position += 1
        if not values:
            raise UsageError(f"--{name}: a value is missing; overrides are written --setting value")
        if name in result:
            raise UsageError(f"--{name}: given twice")
        result[name] = values
    if len(seeds := result.get("seed", [])) > 1:
        instead = f"--seed {seeds[0]} --replicas {len(seeds)}"
        raise UsageError(f"--seed: give one seed; {instead} trains {len(seeds)} consecutive seeds side by side")
    return result

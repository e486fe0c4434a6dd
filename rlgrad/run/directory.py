"""The run directory: where it is, what is written into it, and that no two runs ever share one."""

import contextlib
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from rlgrad.settings import RunSettings, UsageError

PACKAGES = ("rlgrad", "torch", "gymnasium", "numpy", "tensorboard")


def claim(name: str, out: str | Path | None) -> Path:
    """Make the directory of a new run: `out`, or runs/<name>-<number> with the first free number.

    Raises UsageError where `out` holds something already.
    """
    try:
        if out is None:
            for number in itertools.count(1):
                with contextlib.suppress(FileExistsError):
                    directory = Path("runs") / f"{name}-{number}"
                    directory.mkdir(parents=True)  # fails for all but one of those who want the same name
                    break
        else:
            directory = Path(out)
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                hint = "continue it with --resume, or " if (directory / "config.yaml").exists() else ""
                raise UsageError(f"--out {out}: the directory is not empty; {hint}name another")
        (directory / "config.yaml").touch(exist_ok=False)
    except OSError as error:
        raise UsageError(f"cannot make the run directory: {error}") from error
    return directory


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old file or the new one, never half of one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def dump(settings: RunSettings) -> str:
    """The settings as YAML that `--config` reads back."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=120)


def environment(settings: RunSettings) -> dict[str, Any]:
    """What a result may depend on, besides the config."""
    return {
        "command": sys.argv,
        "seed": settings.seed,
        "commit": commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "threads": torch.get_num_threads(),
    }


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of the checkout that this package is run from, if it is one; '-dirty' where files have changed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optimizer": {"lr": 1}} -> {"optimizer.lr": 1}."""
    result: dict[str, Any] = {}
    for key, value in nested.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result

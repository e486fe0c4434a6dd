"""Saving and restoring a run, so that it continues bit for bit.

All randomness is a function of (seed, replica, step), so a checkpoint needs no generator's state. It is a file of
`torch.save` with its SHA-256 at the end. The checkpoint before it is kept, and used if the newest is damaged.
"""

import copy
import hashlib
import io
import os
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlgrad import files
from rlgrad.errors import UsageError, say, text_of

FORMAT = 2
CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
SEAL = b"\nsha256 of all that comes before this line: "


def save(directory: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint for any machine, and keep the one before it. Raises OSError; a good one is there even then."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **on("cpu", content)}, buffer)
    files.write(directory / CURRENT, sealed(buffer.getvalue()), directory / PREVIOUS)


def on(device: torch.device | str, state: Any) -> Any:
    """Return nested mappings and lists with all their tensors on this device."""
    if isinstance(state, Mapping):
        same: Any = copy.copy(state)
        same.update({name: on(device, each) for name, each in state.items()})
        return same
    if isinstance(state, list | tuple):
        return type(state)(on(device, each) for each in state)
    return state.to(device) if isinstance(state, torch.Tensor) else state


def readable(state: Any) -> bool:
    """Whether `load` can read the state back: it must be made of numbers, texts, tensors, lists and dicts."""
    if isinstance(state, Mapping):
        return type(state) in (dict, OrderedDict) and all(readable(each) for pair in state.items() for each in pair)
    if type(state) in (list, tuple):
        return all(readable(each) for each in state)
    return state is None or type(state) in (bool, int, float, str, bytes, torch.Tensor, nn.Parameter)


def exists(directory: Path) -> bool:
    return (directory / CURRENT).exists() or (directory / PREVIOUS).exists()


def load(directory: Path) -> dict[str, Any] | None:
    """The content of the newest checkpoint that is not damaged; None if there is no checkpoint at all.

    Nothing in it is executed. A damaged one is named on standard error. Raises UsageError if all are damaged.
    """
    found = newest(directory)
    return found and found[1]


def newest(directory: Path, fits: Callable[[dict[str, Any]], None] | None = None) -> tuple[str, dict[str, Any]] | None:
    """The name and content of the newest checkpoint that can be used. fits: raises ValueError or OSError if the rest of
    the run is not what it was at that checkpoint, which is as bad as damage."""
    faults: list[str] = []
    for path in (directory / CURRENT, directory / PREVIOUS):
        if not path.exists():
            continue
        fault = "not a readable checkpoint"
        try:
            content = read(path)
            fault = "it does not fit the rest of the run"
            if fits:
                fits(content)
        except (ValueError, OSError) as error:
            faults.append(f"{path}: {fault}: {files.reason(error) if isinstance(error, OSError) else error}")
            continue
        for fault in faults:
            say(f"{fault}; going on from {path.name} instead")
        return path.name, content
    if faults:
        hint = f"restore the files, or begin another run with --initial {directory}"
        raise UsageError("; ".join([*faults, hint]))
    return None


def reinstate(directory: Path, name: str) -> None:
    """Give the checkpoint that was used the name of the newest one, so that a damaged file never replaces it. Raises
    OSError."""
    if name != CURRENT:
        os.replace(directory / name, directory / CURRENT)


def read(path: Path) -> dict[str, Any]:
    """The content of one file. Raises OSError, and ValueError if `save` did not write it."""
    data = unsealed(files.read(path))
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(io.BytesIO(data), weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("it holds more than numbers, and reading that could run code") from error
    except Exception as error:  # wrong bytes can make torch raise anything
        raise ValueError(text_of(error)) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("it was not written by this version of rlgrad")
    return content


def sealed(data: bytes) -> bytes:
    """The data followed by its checksum, which torch.load ignores."""
    return data + SEAL + hashlib.sha256(data).hexdigest().encode() + b"\n"


def unsealed(content: bytes) -> bytes:
    """The data without its checksum. Raises ValueError if the checksum is missing or wrong."""
    data, found, _ = content.rpartition(SEAL)
    if not found:
        raise ValueError("it is cut off: its checksum is missing")
    if sealed(data) != content:
        raise ValueError("it is damaged: its checksum does not match")
    return data


def check_finite(model: nn.Module) -> None:
    """Raises ValueError if a parameter is not finite, or a buffer is NaN: no run saves such weights."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"{name} is not finite")
    for name, buffer in model.named_buffers():
        if buffer.isnan().any():
            raise ValueError(f"{name} is not a number")

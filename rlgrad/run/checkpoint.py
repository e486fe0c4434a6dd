"""Saving and restoring a run, so that it continues bit for bit.

All randomness is a function of (seed, replica, step), so a checkpoint needs no generator's state. It is a file of
`torch.save` with its SHA-256 at the end; the one before it is kept, and used where the newest is damaged.
"""

import hashlib
import io
import pickle
import sys
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlgrad.errors import UsageError
from rlgrad.run import files

FORMAT = 2
CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
SEAL = b"\nsha256 of all that comes before this line: "


def save(directory: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint, and keep the one before it. Raises OSError; a good one is there even then."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    files.write(directory / CURRENT, sealed(buffer.getvalue()), directory / PREVIOUS)


def readable(state: Any) -> bool:
    """Whether `load` would read it back: that takes plain numbers, texts, tensors, and what is made of them."""
    if isinstance(state, Mapping):
        return type(state) in (dict, OrderedDict) and all(readable(each) for pair in state.items() for each in pair)
    if type(state) in (list, tuple):
        return all(readable(each) for each in state)
    return state is None or type(state) in (bool, int, float, str, bytes, torch.Tensor, nn.Parameter)


def exists(directory: Path) -> bool:
    return (directory / CURRENT).exists() or (directory / PREVIOUS).exists()


def load(directory: Path) -> dict[str, Any] | None:
    """The content of the newest checkpoint that is whole; None where there is none at all.

    Nothing in it is executed. A damaged one is named on standard error. Raises UsageError where all are damaged.
    """
    faults: list[str] = []
    for path in (directory / CURRENT, directory / PREVIOUS):
        try:
            content = read(path)
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            faults.append(f"{path}: not a readable checkpoint: {error}")
            continue
        for fault in faults:
            print(f"{fault}; going on from {path.name} instead", file=sys.stderr)
        return content
    if faults:
        raise UsageError("; ".join(faults))
    return None


def read(path: Path) -> dict[str, Any]:
    """The content of one file. Raises OSError, and ValueError where it is not what `save` wrote."""
    data = unsealed(path.read_bytes())
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(io.BytesIO(data), weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("it holds more than numbers, and reading that could run code") from error
    except Exception as error:  # torch raises whatever the bytes lead to
        raise ValueError(" ".join(str(error).split())[:200]) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("it is not of this version of rlgrad")
    return content


def sealed(data: bytes) -> bytes:
    """The data with its checksum behind it, which torch.load does not mind."""
    return data + SEAL + hashlib.sha256(data).hexdigest().encode() + b"\n"


def unsealed(content: bytes) -> bytes:
    """The data without its checksum. Raises ValueError where the two do not belong together."""
    data, found, _ = content.rpartition(SEAL)
    if not found:
        raise ValueError("it is cut off, as its checksum is missing")
    if sealed(data) != content:
        raise ValueError("it is damaged, as its checksum is another")
    return data

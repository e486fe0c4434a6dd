"""Saving and restoring a run, so that it continues bit for bit.

All randomness is a function of (seed, replica, step), so a checkpoint needs no generator's state.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlgrad.settings import UsageError

FORMAT = 1


def save(path: Path, content: dict[str, Any]) -> None:
    """Write to a temporary file, bring it to the disk and rename it: a checkpoint is whole or not there."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save({"format": FORMAT, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; nothing in it is executed. Raises UsageError in one line."""
    try:
        content = torch.load(path, weights_only=True)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no checkpoint to resume from") from error
    except Exception as error:  # torch raises whatever the broken bytes lead to
        raise UsageError(f"{path}: not a readable checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"{path}: not a checkpoint of this version of rlgrad")
    return content


def save_weights(path: Path, model: nn.Module) -> None:
    """The parameters [R, ...] by name, in the safetensors format."""
    from safetensors.torch import save_file

    temporary = path.with_name(path.name + ".tmp")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary)
    os.replace(temporary, path)

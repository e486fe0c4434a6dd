"""A run of the lesson: the path of its parameters from update to update, and the file that it learns from."""

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlgrad.config import load_config
from rlgrad.loop import updates


def walk(config: str | Mapping[str, Any], place: Callable[[Any], Tensor], **settings: Any) -> tuple[Any, Tensor]:
    """Run a config; return the problem and its path [updates + 1, ...]. place: computes a point of the path. settings:
    those that replace the config's."""
    loaded = load_config(config, settings)
    problem, optimizer, schedule = loaded.build()
    path = [place(problem)]
    for _ in itertools.islice(updates(problem, optimizer), loaded.settings.updates):
        path.append(place(problem))
        if schedule:
            schedule.step()
    return problem, torch.stack(path)


@contextmanager
def text_file(names: str, *columns: np.ndarray) -> Iterator[str]:
    """The path of a text file with these columns [N] or [N, D], while the `with` lasts. names: of all, with commas."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.csv"
        np.savetxt(file, np.column_stack(columns), delimiter=",", header=names, comments="", fmt="%g")
        yield str(file)

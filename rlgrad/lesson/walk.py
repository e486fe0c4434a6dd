"""A run of the lesson: the path of its parameters from update to update."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rlgrad.config import load_config
from rlgrad.loop import updates


def walk(
    config: str | Mapping[str, Any], settings: Mapping[str, Any], place: Callable[[Any], Tensor]
) -> tuple[Any, Tensor]:
    """Run a config; return the problem and its path [updates + 1, ...]. place: computes a point of the path."""
    loaded = load_config(config, settings)
    problem, optimizer, schedule = loaded.build()
    path = [place(problem)]
    for _ in itertools.islice(updates(problem, optimizer), loaded.settings.updates):
        path.append(place(problem))
        if schedule:
            schedule.step()
    return problem, torch.stack(path)

"""What a policy sees of an observation space: a vector, or an image."""

from typing import Any

import numpy as np
from gymnasium import spaces

SMALLEST = 8  # pixels: a Box of three axes, each of the first two at least this, is an image


def visible_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space as the policy sees it: images as they are, everything else as one vector, with a one-hot code for each
    choice. Raises TypeError for what has no fixed size, such as texts, graphs and sequences."""
    if not fixed(space):
        raise TypeError(f"{space} has no fixed size")
    if is_image(space) or (isinstance(space, spaces.Box) and len(space.shape) == 1):
        return space
    return spaces.flatten_space(space)


def is_image(space: spaces.Space[Any]) -> bool:
    """Bytes with height, width and colours."""
    shape = space.shape or ()
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.uint8
        and len(shape) == 3
        and min(shape[:2]) >= SMALLEST
        and shape[2] <= 16
    )


def fixed(space: spaces.Space[Any]) -> bool:
    """Whether every observation has the same size."""
    match space:
        case spaces.Box() | spaces.Discrete() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return True
        case spaces.Dict():
            return all(fixed(part) for part in space.values())
        case spaces.Tuple():
            return all(fixed(part) for part in space)
    return False

"""Two costs, one path: the negative log-likelihood and the log-likelihood over the same two weights."""

import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.config import load
from rlgrad.lesson.drawing import COLOUR, EXACT
from rlgrad.lesson.page import Chapter
from rlgrad.loop import Direction, updates

UPDATES = 60


def chapter() -> Chapter:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "mean_radius.csv"
        write_data(data)
        paths = {direction: path(data, name) for direction, name in OBJECTIVES.items()}
        surface = likelihood(data)
    down, up = paths[Direction.MINIMIZE], paths[Direction.MAXIMIZE]
    numbers = {
        "costs.updates": str(UPDATES),
        "costs.same": "equal, bit for bit" if torch.equal(down, up) else "different",
        "costs.weight": f"{down[-1, 0]:.6f}",
        "costs.intercept": f"{down[-1, 1]:.6f}",
        "costs.first": f"{math.log(2):.4f}",
        "costs.last": f"{-surface(down[-1:]).item():.4f}",
    }
    return Chapter(numbers, {"costs": picture(paths, surface)})


OBJECTIVES = {Direction.MINIMIZE: "negative_log_likelihood", Direction.MAXIMIZE: "log_likelihood"}

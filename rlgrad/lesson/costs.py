"""Two objectives, one path: the negative log-likelihood and the log-likelihood of the same two parameters."""

import math
from contextlib import AbstractContextManager
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.lesson.page import Chapter
from rlgrad.lesson.walk import text_file, walk
from rlgrad.loop import Direction
from rlgrad.pages.drawing import COLOUR, EXACT, FAINT, panel
from rlgrad.problems.logistic import DIRECTIONS, Logistic

UPDATES = 80
MOMENTUM = {"name": "SGD", "lr": 2, "momentum": 0.5}


def chapter() -> Chapter:
    with mean_radius() as file:
        runs = {DIRECTIONS[name]: run(file, UPDATES, MOMENTUM, objective=name) for name in DIRECTIONS}
    (_, down), (problem, up) = runs[Direction.MINIMIZE], runs[Direction.MAXIMIZE]
    last = log_likelihood(problem, up[-1:])
    numbers = {
        "costs.updates": str(UPDATES),
        "costs.same": "equal to the last bit" if torch.equal(down, up) else "not equal",
        "costs.end": f"({down[-1, 0]:.6f}, {down[-1, 1]:.6f}) and ({up[-1, 0]:.6f}, {up[-1, 1]:.6f})",
        "costs.begin": f"{math.log(2):.3f}",
        "costs.last": f"{float(-last):.3f}",
    }
    names = {"cost": Direction.MINIMIZE, "score": Direction.MAXIMIZE}
    return Chapter(numbers, {name: picture(direction, problem, up) for name, direction in names.items()})


def mean_radius() -> AbstractContextManager[str]:
    """One column of scikit-learn's breast cancer data with labels: the model has a weight and an intercept."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return text_file("mean_radius,benign", x[:, 0], y)


def run(file: str, updates: int, optimizer: dict[str, Any], **more: Any) -> tuple[Logistic, Tensor]:
    """The problem, and the path [updates + 1, 2] of its weight and intercept."""
    settings = {"problem": "logistic", "data": file, "test_fraction": 0, "dtype": "float64", **more}
    return walk(settings, parameters, updates=updates, optimizer=optimizer)


def parameters(problem: Logistic) -> Tensor:
    linear = problem.model.linear
    return torch.cat([linear.weight.detach().flatten(), linear.bias.detach().flatten()])


def log_likelihood(problem: Logistic, weights: Tensor) -> Tensor:
    """The mean log-likelihood [...] at weights and intercepts [..., 2]."""
    logits = weights[..., :1] * problem.dataset.x.flatten() + weights[..., 1:]  # [..., N]
    return (problem.dataset.y * logits - torch.nn.functional.softplus(logits)).mean(-1)


def picture(direction: Direction, problem: Logistic, path: Tensor) -> Figure:
    figure, flat = panel(4.3, 3.8, projection="3d")
    axis: Any = flat  # it has three dimensions, which matplotlib's types do not express
    w, b = torch.linspace(-7, 2, 28, dtype=torch.float64), torch.linspace(-3, 4, 28, dtype=torch.float64)
    plane = torch.stack(torch.meshgrid(w, b, indexing="xy"), -1)
    axis.set_proj_type("persp", focal_length=0.6)
    surface, along = (direction.sign * log_likelihood(problem, weights) for weights in (plane, path))
    axis.plot_surface(*plane.unbind(-1), surface, color=COLOUR[direction], alpha=0.25, linewidth=0, shade=False)
    axis.plot_wireframe(*plane[::3, ::3].unbind(-1), surface[::3, ::3], color=COLOUR[direction], linewidth=0.4)
    axis.plot(*path.T, along, color=EXACT, zorder=10)
    axis.plot(*path[-1:].T, along[-1:], "o", color=EXACT, zorder=11)
    corners = plane[:: len(b) - 1, :: len(w) - 1]
    axis.plot_surface(*corners.unbind(-1), torch.zeros(2, 2), color=FAINT, alpha=0.2, shade=False)
    up = direction is Direction.MAXIMIZE
    axis.set_title("ascent: log-likelihood, never above 0" if up else "descent: its negative, never below 0")
    axis.set(xlabel="weight", ylabel="intercept")
    for side in (axis.xaxis, axis.yaxis, axis.zaxis):
        side.set_pane_color("none")
    axis.set_box_aspect((4, 4, 3), zoom=1.1)
    axis.view_init(elev=22, azim=-62)
    return figure

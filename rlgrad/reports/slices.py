"""Draws the objective around the result of a run: along a line, and over a plane.

For an agent the directions are its gradient, which shows the hill that it climbs, and a random direction. Every point
uses the same random numbers, so that only the parameters differ. For other problems the plane is the one that holds
most of the path of training (Li et al. 2018, https://arxiv.org/abs/1712.09913, section 7), with the path drawn on it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.config import Config
from rlgrad.errors import UsageError
from rlgrad.loop import Evaluation, Update, parameters_apart
from rlgrad.pages.drawing import EXACT
from rlgrad.problems.reinforce import Reinforce
from rlgrad.replicas import flatten, unflatten
from rlgrad.reports.loading import numbered
from rlgrad.run import weights
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record
from rlgrad.run.resuming import recorded_config
from rlgrad.trainable import Trainable

LINE, PLANE = 41, 17  # points along the line, and along each side of the plane
WHITE = "#fffffe"  # not quite white, because a dark page replaces pure white by its background
REACH = 0.5  # the range of an agent's pictures, as a part of the norm of its parameters


@dataclass(frozen=True)
class Slice:
    """The points where the objective was computed, and its values there."""

    names: tuple[str, str]  # of the two directions
    line: tuple[np.ndarray, np.ndarray]  # places [N] along the first direction, and values [N]
    plane: tuple[np.ndarray, np.ndarray, np.ndarray]  # places [M] along each direction, and values [M (second), M]
    path: np.ndarray  # [K, 2], the path of training; [1, 2] if it is not known


def cut(path: str | Path, replica: int = 0, allow_imports: bool = False) -> tuple[Slice, str]:
    """The slice around one replica of a run, and the objective's name. Raises UsageError if there is no such run."""
    config = recorded_config(Path(path), allow_imports)
    numbered(Path(path), replica, len(config.settings.seeds))
    trained = weights.read(weights.where(Path(path))).tensors
    problem, optimizer, schedule = config.build()
    if isinstance(problem, Reinforce):
        return around(alone(config, trained, replica), config.settings.length), problem.measures
    walk = Walk()
    Following(config.settings, problem, optimizer, schedule, [walk], None)()  # train again, to get the path
    return along(problem, torch.stack(walk.places)[:, replica], replica), problem.measures


def alone(config: Config, trained: dict[str, Tensor], replica: int) -> Trainable:
    """The problem of one replica, as a run of its own with the same random numbers, and its trained parameters."""
    problem: Trainable = config.with_settings(config.settings.alone(replica)).build().problem
    wanted = problem.model.state_dict()
    try:
        whole = {name: tensor.shape == wanted[name].shape for name, tensor in trained.items()}
        problem.model.load_state_dict({name: t if whole[name] else t[[replica]] for name, t in trained.items()})
    except (KeyError, RuntimeError) as error:
        raise UsageError(f"model.safetensors does not belong to its config: {str(error).splitlines()[0]}") from error
    return problem


def around(problem: Trainable, step: int) -> Slice:
    """An agent's objective along its gradient, and over the plane of its gradient and a random direction.

    step: the number of the update whose episodes are played here; no update of the run has learned from them."""
    parameters, evaluation = list(problem.model.parameters()), evaluated(problem, step)
    critic, generator = parameters_apart(problem.model), torch.Generator().manual_seed(0)
    pairs = list(zip(parameters, evaluation.gradient, strict=True))
    gradient = flatten([torch.zeros_like(p) if g is None or p in critic else g for p, g in pairs])
    random = flatten([torch.randn(p.shape, generator=generator) * (p not in critic) for p in parameters])
    size = REACH * float(flatten(parameters).detach().norm())
    line, side = np.linspace(-size, size, LINE), np.linspace(-size, size, PLANE)
    update = Update(step - 1, [evaluation])  # `problem.final` then plays the episodes of `step`
    value = objective(problem, update, 0, *orthonormal(gradient[0], random[0].to(gradient.dtype)))
    names = "along the gradient", "along a random direction"
    return Slice(names, *computed(value, line, side, side), path=np.zeros((1, 2)))


def along(problem: Trainable, way: Tensor, replica: int) -> Slice:
    """The objective over the plane that holds most of one replica's path `way` [K, P] through its parameters."""
    way = way - way[-1]
    _, _, directions = torch.linalg.svd(way, full_matrices=False)
    one, two = orthonormal(directions[0], directions[1] if len(directions) > 1 else torch.ones_like(way[-1]))
    places = torch.stack([way @ one, way @ two], 1).numpy()
    first, second = (np.linspace(*widened(places[:, k]), PLANE) for k in (0, 1))
    line = np.linspace(*widened(places[:, 0]), LINE)
    value = objective(problem, Update(0, [evaluated(problem, 0)]), replica, one, two)
    names = "along most of the path", "along the rest of it"
    return Slice(names, *computed(value, line, first, second), path=places)


def evaluated(problem: Trainable, step: int) -> Evaluation:
    """The objective and its gradient on the first batch of an update, without a step of the optimizer."""
    batch = next(iter(problem.passes(problem.sample(step))))
    evaluation = Evaluation(problem, batch, list(problem.model.parameters()))
    evaluation()
    return evaluation


def computed(value: Callable[[float, float], float], line: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    """The fields `line` and `plane` of a Slice: values at these places along the first direction, and along both."""
    plane = np.asarray([[value(a, b) for a in x] for b in y])
    return (line, np.asarray([value(a, 0.0) for a in line])), (x, y, plane)


class Walk(Observer):
    """Remembers the parameters [R, P] after each update, and before the first."""

    def __init__(self) -> None:
        self.places: list[Tensor] = []

    def seen(self, run: Following, update: Update, record: Record) -> None:
        if not self.places:
            self.places.append(flatten(run.before))
        self.places.append(flatten([p.detach().clone() for p in run.parameters]))


def objective(
    problem: Trainable, update: Update, replica: int, one: Tensor, two: Tensor
) -> Callable[[float, float], float]:
    """The objective of one replica as a function of how far it is from here along two directions [P]."""
    parameters = list(problem.model.parameters())
    centre = flatten([p.detach().clone() for p in parameters])  # [R, P]

    @torch.no_grad()
    def at(a: float, b: float) -> float:
        place = centre.clone()
        place[replica] = centre[replica] + float(a) * one + float(b) * two
        for parameter, value in zip(parameters, unflatten(place, parameters), strict=True):
            parameter.copy_(value)
        return float(problem.final(update)[replica])

    return at


def orthonormal(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """Two directions of length 1 at a right angle, made from the given two by Gram-Schmidt."""
    one = one / one.norm().clamp(min=1e-30)
    two = two - (two * one).sum() * one
    return one, two / two.norm().clamp(min=1e-30)


def widened(places: np.ndarray) -> tuple[float, float]:
    """The range of the places, with some room on both sides."""
    low, high = float(places.min()), float(places.max())
    room = 0.3 * (high - low) or 1.0
    return low - room, high + room


def draw(found: Slice, what: str) -> Figure:
    """A figure of the line, and beside it the plane with the path. what: the objective's name."""
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    line, plane = figure.subplots(1, 2)
    draw_line(line, found, what)
    draw_plane(plane, found, what)
    return figure


def draw_line(axes: Axes, found: Slice, what: str) -> None:
    axes.plot(*found.line, color=EXACT)
    axes.axvline(0, linewidth=1, linestyle="--", color=EXACT)
    axes.set(xlabel=found.names[0], ylabel=what)


def draw_plane(axes: Axes, found: Slice, what: str) -> None:
    levels = np.unique(np.quantile(found.plane[2], np.linspace(0, 1, 21)))  # equal areas between the levels
    drawn = axes.contourf(*found.plane, levels=levels if len(levels) > 2 else 2, cmap="viridis")
    axes.figure.colorbar(drawn, ax=axes, label=what)
    axes.plot(*found.path.T, color=WHITE, marker="o", markersize=2, linewidth=1)
    axes.plot(0, 0, color=WHITE, marker="*", markersize=11)  # the result of the run
    axes.set(xlabel=found.names[0], ylabel=found.names[1])

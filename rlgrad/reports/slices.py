"""What the objective looks like around what a run has found: along a line, and over a plane.

Of an agent: along its gradient, where one sees the hill that it climbs, and along a random direction. Every point plays
the same random numbers, so that only the parameters differ. Of all else: in the plane that holds most of the path that
training took (Li et al. 2018, https://arxiv.org/abs/1712.09913, section 7), with the path drawn on it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
from rlgrad.run import weights
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record
from rlgrad.run.resuming import recorded_config
from rlgrad.trainable import Trainable

LINE, PLANE = 41, 17  # points
WHITE = "#fffffe"  # also on a dark page, which turns what is quite white into its own background
REACH = 0.5  # how far an agent's pictures go, as a part of the length of its parameters


@dataclass(frozen=True)
class Slice:
    """Where the objective was looked at, and what it was there."""

    names: tuple[str, str]  # of the two directions
    line: tuple[np.ndarray, np.ndarray]  # places [N] along the first direction, and values [N]
    plane: tuple[np.ndarray, np.ndarray, np.ndarray]  # places [M] and [M], and values [M, M], the second one first
    path: np.ndarray  # [K, 2], what training went through; [1, 2] where it is not known


def cut(path: str | Path, replica: int = 0, allow_imports: bool = False) -> tuple[Slice, str]:
    """The slice around one replica of a run, and the objective's name. Raises UsageError where there is no such run."""
    config = recorded_config(Path(path), allow_imports)
    if not 0 <= replica < (count := len(config.settings.seeds)):
        raise UsageError(f"--replica {replica}: the run has {count} of them, counted from 0")
    trained = weights.read(weights.where(Path(path))).tensors
    problem, optimizer, schedule = config.build()
    if isinstance(problem, Reinforce):
        return around(alone(config, trained, replica), config.settings.length), problem.measures
    walk = Walk()
    Following(config.settings, problem, optimizer, schedule, [walk], None)()  # training is done again
    return along(problem, torch.stack(walk.places)[:, replica], replica), problem.measures


def alone(config: Config, trained: dict[str, Tensor], replica: int) -> Trainable:
    """One replica as a run of its own, with its own random numbers."""
    problem: Trainable = config.with_settings(config.settings.alone(replica)).build().problem
    wanted = problem.model.state_dict()
    try:
        problem.model.load_state_dict(
            {
                name: value if value.shape == wanted[name].shape else value[replica : replica + 1]
                for name, value in trained.items()
            }
        )
    except (KeyError, RuntimeError) as error:
        raise UsageError(f"model.safetensors is not that of its config: {str(error).splitlines()[0]}") from error
    return problem


def around(problem: Trainable, step: int) -> Slice:
    """An agent's objective along its gradient, and over the plane of that and a random direction. step: of the episodes
    that both are estimated from; no update has learned from them."""
    parameters = list(problem.model.parameters())
    centre = flatten([p.detach().clone() for p in parameters])
    batch = next(iter(problem.passes(problem.sample(step))))
    evaluation = Evaluation(problem, batch, parameters)
    evaluation()
    update = Update(step - 1, [evaluation])  # after which the objective is that of the episodes of `step`
    critic, generator = parameters_apart(problem.model), torch.Generator().manual_seed(0)
    pairs = list(zip(parameters, update.gradient, strict=True))
    gradient = flatten([torch.zeros_like(p) if g is None or p in critic else g for p, g in pairs])
    random = flatten([torch.randn(p.shape, generator=generator) * (p not in critic) for p in parameters])
    one, two = orthonormal(gradient, random.to(gradient.dtype))
    size = REACH * float(centre.norm())
    found = objective(problem, update, 0)
    line, side = np.linspace(-size, size, LINE), np.linspace(-size, size, PLANE)
    values = np.asarray([found(centre + a * one) for a in line])
    plane = np.asarray([[found(centre + a * one + b * two) for a in side] for b in side])
    names = "along the gradient", "along a random direction"
    return Slice(names, (line, values), (side, side, plane), np.zeros((1, 2)))


def along(problem: Trainable, way: Tensor, replica: int) -> Slice:
    """The objective over the plane that holds most of a path [K, P] of one replica's parameters."""
    end = way[-1]
    _, _, directions = torch.linalg.svd(way - end, full_matrices=False)
    one, two = orthonormal(directions[0], directions[1] if len(directions) > 1 else torch.ones_like(end))
    places = torch.stack([(way - end) @ one, (way - end) @ two], 1).numpy()
    parameters = list(problem.model.parameters())
    batch = next(iter(problem.passes(problem.sample(0))))
    evaluation = Evaluation(problem, batch, parameters)
    evaluation()
    update, whole = Update(0, [evaluation]), flatten([p.detach().clone() for p in parameters])

    def at(point: Tensor) -> Tensor:
        everywhere = whole.clone()
        everywhere[replica] = point
        return everywhere

    found = objective(problem, update, replica)
    sides = [np.linspace(*widened(places[:, k]), PLANE) for k in (0, 1)]
    line = np.linspace(*widened(places[:, 0]), LINE)
    values = np.asarray([found(at(end + float(a) * one)) for a in line])
    plane = np.asarray([[found(at(end + float(a) * one + float(b) * two)) for a in sides[0]] for b in sides[1]])
    names = "along most of the path", "along the rest of it"
    return Slice(names, (line, values), (sides[0], sides[1], plane), places)


class Walk(Observer):
    """Remembers the parameters [R, P] that training goes through."""

    def __init__(self) -> None:
        self.places: list[Tensor] = []

    def seen(self, run: Following, update: Update, record: Record) -> None:
        self.places += [flatten(before) for before in ([] if self.places else [run.before])]
        self.places.append(flatten([p.detach().clone() for p in run.parameters]))


def objective(problem: Trainable, update: Update, replica: int) -> Callable[[Tensor], float]:
    """The objective of one replica at parameters [R, P]."""
    parameters = list(problem.model.parameters())

    @torch.no_grad()
    def at(place: Tensor) -> float:
        for parameter, value in zip(parameters, unflatten(place, parameters), strict=True):
            parameter.copy_(value)
        return float(problem.final(update)[replica])

    return at


def orthonormal(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """Two directions of length 1, the second one brought to a right angle with the first."""
    one = one / one.norm().clamp(min=1e-30)
    two = two - (two * one).sum() * one
    return one, two / two.norm().clamp(min=1e-30)


def widened(places: np.ndarray) -> tuple[float, float]:
    """The range of places, with some room on both sides."""
    low, high = float(places.min()), float(places.max())
    room = 0.3 * (high - low) or 1.0
    return low - room, high + room


def draw(found: Slice, what: str) -> Figure:
    """The line, and beside it the plane with the path. what: the objective's name."""
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
    levels = np.unique(np.quantile(found.plane[2], np.linspace(0, 1, 21)))  # each holds as much of the plane
    drawn = axes.contourf(*found.plane, levels=levels if len(levels) > 2 else 2, cmap="viridis")
    axes.figure.colorbar(drawn, ax=axes, label=what)
    axes.plot(*found.path.T, color=WHITE, marker="o", markersize=2, linewidth=1)
    axes.plot(0, 0, color=WHITE, marker="*", markersize=11)  # what the run has found
    axes.set(xlabel=found.names[0], ylabel=found.names[1])

"""A point on a surface: descend, or ascend, an analytic function whose extrema can be checked by hand.

    θ ← θ ± α ∇f(θ)

There is no data and no noise: the objective is f itself. R starting points move at once, each a replica. At the end the
run reports what each point has reached, by the gradient and the Hessian, and how f curves: if f is convex, a point at
which descent stops is the minimum; if it is concave, a point at which ascent stops is the maximum.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import PositiveFloat, StringConstraints
from torch import Tensor, nn

from rlgrad.errors import RunError, SettingError
from rlgrad.loop import Direction, Estimate, Update
from rlgrad.optimizers.curvature import Dense
from rlgrad.settings import RunSettings
from rlgrad.streams import Purpose, stream
from rlgrad.surfaces.calculus import Kind, classify, curvature, derivatives, eigenvalues, kinked
from rlgrad.surfaces.expressions import Expression, ExpressionError, parse
from rlgrad.surfaces.findings import SETTLED, counted, groups, number, place, span
from rlgrad.surfaces.table import SURFACES, Box
from rlgrad.trainable import Trainable

COORDINATE = "Coordinate {} of the point, before the update (its own unit); of several replicas in metrics.jsonl only."
LONGEST, FEW = 1000, 50  # at most: stored places of a path, and points whose paths are drawn


class Settings(RunSettings):
    """Points that move on the surface of a function, down or up."""

    problem: Literal["surface"] = "surface"
    function: Annotated[str, StringConstraints(strip_whitespace=True)]
    """the name of a built-in surface, or an expression such as x**2 + sin(y)"""
    direction: Literal["minimize", "maximize"] | None = None
    """whether to minimize or maximize; null: the direction of a built-in surface (an expression has none)"""
    variables: tuple[str, ...] | None = None
    """an expression's variables in the order of a point's coordinates; null: all its variables, sorted by name"""
    start: tuple[tuple[float, ...], ...] | None = None
    """starting points, one for each replica; null: drawn from the box"""
    box: Box | None = None
    """low and high of each variable: starting points are drawn and the curvature is checked there; null: the box of a
    built-in surface, or a box around the starting points"""
    bound: PositiveFloat = 1e6
    """the run fails if a coordinate or the function's value gets larger than this"""
    tolerance: PositiveFloat = 1e-4
    """a gradient norm, or an eigenvalue of the Hessian, up to this size counts as zero"""

    def build(self, **objects: Any) -> "SurfaceProblem":
        return SurfaceProblem(self)


class Points(nn.Module):
    """R points of D coordinates. The parameter is [R, 1, D], because some optimizers (Muon) need matrices."""

    def __init__(self, start: Tensor):
        super().__init__()
        self.point = nn.Parameter(start[:, None].clone())

    def forward(self) -> Tensor:
        return self.point.squeeze(1)  # [R, D]


class SurfaceProblem(Trainable):
    """A function of D variables, and R points on it."""

    model: Points
    curved = True
    by_chance = False  # starting points are not a random sample
    measures, headline = "value of the function", ("value",)
    work = "surface/evaluations"  # how often the function was evaluated

    def __init__(self, settings: Settings):
        self.settings = settings = settings.spread()
        self.function = find_function(settings)
        self.direction = find_direction(settings)
        self.judged = ("value", self.direction)
        surface = SURFACES.get(settings.function)
        self.box = find_box(settings, self.function.variables)
        start = starting_points(settings, self.box)
        self.initial = check_start(settings, self.function, start)  # [R] values
        self.model = Points(start)
        sought = Kind.MAXIMUM if self.direction is Direction.MAXIMIZE else Kind.MINIMUM
        self.tags = {f"point/{name}": COORDINATE.format(name) for name in self.function.variables}
        self.path: list[Tensor] = []  # [R, D] each, if pictures are drawn
        self.apart = 1  # updates between two places of the path
        known = [extremum.point for extremum in surface.extrema if extremum.kind is sought] if surface else []
        self.known = torch.tensor(known, dtype=torch.float64)  # [K, D]: the extrema of the kind that is sought

    def sample(self, step: int) -> Tensor:
        """No data: the batch [R] counts the evaluations of this update, because a line search makes several."""
        if self.settings.pictures_every_updates and step % self.apart == 0:
            self.path.append(self.model().detach().clone())
            if len(self.path) > LONGEST:
                self.path, self.apart = self.path[::2], 2 * self.apart
        return torch.zeros(self.settings.replicas)

    def objective(self, batch: Tensor) -> Estimate:
        """The function's values [R]. Raises RunError if a point is beyond the bound."""
        value = self.function(self.model())
        if not batch.any():  # later evaluations are the trials of a line search, which may go far
            within = self._within(value.detach())
            if not within.all():
                value = value.where(within, torch.full_like(value, math.nan))
        batch += 1
        places = dict(zip(self.tags, self.model().detach().clone().unbind(1), strict=True))
        return Estimate(value, {self.work: batch, **places}, curvature=self._hessians)

    def begin_from(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        super().begin_from(tensors, description)
        self.initial = self.function(self.model().detach())

    def _hessians(self) -> Dense:
        """The Hessians [R, D, D] at the points."""
        return Dense(derivatives(self.function, self.model().detach())[2].numpy(force=True))

    @torch.no_grad()
    def after(self, update: Update) -> Tensor:
        """The function's values [R]."""
        return self.function(self.model())

    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        """Metrics [R] at the points: value, gradient norm, curvature, and the distance to the nearest known extremum of
        the kind that is sought. Raises RunError if a point is beyond the bound."""
        point = self.model().detach()
        value, gradient, hessian = derivatives(self.function, point)
        self._within(value)
        curvatures = eigenvalues(hessian)
        found = {
            "value": value,
            "gradient_norm": gradient.norm(dim=1),
            "smallest_eigenvalue": curvatures[:, 0],
            "largest_eigenvalue": curvatures[:, -1],
        }
        return found | ({"distance": torch.cdist(point, self.known).amin(1)} if len(self.known) else {})

    def pictures(self) -> Mapping[str, bytes]:
        """A picture of the surface with the paths, if it has one or two variables."""
        if len(self.box) > 2:
            return {}
        from rlgrad.pages.drawing import png
        from rlgrad.surfaces.drawing import drawn

        path = torch.stack([*self.path, self.model().detach()])[:, :FEW].cpu()
        seen = torch.cat([self.box.T.cpu(), path[0], path[-1]])
        box = torch.stack([seen.amin(0), seen.amax(0)], 1)
        return {"pictures/path": png(drawn(self.function, box, self.settings.heading(self.direction), path, 4.5))}

    def state_dict(self) -> dict[str, Any]:
        return {"path": self.path, "apart": self.apart} if self.path else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.path, self.apart = [torch.as_tensor(each) for each in state.get("path", [])], int(state.get("apart", 1))

    def conclusion(self) -> list[str]:
        """What the points have reached, one sentence for all points at the same place; and how the function curves."""
        point = self.model().detach()
        value, gradient, hessian = derivatives(self.function, point)
        curvatures = eigenvalues(hessian)
        kinks = kinked(self.function, point, self.settings.tolerance)
        kinds = classify(gradient, curvatures, self.settings.tolerance)
        kinds = [Kind.KINK if kink else kind for kink, kind in zip(kinks, kinds, strict=True)]
        sentences = []
        for group in groups(point, kinds):
            norms, found = gradient[group].norm(dim=1), curvatures[group]
            kind, shown = kinds[group[0]], group[int(norms.argmax())]  # the replica that is the furthest from rest
            where = f"{place(self.function.variables, point[shown])}, f = {number(value[shown])}"
            text = f"{counted(group, len(kinds))} reached {kind.value}"
            if kind is Kind.NONE:
                text += f": the gradient's norm is still {norms.max():.3g} (replica {shown}: {where})"
            elif kind is Kind.KINK:
                text += f" at {where}: the function is not differentiable there"
            else:
                example = "" if kind in SETTLED or len(group) == 1 else f" (replica {shown})"
                text += f" at {where}{example}: gradient norm {norms.max():.1e}, Hessian eigenvalues "
                text += span(found.min(), found.max())
            sentences.append(text)
        curve = curvature(self.function, self.box)
        sides = zip(self.function.variables, self.box, strict=True)
        box = ", ".join(f"{name} from {span(*ends)}" for name, ends in sides)
        sentences.append(f"f is {curve} where that was checked: at {curve.points} points with {box}")
        return sentences

    def _within(self, value: Tensor) -> Tensor:
        """Whether points and their values are within the bound: [R]. Raises RunError if one is not, unless
        `on_divergence` is set_aside."""
        point, bound = self.model().detach(), self.settings.bound
        within: Tensor = (value.abs() <= bound) & (point.abs() <= bound).all(1)  # [R]; nan is not
        if within.all() or self.settings.on_divergence == "set_aside":
            return within
        k = int((~within).nonzero()[0])
        at = f"replica {k} is at {place(self.function.variables, point[k])}, f = {value[k]:.4g}"
        if value[k].isnan():
            raise RunError(f"{at}: the function is not defined there; a smaller learning rate may help")
        heading = self.settings.heading(self.direction)
        if heading.sign * (value[k] - self.initial[k]) <= 0:
            raise RunError(f"{at}, the wrong way: the steps overshoot; a smaller learning rate may help")
        along = self.function.variables[int(point[k].abs().argmax())]
        sought, go = ("maximum", "climb") if heading is Direction.MAXIMIZE else ("minimum", "descend")
        curve = curvature(self.function, self.box)
        advice = f"f is {curve} where that was checked"
        if curve.convex if heading is Direction.MAXIMIZE else curve.concave:
            advice += f"; should it be {heading.opposite.name.lower()}d instead?"
        raise RunError(f"f has no {sought} to {go} to along {along}: {at}; {advice}")


def find_function(settings: Settings) -> Expression:
    """A built-in surface or an expression, compiled. Raises SettingError."""
    text = settings.function
    if text.isidentifier() and text not in SURFACES:
        message = f"there is no surface {text!r}, and as an expression it has no extremum"
        raise SettingError(("function",), message, SURFACES, text)
    if text in SURFACES and settings.variables is not None:
        raise SettingError(("variables",), f"{text} has its own, {', '.join(SURFACES[text].box)}: leave them out")
    names = settings.variables
    if names is not None and (not names or len(set(names)) < len(names)):
        raise SettingError(("variables",), "each variable must be named once")
    try:
        return parse(SURFACES[text].expression if text in SURFACES else text, names)
    except ExpressionError as error:
        raise SettingError(("function",), str(error)) from error


def find_direction(settings: Settings) -> Direction:
    """The direction that is set, or that of a built-in surface. Raises SettingError if there is neither."""
    surface = SURFACES.get(settings.function)
    wanted = settings.direction or (surface.direction if surface else None)
    if wanted is None:
        raise SettingError(("direction",), "should the function be minimized or maximized? set minimize or maximize")
    return Direction[wanted.upper()]


def find_box(settings: Settings, variables: Sequence[str]) -> Tensor:
    """Low and high [D, 2] of each variable. Raises SettingError."""
    surface, box = SURFACES.get(settings.function), settings.box
    names = ", ".join(variables)
    if settings.start is not None:
        for number, point in enumerate(settings.start):
            if len(point) != len(variables):
                message = f"the point has {len(point)} coordinates, but the function has {len(variables)}: {names}"
                raise SettingError(("start", str(number)), message)
        if len(settings.start) != settings.replicas:
            message = f"{len(settings.start)} starting points for {settings.replicas} replicas: each needs one"
            raise SettingError(("start",), message)
    if surface:
        box = surface.box | (box or {})
    if box is None:
        if settings.start is None:
            message = f"where should the points start? set `start`, or a `box` with low and high of {names}"
            raise SettingError((), message)
        points = torch.tensor(settings.start, dtype=torch.float64)
        return torch.stack([points.amin(0) - 1, points.amax(0) + 1], 1)
    for name in box:
        if name not in variables:
            raise SettingError(("box", name), f"the function has no variable {name!r}", variables, name)
    for name in variables:
        if name not in box:
            raise SettingError(("box",), f"low and high of {name} are missing")
        if not box[name][0] < box[name][1]:
            raise SettingError(("box", name), "the low end must be below the high end")
    return torch.tensor([box[name] for name in variables], dtype=torch.float64)


def starting_points(settings: Settings, box: Tensor) -> Tensor:
    """Starting points [R, D]: those in the settings, or one drawn uniformly from the box by each replica's stream."""
    if settings.start is not None:
        return torch.tensor(settings.start, dtype=torch.float64)
    low, high = box.numpy(force=True).T
    drawn = [stream(seed, Purpose.INITIAL).uniform(low, high) for seed in settings.seeds]
    return torch.as_tensor(np.stack(drawn))


def check_start(settings: Settings, function: Expression, start: Tensor) -> Tensor:
    """The values [R] at the starting points [R, D]. Raises SettingError if one is not a valid start."""
    value, gradient, _ = derivatives(function, start)
    for replica, point in enumerate(start):
        path = ("box",) if settings.start is None else ("start", str(replica))
        at = f"replica {replica} would start at {place(function.variables, point)}"
        if not value[replica].isfinite():
            raise SettingError(path, f"{at}, where the function is not defined (f = {value[replica]:.4g})")
        if not gradient[replica].isfinite().all():
            raise SettingError(path, f"{at}, where the function has no finite gradient")
        if value[replica].abs() > settings.bound or (point.abs() > settings.bound).any():
            raise SettingError(path, f"{at}, f = {value[replica]:.4g}, beyond the bound {settings.bound:g}")
    return value

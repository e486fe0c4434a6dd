"""The kind of a point of a function of D variables, and the curvature over a box, by its derivatives.

Here a function maps points [N, D] to values [N], each point independently. Its derivatives are exact, by autograd.
"""

import enum
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

RADIUS = 1e-4  # how near a kink must be to count

Function = Callable[[Tensor], Tensor]


class Kind(enum.Enum):
    """The kind of a point of a function."""

    MINIMUM = "a minimum"
    MAXIMUM = "a maximum"
    SADDLE = "a saddle"
    DEGENERATE = "a degenerate stationary point"  # the Hessian has an eigenvalue 0: the test does not decide
    KINK = "a kink"  # the gradient jumps, or is infinite
    NONE = "no stationary point"


class Derivatives(NamedTuple):
    value: Tensor  # [N]
    gradient: Tensor  # [N, D]
    hessian: Tensor  # [N, D, D]


def derivatives(function: Function, point: Tensor) -> Derivatives:
    """Value, gradient and Hessian at points [N, D]."""
    with torch.enable_grad():
        x = point.detach().requires_grad_()
        value = function(x)
        gradient = differentiate(value, x)
        hessian = torch.stack([differentiate(component, x) for component in gradient.unbind(1)], 1)
    return Derivatives(value.detach(), gradient.detach(), hessian.detach())


def differentiate(value: Tensor, x: Tensor) -> Tensor:
    """The gradient of each value [N] by its own point: [N, D]. The result can be differentiated again."""
    if not value.requires_grad:  # a constant
        return torch.zeros_like(x)
    gradient: Tensor = torch.autograd.grad(value.sum(), x, create_graph=True, materialize_grads=True)[0]
    return gradient


def eigenvalues(hessian: Tensor) -> Tensor:
    """The eigenvalues [N, D] of Hessians [N, D, D], ascending; nan if a Hessian is not finite."""
    finite = hessian.isfinite().flatten(1).all(1, keepdim=True)  # [N, 1]
    found: Tensor = torch.linalg.eigvalsh(hessian.where(finite[..., None], torch.zeros_like(hessian)))
    return found.where(finite, torch.full_like(found, math.nan))


def classify(gradient: Tensor, eigenvalues: Tensor, tolerance: float) -> list[Kind]:
    """The kinds of N points, by gradients [N, D] and the eigenvalues [N, D] of Hessians (the second derivative test).

    tolerance: a gradient norm, or an eigenvalue, up to this size counts as zero.
    """
    up, down = eigenvalues > tolerance, eigenvalues < -tolerance
    result = []
    for norm, rises, falls in zip(gradient.norm(dim=1).tolist(), up, down, strict=True):
        if not math.isfinite(norm):
            result.append(Kind.KINK)
        elif norm > tolerance:
            result.append(Kind.NONE)
        elif rises.all():
            result.append(Kind.MINIMUM)
        elif falls.all():
            result.append(Kind.MAXIMUM)
        else:
            result.append(Kind.SADDLE if rises.any() and falls.any() else Kind.DEGENERATE)
    return result


def kinked(function: Function, point: Tensor, tolerance: float) -> Tensor:
    """Whether the gradient jumps within RADIUS of each point [N, D], along a coordinate: bool [N].

    If a function is smooth, the change of the gradient across a point shrinks with the distance: at a tenth of the
    distance it is a tenth. Across a kink it does not shrink.
    """

    def jump(distance: float) -> Tensor:
        steps = distance * torch.eye(point.shape[1], dtype=point.dtype)  # [D, D]
        ahead, behind = (point[:, None] + sign * steps for sign in (1, -1))  # [N, D, D]: N points, D steps, D
        ends = [derivatives(function, side.flatten(0, 1)).gradient.reshape(side.shape) for side in (ahead, behind)]
        change: Tensor = (ends[0] - ends[1]).norm(dim=2).amax(1)
        return change

    near, far = jump(RADIUS), jump(10 * RADIUS)
    return (near > tolerance) & (near > far / 2)


class Curvature(NamedTuple):
    """How a function curves over a box, as far as that was checked."""

    lowest: float  # the lowest eigenvalue of all checked Hessians
    highest: float  # the highest one
    convex: bool
    concave: bool
    points: int  # number of checked points: where the function and its Hessian are finite

    def __str__(self) -> str:
        if not self.points:
            return "undefined"
        if self.convex and self.concave:
            return "linear"
        return "convex" if self.convex else "concave" if self.concave else "neither convex nor concave"


def curvature(function: Function, box: Tensor, points: int = 512) -> Curvature:
    """Whether a function is convex, concave, both or neither, at points spread evenly over a box [D, 2] of (low, high).

    Convex: no Hessian has a negative eigenvalue, and no chord between two of the points is below the function at its
    midpoint (this finds kinks, which Hessians do not show). Concave: the same with the sign changed.
    """
    low, high = box.unbind(1)
    spread = torch.quasirandom.SobolEngine(len(box)).draw(points, dtype=torch.float64)  # type: ignore[no-untyped-call]
    x = low + (high - low) * spread.to(box.device)
    value, _, hessian = derivatives(function, x)
    found = eigenvalues(hessian)
    # Chords between neighbours in the sequence, which are far from each other in the box: [points - 1]
    below = (value[1:] + value[:-1]) / 2 - function((x[1:] + x[:-1]) / 2)
    seen, below = found[found.isfinite().all(1) & value.isfinite()], below[below.isfinite()]
    if not len(seen):
        return Curvature(math.nan, math.nan, False, False, 0)
    rounding = 1e-9 * float(seen.abs().max()), 1e-9 * float(value[value.isfinite()].abs().max())
    return Curvature(
        float(seen.min()),
        float(seen.max()),
        convex=bool((seen >= -rounding[0]).all() and (below >= -rounding[1]).all()),
        concave=bool((seen <= rounding[0]).all() and (below <= rounding[1]).all()),
        points=len(seen),
    )

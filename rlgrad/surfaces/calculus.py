"""What a function of D variables looks like at a point, and over a box: pure functions of its derivatives.

Here a function takes points [N, D] to values [N], each point on its own. Its derivatives are exact: autograd's.
"""

import enum
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


class Kind(enum.Enum):
    """What a point is to a function."""

    MINIMUM = "a minimum"
    MAXIMUM = "a maximum"
    SADDLE = "a saddle"
    DEGENERATE = "a degenerate stationary point"  # the Hessian has an eigenvalue of zero, and does not tell which
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
    """The gradients [N, D] of values [N], that of each point by that point; they can be differentiated again."""
    if not value.requires_grad:  # a constant
        return torch.zeros_like(x)
    gradient: Tensor = torch.autograd.grad(value.sum(), x, create_graph=True, materialize_grads=True)[0]
    return gradient


def eigenvalues(hessian: Tensor) -> Tensor:
    """Those of Hessians [N, D, D], ascending: [N, D]; nan where a Hessian is not finite."""
    finite = hessian.isfinite().flatten(1).all(1, keepdim=True)  # [N, 1]
    found: Tensor = torch.linalg.eigvalsh(hessian.where(finite[..., None], torch.zeros_like(hessian)))
    return found.where(finite, torch.full_like(found, math.nan))


def classify(gradient: Tensor, eigenvalues: Tensor, tolerance: float) -> list[Kind]:
    """What N points are, from gradients [N, D] and the eigenvalues [N, D] of the Hessians (the second derivative test).

    tolerance: a gradient's norm, or an eigenvalue, counts as zero up to here.
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


def kinked(function: Function, point: Tensor, tolerance: float, radius: float = 1e-4) -> Tensor:
    """Whether the gradient jumps within `radius` of each point [N, D], along a coordinate: bool [N].

    Where a function is smooth, the gradient's change across a point shrinks with the distance: ten times nearer, a
    tenth of it. Across a kink it does not shrink.
    """

    def jump(distance: float) -> Tensor:
        steps = distance * torch.eye(point.shape[1], dtype=point.dtype)  # [D, D]
        ahead, behind = (point[:, None] + sign * steps for sign in (1, -1))  # [N, D, D]: N points, D steps, D
        ends = [derivatives(function, side.flatten(0, 1)).gradient.reshape(side.shape) for side in (ahead, behind)]
        change: Tensor = (ends[0] - ends[1]).norm(dim=2).amax(1)
        return change

    near, far = jump(radius), jump(10 * radius)
    return (near > tolerance) & (near > far / 2)


class Curvature(NamedTuple):
    """How a function curves over a box, as far as that was checked."""

    lowest: float  # eigenvalue of any Hessian that was looked at
    highest: float
    convex: bool
    concave: bool
    points: int  # where the function and its Hessian were finite, and so looked at

    def __str__(self) -> str:
        if not self.points:
            return "undefined"
        if self.convex and self.concave:
            return "linear"
        return "convex" if self.convex else "concave" if self.concave else "neither convex nor concave"


def curvature(function: Function, box: Tensor, points: int = 512) -> Curvature:
    """Convex, concave, both or neither, at points spread evenly over a box [D, 2] of (low, high).

    Convex: no Hessian has a negative eigenvalue, and no chord between two of the points is below the function in its
    middle (that finds the kinks, which no Hessian sees). Concave: the same the other way round.
    """
    low, high = box.unbind(1)
    spread = torch.quasirandom.SobolEngine(len(box)).draw(points, dtype=torch.float64)  # type: ignore[no-untyped-call]
    x = low + (high - low) * spread
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

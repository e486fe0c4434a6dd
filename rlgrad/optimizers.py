"""The optimizers of a config: all of torch's, and Newton's method, which torch does not have."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.optim import *  # noqa: F403 - a config finds them all by name in this one module
from torch.optim import Optimizer

HALVINGS = 12  # of a step that does not improve the objective as it should; then it is not taken
ACCURATE = 0.2  # how much of the gradient, in the measure of H⁻¹, conjugate gradients may leave
ENOUGH = 1e-4  # of the improvement that the slope promises (Armijo 1966; Nocedal & Wright 2006, section 3.1)


class Curvature(Protocol):
    """The second derivatives of an objective. P counts all elements of the parameters that are trained, in order."""

    def matrix(self) -> Tensor:
        """[R, P, P]"""

    def times(self, v: Tensor) -> Tensor:
        """Its product with v [R, P]: [R, P]."""

    def undo(self, v: Tensor) -> Tensor:
        """Roughly its inverse times v [R, P], eigenvalues taken as positive; v itself where nothing better is known."""


class Dense:
    """A curvature that is known as matrices [R, P, P]."""

    def __init__(self, matrices: Tensor):
        self.matrices = matrices

    def matrix(self) -> Tensor:
        return self.matrices

    def times(self, v: Tensor) -> Tensor:
        return torch.bmm(self.matrices, v.unsqueeze(2)).squeeze(2)

    def undo(self, v: Tensor) -> Tensor:
        return v


class Differentiated:
    """The curvature of any objective, by differentiating it twice."""

    def __init__(self, value: Tensor, parameters: Iterable[Tensor]):
        """value [R] at the parameters [R, ...], with its graph."""
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.gradient = torch.autograd.grad(value.sum(), self.parameters, create_graph=True)

    def matrix(self) -> Tensor:
        zeros = torch.zeros_like(flat(self.parameters))
        units = torch.eye(zeros.shape[1], dtype=zeros.dtype)
        return torch.stack([self.times(unit.expand_as(zeros)) for unit in units], 2)

    def times(self, v: Tensor) -> Tensor:
        pieces = unflat(v, self.gradient)
        found = torch.autograd.grad(self.gradient, self.parameters, pieces, retain_graph=True, allow_unused=True)
        return flat(torch.zeros_like(p) if f is None else f for p, f in zip(self.parameters, found, strict=True))

    def undo(self, v: Tensor) -> Tensor:
        return v


class Newton(Optimizer):
    """Newton's method for R replicas at once: θ − H⁻¹∇J, where a quadratic has its extremum.

    The step is the same whether J or −J is sought, as H and ∇J turn their signs together: left alone, it goes to any
    point without slope. So that it goes to an extremum of the right kind, H counts with the absolute values of its
    eigenvalues (Dauphin et al. 2014, https://arxiv.org/abs/1406.2572), and a step that improves J too little is halved.
    Directions in which J does not curve, but for rounding, are left as they are.

    sign: 1 where J is to be maximized, -1 where it is to be minimized.
    lr: what part of the step is taken.
    max_iter: steps in an update, on the same data.
    tolerance: a replica rests where a step would change, or has changed, J by no more than this part of it.
    solver: direct computes H. cg, for many parameters, computes products with it only, and stops short on the way along
    conjugate gradients (Nocedal & Wright 2006, algorithm 7.1).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        sign: Literal[1, -1],
        lr: float = 1.0,
        max_iter: int = 20,
        tolerance: float = 1e-9,
        solver: Literal["direct", "cg"] = "direct",
    ):
        if not lr > 0:
            raise ValueError(f"lr must be positive, not {lr!r}")
        if not isinstance(max_iter, int) or max_iter < 1:
            raise ValueError(f"max_iter must be a whole number from 1 on, not {max_iter!r}")
        if not tolerance >= 0:
            raise ValueError(f"tolerance must be 0 or more, not {tolerance!r}")
        if solver not in ("direct", "cg"):
            raise ValueError(f"solver must be direct or cg, not {solver!r}")
        super().__init__(params, {"lr": lr, "max_iter": max_iter, "tolerance": tolerance, "solver": solver})
        self.sign = sign

    @torch.no_grad()
    def step(self, closure: Callable[..., Any]) -> None:  # type: ignore[override]
        """closure() evaluates J [R] and its gradient; closure(curved=True) gives its curvature at the same place."""
        (group,) = self.param_groups
        parameters = [parameter for parameter in group["params"] if parameter.requires_grad]
        sign, bowl = self.sign, 1 if self.sign < 0 else -1  # J curves upwards at a minimum, downwards at a maximum

        def evaluate() -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                value = closure()
            return value, flat(p.grad for p in parameters)

        value, gradient = evaluate()
        at = flat(parameters)
        eps, active = torch.finfo(value.dtype).eps, torch.ones_like(value, dtype=torch.bool)
        for _ in range(group["max_iter"]):
            with torch.enable_grad():
                curvature = closure(curved=True)
            uphill = (direct if group["solver"] == "direct" else conjugate)(curvature, gradient, bowl)
            promised = (gradient * uphill).sum(1)
            size = value.abs()
            little = group["tolerance"] * size
            active &= promised > 2 * little  # [R]; nan rests
            if not active.any():
                return
            uphill = uphill.nan_to_num(0.0, 0.0, 0.0)
            length = group["lr"] * active.to(gradient.dtype)  # [R]
            for halving in itertools.count():
                there = torch.addcmul(at, uphill, length.unsqueeze(1), value=sign)
                put(there, parameters)
                new, gradient = evaluate()
                enough = ENOUGH * length * promised - 10 * eps * size  # but for rounding
                good = sign * (new - value) >= enough
                if (good | (length == 0)).all():
                    break
                length = torch.where(good, length, length / 2 if halving < HALVINGS else 0.0)
            active &= (new - value).abs() > little
            if not active.any():
                return
            value, at = new, there


def direct(curvature: Curvature, gradient: Tensor, bowl: int) -> Tensor:
    """|H|⁻¹ times the gradient [R, P]. bowl: 1 where H is positive at the extremum that is sought, else -1."""
    matrix = bowl * curvature.matrix().double()
    factor, failed = torch.linalg.cholesky_ex(matrix)
    flattest, steepest = factor.diagonal(dim1=1, dim2=2).aminmax(dim=1)
    eps = torch.finfo(gradient.dtype).eps  # what rounding leaves of a zero
    good = (failed == 0) & (flattest > eps**0.5 * steepest)  # [R]
    step = torch.cholesky_solve(gradient.double().unsqueeze(2), factor).squeeze(2)
    if not good.all():
        step[~good] = spectral(matrix[~good], gradient.double()[~good], eps)
    return step.to(gradient.dtype)


def spectral(matrix: Tensor, gradient: Tensor, eps: float) -> Tensor:
    """|H|⁻¹ times the gradient [R, P], where eigenvalues [R, P] below `eps` times the largest element on the diagonal
    count as 0, and so do their inverses."""
    usable = matrix.isfinite().flatten(1).all(1).reshape(-1, 1, 1)
    flattest = eps * matrix.diagonal(dim1=1, dim2=2).abs().amax(1, keepdim=True)
    values, vectors = torch.linalg.eigh(torch.where(usable, matrix, torch.eye(matrix.shape[1], dtype=matrix.dtype)))
    inverse = torch.where(values.abs() > flattest, 1 / values.abs(), 0.0)
    along = torch.bmm(vectors.mT, gradient.unsqueeze(2))
    return torch.bmm(vectors, inverse.unsqueeze(2) * along).squeeze(2)


def conjugate(curvature: Curvature, gradient: Tensor, bowl: int) -> Tensor:
    """About H⁻¹ times the gradient [R, P], in double precision but for the products with H."""
    found, residual = torch.zeros_like(gradient, dtype=torch.float64), gradient.double()
    way = better = curvature.undo(residual)
    left = whole = (residual * better).sum(1)
    active = whole > 0
    for number in range(gradient.shape[1]):
        bent = bowl * curvature.times(way.to(gradient.dtype)).double()
        bend = (way * bent).sum(1)
        if number == 0:  # where J curves the wrong way there is nowhere to go but along the gradient
            found = torch.where((active & ~(bend > 0)).unsqueeze(1), way, found)
        active = active & (bend > 0)
        length = torch.where(active, left / bend, 0.0).unsqueeze(1)
        found = torch.where(active.unsqueeze(1), found + length * way, found)
        residual = residual - length * bent
        better = curvature.undo(residual)
        previous, left = left, (residual * better).sum(1)
        active = active & (left > ACCURATE**2 * whole)
        if not active.any():
            break
        way = better + (left / previous).unsqueeze(1) * way
    return found.to(gradient.dtype)


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """[R, ...] each -> [R, P]."""
    return torch.cat([tensor.reshape(tensor.shape[0], -1) for tensor in tensors], 1)


def unflat(values: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """[R, P] -> [R, ...] each."""
    like = list(like)
    parts = torch.split(values, [math.prod(tensor.shape[1:]) for tensor in like], 1)
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def put(values: Tensor, parameters: Iterable[Tensor]) -> None:
    """[R, P] into the parameters."""
    parameters = list(parameters)
    for parameter, part in zip(parameters, unflat(values, parameters), strict=True):
        parameter.copy_(part)

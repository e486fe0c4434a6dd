"""Newton's method, and the two ways to its step: by factorising the curvature, and by products with it."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from rlgrad.optimizers.conjugate import conjugate_gradients
from rlgrad.optimizers.curvature import Curvature
from rlgrad.optimizers.parts import Together
from rlgrad.optimizers.proximal import coordinates

FEW = 64  # parameters, up to which numpy is faster
HALVINGS = 12  # of a step that does not improve the objective as it should; then it is not taken
LEFT = 0.5  # how much of the gradient, in the measure of about H⁻¹, conjugate gradients may leave at most
ENOUGH = 1e-4  # of the improvement that the slope promises (Armijo 1966; Nocedal & Wright 2006, section 3.1)


class Evaluated(Protocol):
    """What the step asks of its closure."""

    def __call__(self) -> Tensor: ...
    def curvature(self) -> Curvature: ...


class Newton(Together):
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
    conjugate gradients (Nocedal & Wright 2006, algorithm 7.1). auto: what the curvature says is faster.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        sign: Literal[1, -1],
        lr: float = 1.0,
        max_iter: int = 20,
        tolerance: float = 1e-9,
        solver: Literal["auto", "direct", "cg"] = "auto",
    ):
        if not np.all(np.asarray(lr) > 0):
            raise ValueError(f"lr must be positive, not {lr!r}")
        if not isinstance(max_iter, int) or max_iter < 1:
            raise ValueError(f"max_iter must be a whole number from 1 on, not {max_iter!r}")
        if not np.all(np.asarray(tolerance) >= 0):
            raise ValueError(f"tolerance must be 0 or more, not {tolerance!r}")
        if solver not in ("auto", "direct", "cg"):
            raise ValueError(f"solver must be auto, direct or cg, not {solver!r}")
        super().__init__(list(params), {"lr": lr, "max_iter": max_iter, "tolerance": tolerance, "solver": solver})
        self.sign = sign

    @np.errstate(all="ignore")  # infinite and nan are rested upon
    def step(self, closure: Evaluated) -> None:  # type: ignore[override]
        """closure() evaluates J [R] and its gradient; closure.curvature() is the curvature at the same place.

        The few numbers in between are numpy's: on so few its calls are faster than torch's.
        """
        group, rate, tolerance = self.param_groups[0], self.of_each("lr"), self.of_each("tolerance")
        parameters = [parameter for parameter in group["params"] if parameter.requires_grad]
        places = [parameter.detach().numpy() for parameter in parameters]
        sign = self.sign
        towards = {"auto": either, "direct": direct, "cg": conjugate}[group["solver"]]
        at = joined(places)
        value, gradient = evaluated(closure, parameters)
        eps, active = np.finfo(value.dtype).eps, np.full(len(value), True)
        for _ in range(group["max_iter"]):
            size = np.abs(value)
            little, curvature = tolerance * size, closure.curvature()
            uphill, promised = ahead(towards, curvature, gradient, at, sign, eps, size, little)
            active &= (promised > 0) & (promised < np.inf)  # [R]; nan rests
            if not active.all():
                if not active.any():
                    return
                uphill[~active] = 0.0
            last = promised <= 2 * little  # this step is taken, and none after it
            length = np.where(last, np.minimum(rate, 1.0), rate) * active  # [R]
            if last[active].all():  # so little is as the quadratic has it: there is nothing to halve, nor to evaluate
                move(places, at + sign * length[:, None] * uphill)
                return
            for halving in itertools.count():
                there = at + sign * length[:, None] * uphill
                move(places, there)
                new, gradient = evaluated(closure, parameters)
                enough = ENOUGH * length * promised - 10 * eps * size  # but for rounding
                good = sign * (new - value) >= enough
                if (good | (length == 0)).all():
                    break
                length = np.where(good, length, length / 2 if halving < HALVINGS else 0.0)
            active &= ~last & (np.abs(new - value) > little)
            if not active.any():  # before H is computed once more
                return
            value, at = new, there


def ahead(
    towards: Callable[..., np.ndarray],
    curvature: Curvature,
    gradient: np.ndarray,
    at: np.ndarray,
    sign: int,
    *known: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """The step [R, P] uphill, and how much its slope promises [R]. Where the objective has a kink besides, that is the
    way to the extremum of both, where elements may be zero (Lee, Sun & Saunders 2014, proximal Newton methods,
    https://arxiv.org/abs/1206.1623). known: what `towards` is told besides."""
    bowl = 1 if sign < 0 else -1  # J curves upwards at a minimum, downwards at a maximum
    if curvature.kink is None:
        uphill = curvature.felt(towards(curvature, curvature.felt(gradient), bowl, *known))
        return uphill, (gradient * uphill).sum(1)
    moved = coordinates(bowl * curvature.matrix(), bowl * gradient, at, curvature.kink)
    grown = curvature.kink * (np.abs(at + moved) - np.abs(at))
    return sign * moved, (sign * gradient * moved - grown).sum(1)


def either(curvature: Curvature, gradient: np.ndarray, bowl: int, eps: float, *sizes: np.ndarray) -> np.ndarray:
    """By the way that the curvature says is faster."""
    return (conjugate if curvature.by_products else direct)(curvature, gradient, bowl, eps, *sizes)


def direct(curvature: Curvature, gradient: np.ndarray, bowl: int, eps: float, *sizes: np.ndarray) -> np.ndarray:
    """|H|⁻¹ times the gradient [R, P]. bowl: 1 where H is positive at the extremum that is sought, else -1. eps: what
    rounding leaves of a zero, as a part of the largest."""
    matrix, unit = curvature.matrix(), np.ones((len(gradient), 1))
    if curvature.eps:
        eps, size = curvature.eps, np.abs(matrix.diagonal(axis1=1, axis2=2))
        unit = np.divide(1.0, np.sqrt(size), out=np.ones_like(size), where=(size > 0) & (size < np.inf))  # [R, P]
        gradient = unit * gradient
    matrix = bowl * unit[:, :, None] * matrix
    matrix *= unit[:, None]
    step, flattest, steepest = (few if matrix.shape[1] <= FEW else many)(matrix, gradient)
    good = flattest > eps**0.5 * steepest  # [R]
    if not good.all():
        step[~good] = spectral(matrix[~good], gradient[~good], eps)
    step *= unit
    return step


def many(matrix: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """H⁻¹ times the gradient [R, P], and the least and the largest element [R] on the diagonal of H's Cholesky factor.
    Both are 0 where H is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(matrix))
    step = torch.cholesky_solve(torch.from_numpy(gradient).unsqueeze(2), factor).squeeze(2)
    ends = (torch.where(failed == 0, end, 0.0) for end in factor.diagonal(dim1=1, dim2=2).aminmax(dim=1))
    flattest, steepest = (end.numpy() for end in ends)
    return step.numpy(), flattest, steepest


def few(matrix: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same by numpy, whose calls take less time."""
    try:
        diagonal = np.linalg.cholesky(matrix).diagonal(axis1=1, axis2=2)
        return np.linalg.solve(matrix, gradient[:, :, None])[:, :, 0], diagonal.min(1), diagonal.max(1)
    except np.linalg.LinAlgError:  # of one replica at least
        if len(matrix) == 1:
            return np.zeros_like(gradient), np.zeros(1), np.zeros(1)
        each = [few(m[None], g[None]) for m, g in zip(matrix, gradient, strict=True)]
        step, flattest, steepest = (np.concatenate(parts) for parts in zip(*each, strict=True))
        return step, flattest, steepest


def spectral(matrix: np.ndarray, gradient: np.ndarray, eps: float) -> np.ndarray:
    """|H|⁻¹ times the gradient [R, P], where eigenvalues [R, P] below `eps` times the largest element on the diagonal
    count as 0, and so do their inverses."""
    usable = np.isfinite(matrix).all((1, 2))[:, None, None]
    flattest = eps * np.abs(matrix.diagonal(axis1=1, axis2=2)).max(1, keepdims=True)
    usual = torch.from_numpy(np.where(usable, matrix, np.eye(matrix.shape[1])))
    values, vectors = (found.numpy() for found in torch.linalg.eigh(usual))
    size = np.abs(values)
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > flattest)
    along = inverse[:, :, None] * (vectors.mT @ gradient[:, :, None])
    step: np.ndarray = vectors @ along
    return step[:, :, 0]


def conjugate(curvature: Curvature, gradient: np.ndarray, bowl: int, eps: float, *sizes: np.ndarray) -> np.ndarray:
    """About H⁻¹ times the gradient [R, P], but for the products with H in double precision. It is the more accurate,
    the nearer the extremum is (Nocedal & Wright 2006, equation 7.3). sizes: |J| [R], and a change of J [R] that counts
    as none."""

    def times(v: np.ndarray) -> np.ndarray:
        return bowl * curvature.times(v)

    size, little = sizes
    promised = (gradient * curvature.undo(gradient)).sum(1)  # about the change of J
    left_over = np.fmin(np.fmax((promised / size) ** 0.25, (little / promised / 10) ** 0.5), LEFT)
    return conjugate_gradients(times, curvature.undo, gradient, gradient.shape[1], left_over)


def evaluated(closure: Evaluated, parameters: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """The value [R] and the gradient [R, P] at the parameters as they are now."""
    value: np.ndarray = closure().numpy()
    return value, joined(parameter.grad.numpy() for parameter in parameters if parameter.grad is not None)


def move(places: Sequence[np.ndarray], there: np.ndarray) -> None:
    """Write what is side by side in `there` [R, P] into the parameters [R, ...]."""
    first = 0
    for place in places:
        end = first + place[0].size
        place[...] = there[:, first:end].reshape(place.shape)
        first = end


def joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """[R, ...] each -> [R, P], in double precision."""
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], 1, dtype=np.float64)

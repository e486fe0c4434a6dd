"""Newton's method, with two ways to compute its step: factorising the curvature, or products with it."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from rlgrad.optimizers.conjugate import conjugate_gradients
from rlgrad.optimizers.curvature import Curvature
from rlgrad.optimizers.parts import Together, is_count, of_each, require
from rlgrad.optimizers.proximal import coordinates

FEW = 64  # with up to this many parameters numpy is faster than torch
HALVINGS = 12  # at most, of a step that improves the objective too little; then no step is taken
LEFT = 0.5  # the part of the gradient, in the norm of `undo`, that conjugate gradients may leave at most
ENOUGH = 1e-4  # the required part of the improvement promised by the slope (Nocedal & Wright 2006, section 3.1)


class Evaluated(Protocol):
    """What the step needs of its closure."""

    def __call__(self) -> Tensor: ...
    def curvature(self) -> Curvature: ...


class Newton(Together):
    """Newton's method for R replicas at once: θ − H⁻¹∇J, the extremum of the quadratic approximation.

    This step is the same for J and −J, because H and ∇J change sign together: plain Newton goes to any point with zero
    slope. To reach an extremum of the right kind, H is used with the absolute values of its eigenvalues (Dauphin et al.
    2014, https://arxiv.org/abs/1406.2572), and a step that improves J too little is halved. No step is taken along
    directions in which J has no curvature except rounding error.

    sign: 1 if J is to be maximized, -1 if it is to be minimized.
    lr: the part of the step that is taken.
    max_iter: steps in an update, on the same data.
    tolerance: a replica rests when a step would change, or has changed, J by no more than this part of |J|.
    solver: direct computes H. cg, for many parameters, computes only products with H and stops conjugate gradients
    early (Nocedal & Wright 2006, algorithm 7.1). auto: the one that the curvature says is faster.
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
        require(np.asarray(lr) > 0, "lr must be positive", lr)
        require(is_count(max_iter), "max_iter must be a whole number of at least 1", max_iter)
        require(np.asarray(tolerance) >= 0, "tolerance must be 0 or more", tolerance)
        require(solver in ("auto", "direct", "cg"), "solver must be auto, direct or cg", solver)
        super().__init__(params, sign, {"lr": lr, "max_iter": max_iter, "tolerance": tolerance, "solver": solver})

    @np.errstate(all="ignore")  # a replica with inf or nan rests
    def step(self, closure: Evaluated) -> None:  # type: ignore[override]
        """closure() evaluates J [R] and its gradient; closure.curvature() is the curvature at the same point.

        The computation in between uses numpy, whose calls are faster than torch's on so few numbers.
        """
        group, rate, tolerance = self.param_groups[0], of_each(self, "lr"), of_each(self, "tolerance")
        parameters = [parameter for parameter in group["params"] if parameter.requires_grad]
        sign = self.sign
        solve = {"auto": either, "direct": direct, "cg": conjugate}[group["solver"]]
        places = [(parameter, parameter.numpy(force=True)) for parameter in parameters]
        at = joined(place for _, place in places)
        value, gradient = evaluated(closure, parameters)
        eps, active = np.finfo(value.dtype).eps, np.full(len(value), True)
        for _ in range(group["max_iter"]):
            size = np.abs(value)
            little, curvature = tolerance * size, closure.curvature()
            uphill, promised = ahead(solve, curvature, gradient, at, sign, eps, size, little)
            active &= (promised > 0) & (promised < np.inf)  # [R]; nan rests
            if not active.all():
                if not active.any():
                    return
                uphill[~active] = 0.0
            last = promised <= 2 * little  # this step is the last one
            length = np.where(last, np.minimum(rate, 1.0), rate) * active  # [R]
            if last[active].all():  # such small steps need no halving and no evaluation: the quadratic is exact enough
                move(places, at + sign * length[:, None] * uphill)
                return
            for halving in itertools.count():
                there = at + sign * length[:, None] * uphill
                move(places, there)
                new, gradient = evaluated(closure, parameters)
                enough = ENOUGH * length * promised - 10 * eps * size  # up to rounding error
                good = sign * (new - value) >= enough
                if (good | (length == 0)).all():
                    break
                length = np.where(good, length, length / 2 if halving < HALVINGS else 0.0)
            active &= ~last & (np.abs(new - value) > little)
            if not active.any():  # before H is computed again
                return
            value, at = new, there


def ahead(
    solve: Callable[..., np.ndarray],
    curvature: Curvature,
    gradient: np.ndarray,
    at: np.ndarray,
    sign: int,
    *known: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """The step [R, P] uphill, and the improvement [R] that its slope promises. If the objective has a kink, the step
    goes to the extremum of the quadratic plus the kink, where elements may be zero (Lee, Sun & Saunders 2014, proximal
    Newton methods, https://arxiv.org/abs/1206.1623). solve: either, direct or conjugate. known: its other arguments."""
    bowl = 1 if sign < 0 else -1  # J curves upwards at a minimum, downwards at a maximum
    if curvature.kink is None:
        uphill = curvature.felt(solve(curvature, curvature.felt(gradient), bowl, *known))
        return uphill, (gradient * uphill).sum(1)
    moved = coordinates(bowl * curvature.matrix(), bowl * gradient, at, curvature.kink)
    grown = curvature.kink * (np.abs(at + moved) - np.abs(at))
    return sign * moved, (sign * gradient * moved - grown).sum(1)


def either(curvature: Curvature, gradient: np.ndarray, bowl: int, eps: float, *sizes: np.ndarray) -> np.ndarray:
    """`conjugate` or `direct`: the one that the curvature says is faster."""
    return (conjugate if curvature.by_products else direct)(curvature, gradient, bowl, eps, *sizes)


def direct(curvature: Curvature, gradient: np.ndarray, bowl: int, eps: float, *sizes: np.ndarray) -> np.ndarray:
    """|H|⁻¹ times the gradient [R, P]. bowl: 1 if H is positive at the extremum that is sought, else -1. eps: the
    rounding error of a zero, relative to the largest element."""
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
    Both are 0 if H is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(matrix))
    step = torch.cholesky_solve(torch.from_numpy(gradient).unsqueeze(2), factor).squeeze(2)
    ends = (torch.where(failed == 0, end, 0.0) for end in factor.diagonal(dim1=1, dim2=2).aminmax(dim=1))
    flattest, steepest = (end.numpy() for end in ends)
    return step.numpy(), flattest, steepest


def few(matrix: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`many` by numpy, whose calls take less time."""
    try:
        diagonal = np.linalg.cholesky(matrix).diagonal(axis1=1, axis2=2)
        return np.linalg.solve(matrix, gradient[:, :, None])[:, :, 0], diagonal.min(1), diagonal.max(1)
    except np.linalg.LinAlgError:  # for at least one replica
        if len(matrix) == 1:
            return np.zeros_like(gradient), np.zeros(1), np.zeros(1)
        each = [few(m[None], g[None]) for m, g in zip(matrix, gradient, strict=True)]
        step, flattest, steepest = (np.concatenate(parts) for parts in zip(*each, strict=True))
        return step, flattest, steepest


def spectral(matrix: np.ndarray, gradient: np.ndarray, eps: float) -> np.ndarray:
    """|H|⁻¹ times the gradient [R, P], where eigenvalues [R, P] below `eps` times the largest element on the diagonal
    and their inverses count as 0."""
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
    """About H⁻¹ times the gradient [R, P], in double precision except for the products with H. It is more accurate
    near the extremum (Nocedal & Wright 2006, equation 7.3). sizes: |J| [R], and the change of J [R] that counts as
    none."""

    def times(v: np.ndarray) -> np.ndarray:
        return bowl * curvature.times(v)

    size, little = sizes
    promised = (gradient * curvature.undo(gradient)).sum(1)  # about the change of J
    left_over = np.fmin(np.fmax((promised / size) ** 0.25, (little / promised / 10) ** 0.5), LEFT)
    return conjugate_gradients(times, curvature.undo, gradient, gradient.shape[1], left_over)


def evaluated(closure: Evaluated, parameters: Iterable[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """The value [R] and the gradient [R, P] at the current parameters."""
    value: np.ndarray = closure().numpy(force=True)
    return value, joined(parameter.grad.numpy(force=True) for parameter in parameters if parameter.grad is not None)


def move(places: Sequence[tuple[Tensor, np.ndarray]], there: np.ndarray) -> None:
    """Write `there` [R, P] into the parameters [R, ...], one after the other. places: the parameters, and each as an
    array, which on the CPU is the parameter's own memory."""
    first = 0
    for parameter, place in places:
        end = first + place[0].size
        place[...] = there[:, first:end].reshape(place.shape)
        if parameter.device.type != "cpu":
            parameter.data.copy_(torch.from_numpy(place))
        first = end


def joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """[R, ...] each -> [R, P], in double precision."""
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], 1, dtype=np.float64)

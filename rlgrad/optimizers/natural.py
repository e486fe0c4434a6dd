"""The natural gradient: the steepest direction if a step is measured by how much it changes the model's output."""

from collections.abc import Iterable
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from rlgrad.optimizers.conjugate import conjugate_gradients
from rlgrad.optimizers.newton import Evaluated, evaluated, joined, move
from rlgrad.optimizers.parts import Together, is_count, of_each, require

SHRINK = 0.8  # factor of a step that the line search rejects
SHRINKINGS = 15  # at most; then no step is taken
SLACK = 1.5  # a line search accepts a divergence up to this many times the radius


class Searched(Evaluated, Protocol):
    """What the step needs of its closure."""

    def value_alone(self) -> Tensor: ...


class NaturalGradient(Together):
    """The natural gradient F⁻¹∇J for R replicas at once (Amari 1998; for policies Kakade 2001,
    https://papers.nips.cc/paper/2073-a-natural-policy-gradient), scaled to the divergence `kl`:

        θ ± √(2 kl / ∇Jᵀ F⁻¹ ∇J) F⁻¹∇J

    F is the Fisher information: of a policy at the states that it has visited, or of a linear model at its examples.
    There F is minus the Hessian of the log-likelihood, and without `kl` this is Newton's step. Only products with F are
    needed.

    sign: 1 if J is to be maximized, -1 if it is to be minimized.
    kl: the radius: the mean Kullback-Leibler divergence between the model before and after the step, in nats, in its
    quadratic approximation. It is the `lr` of the parameter group, which a schedule changes. None: the whole step.
    damping: added to F's diagonal, so that directions which the data do not determine move little.
    iterations: of conjugate gradients, at most. tolerance: the part of the gradient that they may leave.
    line_search: shorten a step until J, or its surrogate, improves and the true divergence is at most 1.5 times `kl`:
    TRPO (Schulman et al. 2015, appendix C, https://arxiv.org/abs/1502.05477).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        sign: Literal[1, -1],
        kl: float | None = 0.01,
        damping: float = 0.1,
        iterations: int = 10,
        tolerance: float = 1e-5,
        line_search: bool = False,
    ):
        require(kl is None or np.asarray(kl) > 0, "kl must be positive, or null", kl)
        require(np.asarray(damping) >= 0, "damping must be 0 or more", damping)
        require(is_count(iterations), "iterations must be a whole number of at least 1", iterations)
        require(np.asarray(tolerance) >= 0, "tolerance must be 0 or more", tolerance)
        others = {"damping": damping, "iterations": iterations, "tolerance": tolerance, "line_search": line_search}
        super().__init__(params, sign, {"lr": 1.0 if kl is None else kl, "bounded": kl is not None, **others})

    @np.errstate(all="ignore")  # a replica that has diverged rests
    def step(self, closure: Searched) -> None:  # type: ignore[override]
        """closure() evaluates J [R] and its gradient; closure.curvature() is ±F at the same place."""
        group, radius = self.param_groups[0], of_each(self, "lr")
        damping, tolerance = (np.reshape(of_each(self, name), (-1, 1)) for name in ("damping", "tolerance"))
        parameters = [parameter for parameter in group["params"] if parameter.requires_grad]
        places = [(parameter, parameter.numpy(force=True)) for parameter in parameters]
        at = joined(place for _, place in places)
        value, gradient = evaluated(closure, parameters)
        curvature = closure.curvature()
        bend = (gradient * curvature.times(gradient)).sum(1, keepdims=True)
        upwards = np.where(bend < 0, -1.0, 1.0)  # F is positive, whichever way J bends

        def times(v: np.ndarray) -> np.ndarray:
            return np.asarray(upwards * curvature.times(v) + damping * v)

        ahead = conjugate_gradients(times, curvature.undo, gradient, group["iterations"], tolerance[:, 0])
        size = (ahead * times(ahead)).sum(1)  # [R] twice the divergence of a step of length 1
        length = np.sqrt(2 * radius / size) if group["bounded"] else np.full(len(at), radius)
        length = np.where((size > 0) & np.isfinite(length), length, 0.0)[:, None]
        move(places, at + self.sign * length * ahead)
        if not group["line_search"]:
            return
        limit = SLACK * radius if group["bounded"] else np.inf
        for shrinking in range(SHRINKINGS + 1):
            better = self.sign * (closure.value_alone().numpy(force=True) - value) > 0
            good = better & (curvature.distance(self.sign * length * ahead) <= limit)
            if (good | (length[:, 0] == 0)).all():
                return
            length = np.where(good[:, None], length, SHRINK * length if shrinking < SHRINKINGS else 0.0)
            move(places, at + self.sign * length * ahead)

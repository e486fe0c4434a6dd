"""The second derivatives of an objective, as a matrix and as products with it."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from rlgrad import distributed
from rlgrad.replicas import flatten, unflatten


class Curvature:
    """The second derivatives of an objective. For an expected return: −F, where F is the policy's Fisher
    information (F itself for a cost). P counts all elements of the trained parameters, in order."""

    eps: float | None = None  # rounding error of a zero in the matrix, if parameters have different scales; else None
    by_products = False  # whether conjugate gradients with `times` invert it faster than `matrix` is factorised

    kink: np.ndarray | None = None  # [R, P] if ∓ Σ kink |θ| belongs to the objective, but not to its gradient

    def matrix(self) -> np.ndarray:
        """The second derivatives [R, P, P]."""
        raise NotImplementedError

    def times(self, v: np.ndarray) -> np.ndarray:
        """The product [R, P] of the matrix with v [R, P]."""
        raise NotImplementedError

    def undo(self, v: np.ndarray) -> np.ndarray:
        """About |H|⁻¹ v [R, P], as a preconditioner; v itself if nothing better is known."""
        return v

    def felt(self, v: np.ndarray) -> np.ndarray:
        """v [R, P] without directions in which the objective is known to be flat: a slope there is rounding error."""
        return v

    def distance(self, moved: np.ndarray) -> np.ndarray:
        """How far [R] the model moves when its parameters move by `moved` [R, P]: a Kullback-Leibler divergence if this
        is a Fisher information. By default: the quadratic approximation."""
        return np.asarray(np.abs((moved * self.times(moved)).sum(1)) / 2)


class Dense(Curvature):
    """A curvature that is given as matrices [R, P, P]."""

    def __init__(self, matrices: np.ndarray):
        self.matrices = matrices

    def matrix(self) -> np.ndarray:
        return self.matrices

    def times(self, v: np.ndarray) -> np.ndarray:
        return np.asarray((self.matrices @ v[:, :, None])[:, :, 0])


class Differentiated(Curvature):
    """The curvature of any objective, by differentiating it twice."""

    def __init__(self, value: Tensor, parameters: Iterable[Tensor]):
        """value [R] at the parameters [R, ...], with its graph."""
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.gradient = torch.autograd.grad(value.sum(), self.parameters, create_graph=True)

    def matrix(self) -> np.ndarray:
        replicas, count = flatten(self.parameters).shape
        units = np.eye(count)
        return np.stack([self.times(np.broadcast_to(unit, (replicas, count))) for unit in units], 2)

    def times(self, v: np.ndarray) -> np.ndarray:
        pieces = unflatten(torch.tensor(v, dtype=self.gradient[0].dtype), self.gradient)
        with torch.enable_grad():
            slopes = [(g * piece).sum() for g, piece in zip(self.gradient, pieces, strict=True) if g.requires_grad]
            if not slopes:  # the objective is linear
                return np.zeros(v.shape)
            along = torch.stack(slopes).sum()  # one number, as in `policy_gradient`
        found = torch.autograd.grad(along, self.parameters, retain_graph=True, allow_unused=True)
        product = flatten(torch.zeros_like(p) if f is None else f for p, f in zip(self.parameters, found, strict=True))
        return product.numpy(force=True)


class Shared(Differentiated):
    """`Differentiated` for a value that is a sum over the ranks, each of which has one term of it."""

    def times(self, v: np.ndarray) -> np.ndarray:
        (product,) = distributed.summed(torch.from_numpy(super().times(v)))
        return product.numpy()

"""The second derivatives of an objective, as a matrix and as products with it."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from rlgrad import distributed
from rlgrad.replicas import flatten, unflatten


class Curvature:
    """The second derivatives of an objective; for an expected return, with the sign that it would have, the Fisher
    information of the policy. P counts all elements of the parameters that are trained, in order."""

    eps: float | None = None  # where parameters have scales of their own: what rounding leaves of a zero in its matrix
    by_products = False  # whether its inverse is found faster by products with it than from its matrix

    kink: np.ndarray | None = None  # [R, P] where ∓ Σ kink |θ| belongs to the objective, and not to its gradient

    def matrix(self) -> np.ndarray:
        """[R, P, P]"""
        raise NotImplementedError

    def times(self, v: np.ndarray) -> np.ndarray:
        """Its product with v [R, P]: [R, P]."""
        raise NotImplementedError

    def undo(self, v: np.ndarray) -> np.ndarray:
        """Roughly its inverse times v [R, P], eigenvalues taken as positive; v itself where nothing better is known."""
        return v

    def felt(self, v: np.ndarray) -> np.ndarray:
        """v [R, P] without what is known to change nothing: there the objective is flat, and rounding is no slope."""
        return v

    def distance(self, moved: np.ndarray) -> np.ndarray:
        """How far [R] the model has come since, when its parameters have moved by this much [R, P]: a Kullback-Leibler
        divergence where this is a Fisher information. As the quadratic has it, where nothing better is known."""
        half: np.ndarray = np.abs((moved * self.times(moved)).sum(1)) / 2
        return half


class Dense(Curvature):
    """A curvature that is known as matrices [R, P, P]."""

    def __init__(self, matrices: np.ndarray):
        self.matrices = matrices

    def matrix(self) -> np.ndarray:
        return self.matrices

    def times(self, v: np.ndarray) -> np.ndarray:
        product: np.ndarray = self.matrices @ v[:, :, None]
        return product[:, :, 0]


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
        return product.numpy()


class Shared(Differentiated):
    """The same where the value is a sum over the processes that train together, each of which has a part of it."""

    def times(self, v: np.ndarray) -> np.ndarray:
        (product,) = distributed.summed(torch.from_numpy(super().times(v)))
        return product.numpy()

"""Conjugate gradients for R linear systems at once, one per replica."""

from collections.abc import Callable

import numpy as np

Product = Callable[[np.ndarray], np.ndarray]  # [R, P] -> [R, P]


def conjugate_gradients(
    times: Product, undo: Product, b: np.ndarray, iterations: int, tolerance: float | np.ndarray
) -> np.ndarray:
    """About A⁻¹ b [R, P], for a symmetric A that is given by its products: Nocedal & Wright 2006, algorithm 7.1.

    A direction v with vᵀ A v ≤ 0 ends the search of a replica. If already the first direction is one, it is the
    result, because no better one is known.

    times: v -> A v. undo: v -> about A⁻¹ v, the preconditioner (v itself if nothing better is known).
    tolerance: a replica is done when the residual is at most this part of b, a number or [R], in the norm of `undo`.
    """
    solution, residual = np.zeros(b.shape), b.astype(np.float64)
    direction = preconditioned = undo(residual)
    left = whole = (residual * preconditioned).sum(1)  # squared norms of the residual: now, and at first
    active = whole > 0
    for number in range(iterations):
        product = times(direction)
        curvature = (direction * product).sum(1)
        if number == 0:
            solution = np.where((active & ~(curvature > 0))[:, None], direction, solution)
        active = active & (curvature > 0)
        length = np.divide(left, curvature, out=np.zeros_like(left), where=active)[:, None]
        solution = np.where(active[:, None], solution + length * direction, solution)
        residual = residual - length * product
        preconditioned = undo(residual)
        previous, left = left, (residual * preconditioned).sum(1)
        active = active & (left > tolerance**2 * whole)
        if not active.any():
            break
        ratio = np.divide(left, previous, out=np.zeros_like(left), where=active)[:, None]
        direction = preconditioned + ratio * direction
    return solution

"""Conjugate gradients for R linear systems at once, one per replica."""

from collections.abc import Callable

import numpy as np

Product = Callable[[np.ndarray], np.ndarray]  # [R, P] -> [R, P]


def conjugate_gradients(
    times: Product, undo: Product, b: np.ndarray, iterations: int, left_over: float | np.ndarray
) -> np.ndarray:
    """About A⁻¹ b [R, P], for a symmetric A that is given by its products: Nocedal & Wright 2006, algorithm 7.1.

    A direction v with vᵀ A v ≤ 0 ends the search of a replica. If already the first direction is one, it is the
    result, because no better one is known.

    times: v -> A v. undo: v -> about A⁻¹ v, the preconditioner (v itself if nothing better is known).
    left_over: a replica is done when the residual is at most this part of b, a number or [R], in the norm of `undo`.
    """
    found, residual = np.zeros(b.shape), b.astype(np.float64)
    way = better = undo(residual)
    left = whole = (residual * better).sum(1)
    active = whole > 0
    for number in range(iterations):
        bent = times(way)
        bend = (way * bent).sum(1)
        if number == 0:
            found = np.where((active & ~(bend > 0))[:, None], way, found)
        active = active & (bend > 0)
        length = np.divide(left, bend, out=np.zeros_like(left), where=active)[:, None]
        found = np.where(active[:, None], found + length * way, found)
        residual = residual - length * bent
        better = undo(residual)
        previous, left = left, (residual * better).sum(1)
        active = active & (left > left_over**2 * whole)
        if not active.any():
            break
        way = better + np.divide(left, previous, out=np.zeros_like(left), where=active)[:, None] * way
    return found

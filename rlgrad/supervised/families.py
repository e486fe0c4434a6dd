"""The distributions of labels: log-likelihood and its derivative by the score."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

Array = Any  # of torch or of numpy


def bernoulli(xp: Any, scores: Array, y: Array) -> tuple[Array, Array, Array]:
    """log p(y) [R, B] for labels 0 and 1, p [R, 1, B] of class 1, and the derivative y − p [R, 1, B] of log p(y) by the
    score [R, 1, B]."""
    if xp is torch:
        log_rest, p = functional.softplus(scores, threshold=40.0), scores.sigmoid()
    else:
        e = np.exp(2 * np.minimum(scores, 0) - scores)  # of −|z|, which does not overflow
        log_rest, p = np.maximum(scores, 0) + np.log1p(e), np.where(scores > 0, 1, e) / (1 + e)
    y = y[:, None]
    return (y * scores - log_rest)[:, 0], p, y - p


def categorical(xp: Any, scores: Array, y: Array) -> tuple[Array, Array, Array]:
    """log p(y) [R, B] for labels 0 … K-1, p [R, K, B], and the derivatives [y = k] − p_k [R, K, B] of log p(y) by the
    scores [R, K, B]."""
    z = scores - xp.amax(scores, 1)[:, None]
    power = xp.exp(z)
    whole = power.sum(1)
    p = power / whole[:, None]
    is_label = y[:, None] == xp.arange(scores.shape[1])[:, None]
    return (z * is_label).sum(1) - xp.log(whole), p, xp.where(is_label, 1 - p, 0 - p)

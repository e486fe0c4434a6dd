"""Two classes, with one score, that of class 1: log p(y) = y z − log(1 + eᶻ)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rlgrad.supervised.families.family import Array, Classes, average


class Bernoulli(Classes):
    """Labels 0 and 1; the mean is p [R, 1, B] of class 1."""

    def parts(self, xp: Any, scores: Array, y: Array) -> tuple[Array, Array, Array]:
        if xp is torch:
            log_rest, p = functional.softplus(scores, threshold=40.0), scores.sigmoid()
        else:
            e = np.exp(2 * np.minimum(scores, 0) - scores)  # e to the power −|z|, which does not overflow
            log_rest, p = np.maximum(scores, 0) + np.log1p(e), np.where(scores > 0, 1, e) / (1 + e)
        y = y[:, None]
        return (y * scores - log_rest)[:, 0], p, y - p

    def distribution(self, scores: Tensor) -> torch.distributions.Bernoulli:
        return torch.distributions.Bernoulli(logits=scores.squeeze(-1), validate_args=False)

    def chosen(self, distribution: Any) -> Tensor:
        found: Tensor = distribution.logits > 0  # torch's mode is NaN if both are equally probable
        return found

    def constant(self, y: Tensor, classes: int, weight: Tensor | None = None) -> Tensor:
        return average(y[None], weight).logit()

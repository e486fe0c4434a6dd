"""Numbers. The score is their mean, the deviation is 1: log p(y) = −(y − z)²/2 − log(2π)/2, which is least squares."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from rlgrad.supervised.families.family import Array, Family, average


class Gaussian(Family):
    """Any numbers as labels. Their true deviation does not change the optimum; it is estimated there."""

    headline, judged, dispersed = ("squared_error",), "squared_error", True

    def parts(self, xp: Any, scores: Array, y: Array) -> tuple[Array, Array, Array]:
        residual = y[:, None] - scores
        return (-0.5 * residual * residual - 0.5 * math.log(2 * math.pi))[:, 0], scores, residual

    def weight(self, mean: Array, k: int, m: int) -> Array:
        return 0 * mean[:, 0] + 1

    def distribution(self, scores: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(scores.squeeze(-1), scores.new_ones(()), validate_args=False)

    def constant(self, y: Tensor, classes: int, weight: Tensor | None = None) -> Tensor:
        return average(y[None], weight)

    def quality(self, distribution: Distribution, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        return {"squared_error": average((y - distribution.mean).square(), weight)}

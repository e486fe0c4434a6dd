"""K classes, with a score for each: log p(k) = zₖ − log Σ eᶻ."""

from typing import Any

import torch
from torch import Tensor

from rlgrad.supervised.families.family import Array, Classes


class Categorical(Classes):
    """Labels 0 … K-1; the mean is the probability of each class [R, K, B]."""

    def parts(self, xp: Any, scores: Array, y: Array) -> tuple[Array, Array, Array]:
        z = scores - xp.amax(scores, 1)[:, None]
        power = xp.exp(z)
        whole = power.sum(1)
        p = power / whole[:, None]
        is_label = y[:, None] == xp.arange(scores.shape[1])[:, None]
        return (z * is_label).sum(1) - xp.log(whole), p, xp.where(is_label, 1 - p, 0 - p)

    def distribution(self, scores: Tensor) -> torch.distributions.Categorical:
        return torch.distributions.Categorical(logits=scores, validate_args=False)

    def constant(self, y: Tensor, classes: int, weight: Tensor | None = None) -> Tensor:
        return torch.bincount(y.long(), weight, minlength=classes).log()

"""Counts. The score is the logarithm of their mean: log p(y) = y z − eᶻ − log y!"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from rlgrad.supervised.families.family import Array, Family, average


class Poisson(Family):
    """Labels are 0 or more. All is computed from the difference between the score and log y, which avoids cancellation
    for large counts: log p(y) = y (d − (eᵈ − 1)) + log p(y given the mean y), where d = z − log y."""

    headline, judged, ratio = ("deviance", "log_loss"), "deviance", "rate ratio"

    def refuses(self, y: Tensor) -> str:
        if y.min() < 0:
            return f"its labels must be counts, 0 or more, and one is {float(y.min()):g}"
        return super().refuses(y) if y.max() > 0 else "all counts are 0, and so their logarithm has no optimum"

    def parts(self, xp: Any, scores: Array, y: Array) -> tuple[Array, Array, Array]:
        some = y > 0
        known = xp.where(some, y, xp.ones_like(y))
        d = scores - xp.log(known)[:, None]
        beyond = xp.expm1(d)
        mean, residual = known[:, None] * (beyond + 1), known[:, None] * -beyond
        none = ~some[:, None]
        loss = xp.where(none, mean, known[:, None] * (beyond - d))[:, 0]
        return saturated(xp, y) - loss, mean, xp.where(none, -mean, residual)

    def weight(self, mean: Array, k: int, m: int) -> Array:
        return mean[:, 0]

    def distribution(self, scores: Tensor) -> torch.distributions.Poisson:
        return torch.distributions.Poisson(scores.squeeze(-1).exp(), validate_args=False)

    def constant(self, y: Tensor, classes: int, weight: Tensor | None = None) -> Tensor:
        return average(y[None], weight).log()

    def quality(self, distribution: Distribution, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        mean, known = distribution.mean.double(), y.double()
        off = (mean - known) / torch.where(known > 0, known, 1.0)
        loss = torch.where(known > 0, known * (off - off.log1p()), mean)
        found = {"log_loss": loss - saturated(torch, known), "deviance": 2 * loss}
        return {name: average(each, weight).to(y.dtype) for name, each in found.items()}


def saturated(xp: Any, y: Array) -> Array:
    """The largest possible log p(y): that with the mean y (the saturated model)."""
    labels = torch.as_tensor(y)
    wide = labels.double()
    found = (torch.xlogy(wide, wide) - wide - torch.lgamma(wide + 1)).to(labels.dtype)
    return found if xp is torch else found.numpy(force=True)

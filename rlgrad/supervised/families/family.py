"""The interface of a distribution of labels."""

from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from rlgrad.loop import Direction

Array = Any  # torch's or numpy's


class Family:
    """A distribution of labels y [R, B] given the scores z [R, K, B] of a linear model: generalised linear models with
    their canonical link (McCullagh & Nelder 1989, chapter 2), where ∂ log p / ∂z = [y] − mean, and the curvature does
    not depend on the labels. The formulas work for torch and numpy: `xp` is one of the two modules.
    """

    judged = "log_loss"  # the metric of `quality` by which models are compared; smaller is better
    headline: tuple[str, ...] = ("log_loss",)
    ratio: str | None = None  # the name of exp(coefficient)
    dispersed = False  # whether labels have a deviation that is estimated separately

    def refuses(self, y: Tensor) -> str:
        """Why labels [N] are not valid for this family, in words; an empty text if they are."""
        return "" if bool(y.isfinite().all()) else "a label is infinite"

    def parts(self, xp: Any, scores: Array, y: Array) -> tuple[Array, Array, Array]:
        """log p(y) [R, B], the mean [R, K, B], and the derivative [R, K, B] of log p(y) by the scores."""
        raise NotImplementedError

    def weight(self, mean: Array, k: int, m: int) -> Array:
        """Minus the second derivative [R, B] of log p by the scores k and m."""
        raise NotImplementedError

    def bend(self, mean: Array, change: Array) -> Array:
        """Minus the second derivatives of log p times a change [R, K, B] of the scores: [R, K, B]."""
        return self.weight(mean, 0, 0)[:, None] * change

    def distribution(self, scores: Tensor) -> Distribution:
        """The distribution of labels [R, N], given the scores [R, N, K]."""
        raise NotImplementedError

    def constant(self, y: Tensor, classes: int, weight: Tensor | None = None) -> Tensor:
        """The scores [K] of the best model without features, for labels [N] with weights [N]."""
        raise NotImplementedError

    def quality(self, distribution: Distribution, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Metrics [R] of the predictions for labels [R, N]. weight: [R, N] of the examples."""
        return {"log_loss": Direction.MINIMIZE.sign * average(distribution.log_prob(y), weight)}


class Classes(Family):
    """The common part of both families of classes."""

    headline, ratio = ("accuracy", "log_loss"), "odds ratio"

    def weight(self, mean: Array, k: int, m: int) -> Array:
        return mean[:, k] * (float(k == m) - mean[:, m])

    def bend(self, mean: Array, change: Array) -> Array:
        u = mean * change
        return u - mean * u.sum(1)[:, None]  # valid for one score, too

    def chosen(self, distribution: Distribution) -> Tensor:
        """The most probable label [R, N]; of equally probable ones the first."""
        return distribution.mode

    def quality(self, distribution: Distribution, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        found = super().quality(distribution, y, weight)
        right = (self.chosen(distribution) == y).to(found["log_loss"].dtype)
        return {"accuracy": average(right, weight), **found}


def average(values: Tensor, weight: Tensor | None) -> Tensor:
    """The weighted mean [R] over examples [R, N]."""
    return values.mean(1) if weight is None else (weight * values).sum(1) / weight.sum(-1)

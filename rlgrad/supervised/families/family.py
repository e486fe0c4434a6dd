"""What is asked of a distribution of labels."""

from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from rlgrad.loop import Direction

Array = Any  # of torch or of numpy


class Family:
    """A distribution of labels y [R, B] given the scores z [R, K, B] of a linear model: generalised linear models with
    their canonical link (McCullagh & Nelder 1989, chapter 2), where ∂ log p / ∂z = [y] − mean, and the curvature does
    not depend on the labels. The formulas are for torch and numpy alike: `xp` is either.
    """

    judged = "log_loss"  # the figure of `quality` by which models are compared, the smaller the better
    headline: tuple[str, ...] = ("log_loss",)
    ratio: str | None = None  # what e to the power of a coefficient is
    dispersed = False  # whether labels have a deviation that is measured apart

    def refuses(self, y: Tensor) -> str:
        """Why it cannot have labels [N] that are numbers, in words; nothing if it can."""
        return "" if bool(y.isfinite().all()) else "a label is infinite"

    def parts(self, xp: Any, scores: Array, y: Array) -> tuple[Array, Array, Array]:
        """log p(y) [R, B], the mean [R, K, B], and the derivative [R, K, B] of log p(y) by the scores."""
        raise NotImplementedError

    def weight(self, mean: Array, k: int, m: int) -> Array:
        """Minus the second derivative [R, B] of log p by the scores k and m."""
        raise NotImplementedError

    def bend(self, mean: Array, change: Array) -> Array:
        """The same as a product with a change [R, K, B] of the scores."""
        return self.weight(mean, 0, 0)[:, None] * change

    def distribution(self, scores: Tensor) -> Distribution:
        """Of labels [R, N], by the scores [R, N, K]."""
        raise NotImplementedError

    def constant(self, y: Tensor, classes: int, weight: Tensor | None = None) -> Tensor:
        """The scores [K] of the best model without features, by labels [N] and what each counts [N]."""
        raise NotImplementedError

    def quality(self, distribution: Distribution, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """How good predictions for labels [R, N] are: [R] each. weight: [R, N] what each example counts."""
        return {"log_loss": Direction.MINIMIZE.sign * average(distribution.log_prob(y), weight)}


class Classes(Family):
    """What both families of classes share."""

    headline, ratio = ("accuracy", "log_loss"), "odds ratio"

    def weight(self, mean: Array, k: int, m: int) -> Array:
        return mean[:, k] * (float(k == m) - mean[:, m])

    def bend(self, mean: Array, change: Array) -> Array:
        u = mean * change
        return u - mean * u.sum(1)[:, None]  # where there is one score, too

    def chosen(self, distribution: Distribution) -> Tensor:
        """The most probable label [R, N]; of those that are equally probable the first."""
        return distribution.mode

    def quality(self, distribution: Distribution, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        found = super().quality(distribution, y, weight)
        right = (self.chosen(distribution) == y).to(found["log_loss"].dtype)
        return {"accuracy": average(right, weight), **found}


def average(values: Tensor, weight: Tensor | None) -> Tensor:
    """The mean [R] over examples [R, N], each counting as much as its weight says."""
    return values.mean(1) if weight is None else (weight * values).sum(1) / weight.sum(-1)

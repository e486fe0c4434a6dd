"""Logistic regression, binary or multinomial: descend the negative log-likelihood, or ascend the log-likelihood.

    log L(w) = mean over examples of log p(y | x, w)

It is concave, so it has a maximum to climb to; its negative is convex and has a minimum to descend to. Both are the
same point, and both gradients are the same but for the sign (Hastie, Tibshirani & Friedman 2009, section 4.4.1).
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from rlgrad import data
from rlgrad.loop import Direction, Estimate
from rlgrad.models import LinearClassifier
from rlgrad.settings import NonNegativeInt, RunSettings
from rlgrad.streams import Purpose, stream

DIRECTIONS = {"log_likelihood": Direction.MAXIMIZE, "negative_log_likelihood": Direction.MINIMIZE}


class Settings(RunSettings):
    """A linear classifier with a probability for each class."""

    problem: Literal["logistic"] = "logistic"
    data: Literal["breast_cancer", "digits", "iris", "wine"]
    """a data set that scikit-learn carries"""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """the part of the examples that is held out"""
    split_seed: NonNegativeInt = 0
    """which examples are held out: the same for all replicas, and whatever the seed of the run"""
    standardise: bool = True
    """mean 0 and deviation 1 in every feature, measured on the training part"""
    objective: Literal["negative_log_likelihood", "log_likelihood"] = "negative_log_likelihood"
    """the cost to descend, or the score to ascend; per example"""
    batch_size: PositiveInt | None = None
    """examples in an update, every epoch in a new order; null: all of them"""
    l2: NonNegativeFloat = 0.0
    """strength of the penalty l2/2 ||w||^2, intercepts left out; scikit-learn's C is 1 / (l2 * examples)"""
    initial_deviation: NonNegativeFloat = 0.0
    """initial weights are normal with this deviation; 0: all start at zero"""

    def build(self) -> "Logistic":
        loaded = data.load(
            self.data, test_fraction=self.test_fraction, split_seed=self.split_seed, standardise=self.standardise
        )
        return Logistic(self, loaded)


class Batch(NamedTuple):
    x: Tensor  # [R, B, D]
    y: Tensor  # [R, B]


class Logistic:
    """The likelihood of the labels under a linear model."""

    solved: tuple[str, float] | None = None
    work = "batch/examples"  # the metric that counts what was learned from

    def __init__(self, settings: Settings, dataset: data.Dataset):
        self.settings = settings
        self.dataset = dataset
        self.direction = DIRECTIONS[settings.objective]
        self.model = LinearClassifier(settings.replicas, dataset.x.shape[1], dataset.classes)
        with torch.no_grad():
            for replica, weight in enumerate(self.model.linear.weight):
                rng = stream(settings.seed + replica, Purpose.INITIAL)
                weight.copy_(settings.initial_deviation * torch.from_numpy(rng.standard_normal(tuple(weight.shape))))
        self._orders: dict[int, Tensor] = {}  # the epoch under way: [R, N]

    def sample(self, step: int) -> Batch:
        """The next examples of each replica's epoch, or all examples."""
        size, examples = self.settings.batch_size, len(self.dataset.y)
        if size is None or size >= examples:
            replicas = self.settings.replicas
            return Batch(self.dataset.x.expand(replicas, -1, -1), self.dataset.y.expand(replicas, -1))
        epoch, number = divmod(step, math.ceil(examples / size))
        rows = self._order(epoch)[:, number * size : (number + 1) * size]
        return Batch(self.dataset.x[rows], self.dataset.y[rows])

    def objective(self, batch: Batch) -> Estimate:
        """The mean log-likelihood [R] of the batch, less the penalty; or the same as a cost."""
        distribution = self.model(batch.x)
        log_likelihood = distribution.log_prob(batch.y).mean(1)
        penalty = self.settings.l2 / 2 * self.model.linear.weight.square().sum((1, 2))
        with torch.no_grad():
            metrics = {f"batch/{name}": value for name, value in quality(distribution, batch.y).items()}
            metrics["batch/examples"] = torch.full_like(log_likelihood, batch.y.shape[1])
        return Estimate(self.direction.sign * (log_likelihood - penalty), metrics)

    @torch.no_grad()
    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        """Accuracy and log-loss [R] on the held-out part; beside them, what predicting the training part's class
        frequencies for every example would give: a classifier that is no better has learned nothing."""
        replicas, y = self.settings.replicas, self.dataset.test_y.expand(self.settings.replicas, -1)
        frequency = torch.bincount(self.dataset.y.long(), minlength=self.dataset.classes) / len(self.dataset.y)
        constant = torch.distributions.Categorical(probs=frequency.expand(*y.shape, -1), validate_args=False)
        learned = quality(self.model(self.dataset.test_x.expand(replicas, -1, -1)), y)
        return learned | {f"prior_{name}": value for name, value in quality(constant, y).items()}

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            seeds = range(self.settings.seed, self.settings.seed + self.settings.replicas)
            drawn = [stream(seed, Purpose.SAMPLE, epoch).permutation(len(self.dataset.y)) for seed in seeds]
            self._orders = {epoch: torch.from_numpy(np.stack(drawn))}
        return self._orders[epoch]


def quality(distribution: torch.distributions.Distribution, y: Tensor) -> dict[str, Tensor]:
    """Accuracy and log-loss [R] of predictions for labels [R, N]."""
    log_likelihood = distribution.log_prob(y).mean(1)
    accuracy = (distribution.mode == y).to(log_likelihood.dtype).mean(1)
    return {"accuracy": accuracy, "log_loss": Direction.MINIMIZE.sign * log_likelihood}

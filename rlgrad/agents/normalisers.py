"""Running means and deviations of observations and of returns."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rlgrad.agents.advantages import total
from rlgrad.networks import Actable, Frozen

LIMIT = 10.0  # deviations at which a feature is clipped
LEAST = 1e-4  # the smallest deviation: a feature that moves less is taken for a constant with noise


class Normaliser(Actable):
    """Scales each of D features to mean 0 and deviation 1, for each replica by what it has seen: [R, ..., D].

    What it observes in an update counts from the next update on: acting and learning use the same numbers for a batch.
    Welford's running moments (1962), merged as in Chan, Golub & LeVeque 1983. They are buffers: saved with the model,
    and frozen in evaluation.
    """

    seen_count: Tensor  # [R, 1]
    seen_mean: Tensor  # [R, D]
    seen_squares: Tensor  # [R, D] sum of squared distances to the mean
    pending_count: Tensor
    pending_mean: Tensor
    pending_squares: Tensor

    def __init__(self, replicas: int, features: int):
        super().__init__()
        for name in ("seen", "pending"):
            self.register_buffer(f"{name}_count", torch.zeros(replicas, 1, dtype=torch.float64))
            self.register_buffer(f"{name}_mean", torch.zeros(replicas, features, dtype=torch.float64))
            self.register_buffer(f"{name}_squares", torch.zeros(replicas, features, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Scale x in its own precision, as single precision loses the digits beside a large mean; then convert to that
        of the models."""
        mean, deviation = self.mean_and_deviation(x)
        found = functional.hardtanh((x - mean) / deviation / LIMIT) * LIMIT
        return found.to(torch.get_default_dtype())

    def frozen(self) -> Frozen:
        """Return `forward` with the current numbers, as a numpy function of x [R, N, D]."""
        one = self.seen_count.new_empty(len(self.seen_count), 1, 1)
        kinds = torch.get_default_dtype(), torch.float64
        single, double = ([m.numpy(force=True) for m in self.mean_and_deviation(one.to(kind))] for kind in kinds)
        moments = {double[0].dtype: double, single[0].dtype: single}

        def normalised(x: np.ndarray) -> np.ndarray:
            mean, deviation = moments[x.dtype]
            found = np.clip((x - mean) / deviation, np.negative(LIMIT), LIMIT)
            return np.asarray(found, single[0].dtype)

        return normalised

    def mean_and_deviation(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation in the shape that fits x [R, ..., D]; 0 and 1 as long as nothing has been seen."""
        variance = torch.where(self.seen_count > 1, self.seen_squares / self.seen_count, 1.0)
        shape = (len(x), *[1] * (x.dim() - 2), -1)
        deviation = self.bounded(variance.sqrt())
        return self.seen_mean.to(x.dtype).reshape(shape), deviation.to(x.dtype).reshape(shape)

    def bounded(self, deviation: Tensor) -> Tensor:
        """The deviation [R, D] that is used."""
        return deviation.clamp(min=LEAST)

    @torch.no_grad()
    def advance(self) -> None:
        """Use the observed statistics from now on."""
        a, b = self.seen_count, self.pending_count
        total = (a + b).clamp(min=1)
        gap = self.pending_mean - self.seen_mean
        self.seen_mean += gap * b / total
        self.seen_squares += self.pending_squares + gap.square() * a * b / total
        self.seen_count += b
        self.pending_count.zero_()
        self.pending_squares.zero_()

    @torch.no_grad()
    def observe(self, x: Tensor, alive: Tensor) -> None:
        """Observe the vectors x [R, T, B, D] of the steps that are alive [R, T, B]. Elements after the first D, an
        action mask, are left out."""
        x = x[..., : self.seen_mean.shape[1]]
        x, weight = x.double(), alive.double().unsqueeze(3)
        self.pending_count.copy_(total(weight))
        self.pending_mean.copy_(total(x * weight) / self.pending_count.clamp(min=1))
        self.pending_squares.copy_(total((x - self.pending_mean[:, None, None]).square() * weight))


class ReturnUnit(Normaliser):
    """The mean and the deviation of the returns-to-go: a unit that makes the size of the rewards irrelevant."""

    def __init__(self, replicas: int):
        super().__init__(replicas, 1)

    def bounded(self, deviation: Tensor) -> Tensor:
        """However small the rewards are; but returns that are equal, up to rounding, give no unit."""
        return torch.where(deviation > 1e-12 * self.seen_mean.abs(), deviation, LEAST)

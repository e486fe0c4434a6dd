"""Baselines that need more than the returns of the batch: returns of earlier batches, or the score of every episode."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MEMORY = 0.8  # the weight of a mean return in the running mean, with each update that comes after it


class RunningMean(nn.Module):
    """The mean return of earlier updates, for each replica: [R].

    An exponential moving mean, because the policy gets better. It contains none of the episodes that it is subtracted
    from, so the gradient stays unbiased. Before the first update it is 0.
    """

    total: Tensor  # weighted sum of mean returns
    weight: Tensor  # sum of the weights
    pending: Tensor  # the last update's mean return
    pending_weight: Tensor  # 1 where there was one

    def __init__(self, replicas: int):
        super().__init__()
        for name in ("total", "weight", "pending", "pending_weight"):
            self.register_buffer(name, torch.zeros(replicas))

    def forward(self) -> Tensor:
        return self.total / self.weight.clamp(min=1)

    @torch.no_grad()
    def observe(self, returns: Tensor) -> None:
        """Observe the returns [R, B] of an update. They count after `advance`."""
        self.pending.copy_(returns.mean(1))
        self.pending_weight.fill_(1)

    @torch.no_grad()
    def advance(self) -> None:
        """Use the observed returns from now on."""
        kept = torch.where(self.pending_weight > 0, MEMORY, 1.0)
        self.total.mul_(kept).add_(self.pending_weight * self.pending)
        self.weight.mul_(kept).add_(self.pending_weight)
        self.pending_weight.zero_()


def optimal_constant(
    contributions: Sequence[Sequence[Tensor]], scores: Sequence[Sequence[Tensor]], each: bool
) -> list[Tensor]:
    """The policy gradient with the constant baseline that has the least variance.

    With gᵦ the gradient that episode β contributes without a baseline and sᵦ its score, Σₜ ∇log π, the gradient with a
    baseline b is gᵦ − b sᵦ, and its variance is least at b = E[gᵦ·sᵦ] / E[sᵦ·sᵦ] (for whole returns: Greensmith,
    Bartlett & Baxter 2004, https://jmlr.org/papers/v5/greensmith04a.html; per parameter: Peters & Schaal 2008, eq. 15).
    For each episode, b is estimated from the other episodes, so the gradient stays unbiased.

    contributions, scores: gᵦ and sᵦ of each of B episodes, a tensor [R, ...] for each parameter.
    each: whether each parameter has its own constant, instead of one for all.
    """
    g = [torch.stack(of_all) for of_all in zip(*contributions, strict=True)]  # each [B, R, ...]
    s = [torch.stack(of_all) for of_all in zip(*scores, strict=True)]
    above, below = [a * b for a, b in zip(g, s, strict=True)], [b * b for b in s]
    if not each:
        above, below = in_all(above), in_all(below)
    gradient = []
    for a, b, up, down in zip(g, s, above, below, strict=True):
        others = (up.sum(0) - up) / (down.sum(0) - down).clamp(min=1e-30)
        gradient.append((a - others * b).mean(0))
    return gradient


def in_all(parts: Sequence[Tensor]) -> list[Tensor]:
    """The sum over all elements of all parameters, once for each of the parts [B, R, ...], as [B, R, 1, ...]."""
    whole = torch.stack([part.flatten(2).sum(2) for part in parts]).sum(0)  # [B, R]
    return [whole.reshape(*whole.shape, *[1] * (part.dim() - 2)) for part in parts]

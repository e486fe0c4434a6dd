"""Baselines that need more than the returns of the batch: a memory of earlier ones, or the score of every episode."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class RunningMean(nn.Module):
    """The mean return of earlier updates, for each replica: [R].

    An exponential mean, as the policy gets better. It has seen none of the episodes that it is subtracted from, and so
    leaves the gradient unbiased; before the first update it is 0.
    """

    total: Tensor  # weighted sum of mean returns
    weight: Tensor  # sum of the weights
    pending: Tensor  # the last update's mean return
    pending_weight: Tensor  # 1 where there was one

    def __init__(self, replicas: int, memory: float = 0.8):
        super().__init__()
        self.memory = memory
        for name in ("total", "weight", "pending", "pending_weight"):
            self.register_buffer(name, torch.zeros(replicas))

    def forward(self) -> Tensor:
        return self.total / self.weight.clamp(min=1)

    @torch.no_grad()
    def observe(self, returns: Tensor) -> None:
        """Take note of the returns [R, B] of an update."""
        self.pending.copy_(returns.mean(1))
        self.pending_weight.fill_(1)

    @torch.no_grad()
    def advance(self) -> None:
        """From here on, what was observed counts."""
        kept = torch.where(self.pending_weight > 0, self.memory, 1.0)
        self.total.mul_(kept).add_(self.pending_weight * self.pending)
        self.weight.mul_(kept).add_(self.pending_weight)
        self.pending_weight.zero_()


def optimal_constant(log_prob: Tensor, returns: Tensor, parameters: Sequence[nn.Parameter], each: bool) -> Tensor:
    """A surrogate [R] whose gradient is the policy gradient with the constant baseline that leaves the least variance.

    With gᵦ the gradient that episode β contributes without a baseline and sᵦ its score, Σₜ ∇log π, the gradient with a
    baseline b is gᵦ − b sᵦ, and its variance is least at b = E[gᵦ·sᵦ] / E[sᵦ·sᵦ] (for whole returns: Greensmith,
    Bartlett & Baxter 2004, https://jmlr.org/papers/v5/greensmith04a.html; per parameter: Peters & Schaal 2008, eq. 15).
    For each episode b is estimated from the others, and so the gradient stays unbiased.

    log_prob: [R, T, B], zero after the end. returns: [R, T, B], what each action is credited with.
    each: one constant for each parameter, instead of one for all.
    """
    episodes = log_prob.shape[2]
    contributions: list[tuple[Tensor, ...]] = []  # [B] of [R, ...] for each parameter
    scores: list[tuple[Tensor, ...]] = []
    for episode in range(episodes):
        mine = log_prob[:, :, episode]
        for of, kept in ((mine * returns[:, :, episode], contributions), (mine, scores)):
            kept.append(torch.autograd.grad(of.sum(), parameters, retain_graph=True))
    surrogate = torch.zeros(len(log_prob))
    g = [torch.stack(each_b).flatten(2) for each_b in zip(*contributions, strict=True)]  # each [B, R, P]
    s = [torch.stack(each_b).flatten(2) for each_b in zip(*scores, strict=True)]
    above = [a * b for a, b in zip(g, s, strict=True)]
    below = [b * b for b in s]
    if not each:
        above = [torch.cat(above, 2).sum(2, keepdim=True)] * len(g)
        below = [torch.cat(below, 2).sum(2, keepdim=True)] * len(g)
    for a, b, up, down, parameter in zip(g, s, above, below, parameters, strict=True):
        others = (up.sum(0) - up) / (down.sum(0) - down).clamp(min=1e-30)  # [B, R, P or 1]
        gradient = (a - others * b).mean(0)
        surrogate = surrogate + (parameter.flatten(1) * gradient).sum(1)
    return surrogate

"""How good a gradient is: what one batch shows about it, and about the step along it."""

import torch
from torch import Tensor

from rlgrad.agents.advantages import mean_and_variance

MOST = 1e6  # the largest ratio that is reported


def quality_of_gradient(g: Tensor, h: Tensor) -> dict[str, Tensor]:
    """How much of the gradient is signal: metrics [R] from the gradients g and h [R, P] of both halves of the episodes.

    Both have the same mean, so g·h is an unbiased estimate of its squared length. The gradient of the whole batch is
    (g + h)/2, and |g - h|²/4 is an unbiased estimate of its variance. The ratio of the two is biased, and unbounded if
    both halves agree by chance: it is limited to MOST, about the largest ratio that single precision can tell.
    """
    variance = (g - h).square().sum(1) / 4
    least = ((g + h) / 2).square().sum(1).clamp(min=torch.finfo(g.dtype).tiny) / MOST
    return {
        "gradient/half_cosine": torch.cosine_similarity(g, h, dim=1, eps=torch.finfo(g.dtype).tiny),
        "gradient/deviation": variance.sqrt(),
        "gradient/signal_to_noise": (g * h).sum(1).clamp(min=0) / variance.maximum(least),
    }


def explained_variance(guess: Tensor, target: Tensor, alive: Tensor) -> Tensor:
    """1 - Var(target - guess) / Var(target) [R] over the steps alive: 1 is perfect, 0 is no better than the mean. It is
    at least 1 - MOST: targets that do not differ, but for rounding, have no variance to explain."""
    mean, variance = mean_and_variance(target, alive)
    numbers = torch.finfo(target.dtype)
    rounding = (numbers.eps * mean).square().clamp(min=numbers.tiny)
    return 1 - (mean_and_variance(target - guess, alive)[1] / variance.maximum(rounding)).clamp(max=MOST)


def effective_number(log_ratio: Tensor) -> Tensor:
    """The effective number [R] of the B episodes for the policy after the update: (Σ w)² / Σ w², where w is how much
    more probable an episode has become (Kong 1992). It is B if nothing has changed, and 1 if one outweighs all others.

    log_ratio: [R, T, B] the log-probability of each action after the update minus that before; 0 after an end.
    """
    share = torch.softmax(log_ratio.sum(1), 1)
    return 1 / share.square().sum(1)

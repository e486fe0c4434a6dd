"""Is this gradient any good? What one batch tells of it, and of the step that was taken along it."""

import torch
from torch import Tensor

from rlgrad.agents.advantages import mean_and_variance, total

MOST = 1e6  # the largest signal-to-noise ratio that is reported


def quality_of_gradient(g: Tensor, h: Tensor) -> dict[str, Tensor]:
    """How much of the gradient is signal, by the gradients g and h [R, P] of the two halves of the episodes: [R] each.

    Both have the same mean, and so g·h is an unbiased estimate of its squared length, and |g - h|²/4 one of the
    variance of the whole batch's gradient, which is their mean. The ratio of the two is not without bias, and has no
    bound where both halves agree by chance: it is cut off at MOST, about what single precision can tell.
    """
    variance = (g - h).square().sum(1) / 4
    least = ((g + h) / 2).square().sum(1).clamp(min=torch.finfo(g.dtype).tiny) / MOST
    return {
        "gradient/half_cosine": torch.cosine_similarity(g, h, dim=1),
        "gradient/deviation": variance.sqrt(),
        "gradient/signal_to_noise": (g * h).sum(1).clamp(min=0) / variance.maximum(least),
    }


def explained_variance(guess: Tensor, target: Tensor, alive: Tensor) -> Tensor:
    """1 - Var(target - guess) / Var(target) [R] over the steps alive: 1 is perfect, 0 no better than the mean."""
    return 1 - mean_and_variance(target - guess, alive)[1] / mean_and_variance(target, alive)[1].clamp(min=1e-12)


def effective_number(log_ratio: Tensor) -> Tensor:
    """How many of the B episodes still count for the policy after the update: (Σ w)² / Σ w² [R], where w is how much
    more probable an episode has become (Kong 1992). B where nothing has changed, 1 where one outweighs all others.

    log_ratio: [R, T, B], of the probability of each action after the update and before; 0 after an end.
    """
    share = torch.softmax(log_ratio.sum(1), 1)
    return 1 / share.square().sum(1)


def divergence(each: Tensor, alive: Tensor) -> Tensor:
    """The mean [R] over the steps alive of the Kullback-Leibler divergences [R, T, B] from the policy before an update
    to the one after it."""
    return total(each * alive) / alive.sum((1, 2))

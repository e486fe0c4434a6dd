"""The replicas' axis R: tensors [R, ...] laid side by side, and norms of what belongs to one replica."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """[R, ...] each -> [R, P]."""
    return torch.cat([tensor.reshape(tensor.shape[0], -1) for tensor in tensors], 1)


def unflat(values: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """[R, P] -> [R, ...] each."""
    like = list(like)
    parts = values.split_with_sizes([tensor[0].numel() for tensor in like], 1)
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def clip_per_replica(parameters: Iterable[Tensor], max_norm: float = math.inf) -> Callable[[], Tensor]:
    """Scale each replica's gradient down to `max_norm`, and return a function that says what the norms [R] were."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if max_norm == math.inf:
        return lambda: norm_per_replica(gradients)
    norm = norm_per_replica(gradients)
    scale = (max_norm / norm).clamp(max=1.0)  # a norm of zero gives infinity, and so 1
    for g in gradients:
        g.mul_(scale.reshape(-1, *[1] * (g.dim() - 1)))
    return lambda: norm


def norm_per_replica(tensors: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm [R] over all elements of tensors [R, ...] that belong to the same replica."""
    norm: Tensor = torch.linalg.vector_norm(flat(tensors), dim=1)
    return norm

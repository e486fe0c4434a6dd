"""Functions on the replica axis R of tensors [R, ...]: flattening, norms and products per replica."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Gradient = Sequence[Tensor | None]  # for each parameter [R, ...], or None if it has no gradient


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """[R, ...] each -> [R, P], where P counts all elements of all tensors."""
    return torch.cat([tensor.reshape(tensor.shape[0], -1) for tensor in tensors], 1)


def unflatten(values: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """[R, P] -> [R, ...] each, in the shapes of `like`."""
    like = list(like)
    parts = values.split_with_sizes([tensor[0].numel() for tensor in like], 1)
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def norm_per_replica(tensors: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm [R] over all elements of tensors [R, ...] that belong to the same replica."""
    norm: Tensor = torch.linalg.vector_norm(flatten(tensors), dim=1)
    return norm


def product_per_replica(a: Gradient, b: Iterable[Tensor]) -> Tensor:
    """The inner product [R] over all elements of a and b that belong to the same replica; None counts as zero."""
    products = [(x * y).reshape(len(x), -1).sum(1) for x, y in zip(a, b, strict=True) if x is not None]
    return torch.stack(products).sum(0)


def along(number: float | Tensor, x: Tensor) -> float | Tensor:
    """Reshape one number per replica [R] to broadcast over x [R, ...], with its device and precision; a float stays."""
    if not isinstance(number, Tensor):
        return number
    return number.to(x.device, x.dtype if x.is_floating_point() else number.dtype).reshape(-1, *[1] * (x.dim() - 1))


def clipping(max_norm: float | Tensor) -> Callable[[Gradient], Gradient]:
    """Return a function that scales each replica's gradient down to at most this Euclidean norm: one number, or one per
    replica [R]. The gradient that it is given is not changed."""

    def clip(gradient: Gradient) -> Gradient:
        norm = norm_per_replica(g for g in gradient if g is not None)
        scale = (along(max_norm, norm) / norm).clamp(max=1.0)  # a norm of zero gives infinity, which clamps to 1
        return [None if g is None else g * scale.reshape(-1, *[1] * (g.dim() - 1)) for g in gradient]

    return clip

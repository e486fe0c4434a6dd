"""The likelihood of a linear model in closed form: its value, gradient and curvature, without autograd's graph.

    log L = Σ c log p(y | x),    ∂ log L / ∂z_k = c ([y = k] − p_k),    where z = xᵀw + b are the scores

(Hastie, Tibshirani & Friedman 2009, equations 4.21 and 4.25; two classes have one score, that of class 1; c is what an
example counts, and differs between replicas where these are folds or resamples; other families than classes put their
own mean in the place of p). Examples
are worked on some thousands at a time, so that they are still in the cache when the gradient reads them for the second
time; sums over all examples are taken in double precision. Scores are [R, K, B], and weights meet them as [R, K, D]:
this way round a matrix product with few classes is several times as fast.

The formulas stand here once, for tensors and for numpy's arrays alike: with few examples it is the calls that take the
time, and numpy's take less.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlgrad import distributed, ranks
from rlgrad.optimizers.curvature import Curvature
from rlgrad.supervised.families import Family

PIECE = 1 << 19  # numbers of the examples' features at a time: two megabytes, in single precision
FEW = 1 << 17  # numbers of the examples' features, counted as 64 at least, up to which numpy is faster
WIDE = 1e-13  # what rounding leaves of a zero in a curvature in double precision, as a part of its diagonal
FEW_WEIGHTS = 64  # of several classes, up to which their curvature is worked out as a matrix

Array = Any  # of torch or of numpy


class PenalisedLikelihood(NamedTuple):
    """What is known of an objective at some weights."""

    value: Tensor  # [R]
    weight: Tensor  # [R, D, K] its gradient there
    bias: Tensor  # [R, 1, K]
    scores: Tensor  # [R, K, B]
    means: Tensor  # [R, K, B] of classes their probabilities


Decay = float | np.ndarray  # of all weights, or [R, 1, 1], [R, D, 1]: those of each replica, or of each feature


@np.errstate(all="ignore")  # like torch: where a replica diverges its numbers say so
def penalised(
    family: Family,
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    y: Tensor,
    scale: float,
    decay: Decay,
    sample_weight: Tensor | None = None,
) -> PenalisedLikelihood:
    """scale log L − decay/2 ||w||².

    weight [R, D, K], bias [R, 1, K], x [R, B, D], y [R, B]; K = 1 where there are two classes.
    sample_weight: [R, B] how many times an example counts; None: once.
    """
    xp, x, y, w, b, *counted = native(x, y, weight, bias, *given(sample_weight))
    scores, means, found = [], [], []
    for piece, labels, *each in pieces(x, y, *counted):
        z = logits_of(w, b, piece)
        log_likelihood, mean, residual = family.parts(xp, z, labels)
        for c in each:
            log_likelihood, residual = c * log_likelihood, c[:, None] * residual
        scores.append(z)
        means.append(mean)
        found.append((log_likelihood.sum(1), against(residual, piece), residual.sum(2)))
    value, slope, level = (
        each * scale for each in of_all(xp, *(total(xp, parts) for parts in zip(*found, strict=True)))
    )
    slope, level = slope.mT, level[:, None]
    if isinstance(decay, np.ndarray):
        decay = xp.asarray(decay, dtype=w.dtype)
        value, slope = value - (decay * w * w).sum((1, 2)) / 2, slope - decay * w
    elif decay:
        value = value - decay / 2 * (w * w).sum((1, 2))
        slope = slope - decay * w
    every = (together(xp, parts) for parts in (scores, means))
    return PenalisedLikelihood(*(tensor(part, weight.dtype) for part in (value, slope, level, *every)))


def given(sample_weight: Tensor | None) -> tuple[Tensor, ...]:
    """The weights of the examples, if they have any."""
    return () if sample_weight is None else (sample_weight,)


def native(x: Tensor, *others: Tensor) -> tuple[Any, ...]:
    """numpy or torch, whichever is faster with these examples [R, B, D], and everything as its own. Data that all
    replicas share is [1, B, D] from here on: it need be read only once."""
    _, examples, features = x.shape
    x = x[:1] if x.stride(0) == 0 else x
    if examples * max(features, 64) > FEW:
        return torch, x, *(other.detach() for other in others)
    return np, x.numpy(), *(other.detach().numpy() for other in others)


def pieces(x: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """The examples x [R, B, D] some at a time, with what belongs to them [..., B]."""
    count = max(1, PIECE // x.shape[2])
    for first in range(0, max(1, x.shape[1]), count):
        some = slice(first, first + count)
        yield x[:, some], *(other[..., some] for other in others)


def total(xp: Any, parts: Sequence[Array]) -> Array:
    """The sum of arrays of one shape, taken in double precision."""
    return parts[0] if len(parts) == 1 else xp.stack(parts).sum(0, dtype=xp.float64)


def of_all(xp: Any, *sums: Array) -> Sequence[Array]:
    """Sums over the examples of this process, added up over those of all that train together."""
    if ranks.here.size == 1:
        return sums
    return [xp.asarray(each) for each in distributed.summed(*(torch.as_tensor(each) for each in sums))]


def together(xp: Any, parts: Sequence[Array]) -> Array:
    """What belongs to the examples, [R, K, some] each: [R, K, B]."""
    return parts[0] if len(parts) == 1 else xp.concatenate(parts, 2)


def tensor(array: Array, dtype: torch.dtype) -> Tensor:
    """The array as a tensor of that precision, contiguous as some optimizers need their gradients."""
    found = torch.from_numpy(array) if isinstance(array, np.ndarray) else array
    return found.to(dtype).contiguous()


def logits_of(weight: Array, bias: Array | None, x: Array) -> Array:
    """xᵀw + b [R, K, B]; x is [R, B, D], or [1, B, D] if it is everybody's."""
    w = weight.mT
    shared = len(x) < len(w)  # one product serves all replicas
    scores = (w.reshape(1, -1, w.shape[2]) @ x.mT).reshape(*w.shape[:2], -1) if shared else w @ x.mT
    return scores if bias is None else scores + bias.mT


def against(scores: Array, x: Array) -> Array:
    """Σ over the examples of scores [R, K, B] times x [R, B, D] or [1, B, D]: [R, K, D]."""
    if len(x) < len(scores):
        return (scores.reshape(1, -1, scores.shape[2]) @ x).reshape(*scores.shape[:2], -1)
    return scores @ x


class Information(Curvature):
    """The curvature of sign (scale log L − decay/2 ||w||²), where scale and decay are positive.

    That of −log L is the Fisher information Σ c x xᵀ ⊗ V, where V is the variance of the label at x: of classes
    diag p − p pᵀ. P counts the weights [D, K] in their order and then, if there are any, the intercepts [K], each the
    weight of a feature that is 1.
    """

    def __init__(
        self,
        family: Family,
        x: Tensor,
        means: Tensor,
        sign: int,
        scale: float,
        decay: Decay,
        intercept: bool = True,
        sample_weight: Tensor | None = None,
    ):
        """x [R, B, D] and the means [R, K, B] there, as `penalised` has found them. sample_weight: [R, B]."""
        self.shape = len(means), x.shape[2], means.shape[1]
        self.family, self.sign, self.scale, self.intercept = family, sign, scale, intercept
        self.by_products = self.shape[2] > 1 and self.shape[1] * self.shape[2] > FEW_WEIGHTS
        self.decay = np.broadcast_to(decay, self.shape).reshape(self.shape[0], -1)  # [R, D K]
        self.xp, x, means, *counted = native(x, means, *given(sample_weight))
        self.parts = list(pieces(x, means, *counted))
        self.wide = x.dtype

    def widened(self) -> "Information":
        """The same, its matrix in double precision: where features have scales of their own, single precision loses the
        small ones beside the large ones."""
        self.wide, self.eps = self.xp.float64, WIDE
        return self

    @np.errstate(all="ignore")
    def matrix(self) -> np.ndarray:
        """[R, P, P]"""
        (replicas, features, classes), size = self.shape, self.shape[1] + self.intercept
        if classes == 1:
            square = self._block([self.family.weight(mean, 0, 0) for _, mean, *_ in self.parts])
        else:
            result = np.empty((replicas, size, classes, size, classes))
            for k in range(classes):
                for m in range(k + 1):
                    block = self._block([self.family.weight(mean, k, m) for _, mean, *_ in self.parts])
                    result[:, :, k, :, m] = result[:, :, m, :, k] = block
            square = result.reshape(replicas, size * classes, size * classes)
        np.einsum("rpp->rp", square)[:, : features * classes] += self.decay
        return self.sign * square

    @np.errstate(all="ignore")
    def times(self, v: np.ndarray) -> np.ndarray:
        """Its product with v [R, P]."""
        replicas, features, classes = self.shape
        given = self.xp.asarray(v, dtype=self.parts[0][0].dtype)
        weight = given[:, : features * classes].reshape(self.shape)
        bias = given[:, features * classes :].reshape(replicas, 1, -1) if self.intercept else None
        slopes, levels = [], []
        for piece, mean, *counts in self.parts:
            u = self.family.bend(mean, logits_of(weight, bias, piece))  # [R, K, B]
            for c in counts:
                u = c[:, None] * u
            slopes.append(against(u, piece))
            levels.append(u.sum(2))
        slope, level = of_all(self.xp, total(self.xp, slopes), total(self.xp, levels))
        slope = np.asarray(slope.mT, np.float64).reshape(replicas, -1)
        level = np.asarray(level, np.float64)[:, : classes * self.intercept]
        result: np.ndarray = self.scale * np.concatenate([slope, level], 1)
        result[:, : features * classes] += self.decay * v[:, : features * classes]
        return self.sign * result

    def undo(self, v: np.ndarray) -> np.ndarray:
        """About the inverse of its absolute value, times v [R, P]: as if every class had the mean of their blocks. Of
        one score it is the inverse."""
        found: np.ndarray = self._inverse @ v.reshape(self.shape[0], -1, self.shape[2])
        return found.reshape(v.shape)

    def felt(self, v: np.ndarray) -> np.ndarray:
        """What all classes have in common changes no probability, and without a penalty nothing at all."""
        if self.shape[2] == 1:
            return v
        common = v.reshape(self.shape[0], -1, self.shape[2]).mean(2).repeat(self.shape[2], 1)
        free = np.ones(v.shape, bool)
        free[:, : self.decay.shape[1]] = self.decay == 0
        free &= self.kink is None or self.kink == 0
        return v - np.where(free, common, 0)

    @functools.cached_property
    def _inverse(self) -> np.ndarray:
        """Of the mean block over classes: [R, D, D]."""
        classes = self.shape[2]
        weights = ([self.family.weight(mean, k, k) for k in range(classes)] for _, mean, *_ in self.parts)
        block = self._block([sum(each[1:], each[0]) / classes for each in weights])
        diagonal = np.einsum("rdd->rd", block)
        diagonal[:, : self.shape[1]] += self.decay.reshape(self.shape).mean(2)
        eps = self.xp.finfo(self.parts[0][0].dtype).eps
        diagonal += np.where(diagonal == 0, 1, eps * diagonal)  # for a constant feature, and one that is there twice
        unit = 1 / np.sqrt(np.abs(diagonal))
        unit = unit[:, :, None] * unit[:, None]
        inverse: np.ndarray = unit * np.linalg.inv(unit * block)
        return inverse

    def _block(self, weights: Sequence[Array]) -> np.ndarray:
        """scale Σ c weight x xᵀ [R, D, D] over all examples, in double precision, with the intercept as a last feature.

        weights: of the examples of each part, [R, B].
        """
        products = []
        for (piece, _, *counts), weight in zip(self.parts, weights, strict=True):
            for c in counts:
                weight = c * weight
            ones = self.xp.ones((*piece.shape[:2], int(self.intercept)), dtype=self.wide)
            x = self.xp.concatenate([self.xp.asarray(piece, dtype=self.wide), ones], 2)
            products.append(x.mT @ (x * weight[:, :, None]))
        return self.scale * np.asarray(of_all(self.xp, total(self.xp, products))[0], np.float64)

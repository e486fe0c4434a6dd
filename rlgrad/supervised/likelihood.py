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
from collections.abc import Callable, Iterator, Sequence
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
SCORES = 1 << 18  # numbers of their scores at a time
KEPT = 1 << 24  # scores, up to which they are kept for metrics and curvature; more are worked out again
LENT = 1e10  # products that the curvatures of all replicas would take, beyond which some are lent to others
MANY = 100  # examples for each feature, from which it hardly matters which of them a fold or resample has
SEEN = 512  # examples by which curvatures are compared
ALIKE = 0.15  # part by which two differ, up to which one serves for both
FEW_WEIGHTS = 64  # of several classes, up to which their curvature is worked out as a matrix

Array = Any  # of torch or of numpy


class PenalisedLikelihood(NamedTuple):
    """What is known of an objective at some weights."""

    value: Tensor  # [R]
    weight: Tensor  # [R, D, K] its gradient there
    bias: Tensor  # [R, 1, K]
    scores: Tensor | None  # [R, K, B]; None: there are too many to keep
    means: Tensor | None  # [R, K, B] of classes their probabilities; None likewise


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
    sample_weight: [R, B] how many times an example counts, or [M, B] of the replicas m, m + M, ...; None: once.
    """
    xp, x, y, w, b, *counted = native(x, y, weight, bias, *given(sample_weight))
    several = len(w) * w.shape[2]
    kept: tuple[list[Array], list[Array]] = [], []

    def sums() -> Iterator[tuple[Array, ...]]:
        for piece, labels, *each in pieces(several, x, y, *counted):
            z = logits_of(w, b, piece)
            log_likelihood, mean, residual = family.parts(xp, z, labels)
            for c in each:
                c = for_each(xp, c, len(w))
                log_likelihood, residual = c * log_likelihood, c[:, None] * residual
            if several * y.shape[-1] <= KEPT:
                kept[0].append(z)
                kept[1].append(mean)
            yield log_likelihood.sum(1), against(residual, piece), residual.sum(2)

    value, slope, level = (each * scale for each in of_all(xp, *total(xp, sums())))
    slope, level = slope.mT, level[:, None]
    if isinstance(decay, np.ndarray):
        decay = xp.asarray(decay, dtype=w.dtype)
        value, slope = value - (decay * w * w).sum((1, 2)) / 2, slope - decay * w
    elif decay:
        value = value - decay / 2 * (w * w).sum((1, 2))
        slope = slope - decay * w
    scores, means = (tensor(together(xp, parts), weight.dtype) if parts else None for parts in kept)
    value, slope, level = (tensor(part, weight.dtype) for part in (value, slope, level))
    return PenalisedLikelihood(value, slope, level, scores, means)


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


def for_each(xp: Any, counts: Array, replicas: int) -> Array:
    """What examples count [M, B] as each replica has it, [R, B]."""
    return counts if len(counts) in (1, replicas) else xp.tile(counts, (replicas // len(counts), 1))


def pieces(several: int, x: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """The examples x [R, B, D] some at a time, with what belongs to them [..., B]. several: scores of each."""
    count = max(1, min(PIECE // x.shape[2], SCORES // several))
    for first in range(0, max(1, x.shape[1]), count):
        some = slice(first, first + count)
        yield x[:, some], *(other[..., some] for other in others)


def total(xp: Any, parts: Iterator[Sequence[Array]]) -> Sequence[Array]:
    """The sums of arrays that come again and again in the same shapes, taken in double precision."""
    found = next(parts)
    for number, more in enumerate(parts):
        known = found if number else [xp.asarray(each, dtype=xp.float64) for each in found]
        found = [old + new for old, new in zip(known, more, strict=True)]
    return found


def of_all(xp: Any, *sums: Array) -> Sequence[Array]:
    """Sums over the examples of this process, added up over those of all that train together."""
    if ranks.here.size == 1:
        return sums
    return [xp.asarray(each) for each in distributed.summed(*(torch.as_tensor(each) for each in sums))]


def together(xp: Any, parts: Sequence[Array], axis: int = 2) -> Array:
    """What belongs to the examples, [R, K, some] each: [R, K, B]. axis: where they are put side by side."""
    return parts[0] if len(parts) == 1 else xp.concatenate(parts, axis)


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


def scored(weight: Tensor, bias: Tensor, x: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Scores [R, K, some] of some examples at a time, with what belongs to these."""
    for piece, *known in pieces(weight[:, 0].numel(), x[:1] if x.stride(0) == 0 else x, *others):
        yield logits_of(weight, bias, piece), *known


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
        at: tuple[Tensor, Tensor],
        means: Tensor | None,
        sign: int,
        scale: float,
        decay: Decay,
        intercept: bool = True,
        sample_weight: Tensor | None = None,
    ):
        """x [R, B, D]. at: weights [R, D, K] and intercepts [R, 1, K]. means: [R, K, B] there, if `penalised` has kept
        them. sample_weight: as there."""
        self.shape = tuple(at[0].shape)
        self.family, self.sign, self.scale, self.intercept = family, sign, scale, intercept
        self.by_products = self.shape[2] > 1 and self.shape[1] * self.shape[2] > FEW_WEIGHTS
        self.decay = np.broadcast_to(decay, self.shape).reshape(self.shape[0], -1)  # [R, D K]
        self.xp, self.x, self.weight, self.bias, *known = native(x, *at, *given(means), *given(sample_weight))
        self.means, self.counts = known[: means is not None], known[means is not None :]
        self.wide = self.x.dtype

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
            square = self._block(functools.partial(self.family.weight, k=0, m=0))
        else:
            result = np.empty((replicas, size, classes, size, classes))
            for k in range(classes):
                for m in range(k + 1):
                    block = self._block(functools.partial(self.family.weight, k=k, m=m))
                    result[:, :, k, :, m] = result[:, :, m, :, k] = block
            square = result.reshape(replicas, size * classes, size * classes)
        np.einsum("rpp->rp", square)[:, : features * classes] += self.decay
        square *= self.sign
        return square

    @np.errstate(all="ignore")
    def times(self, v: np.ndarray) -> np.ndarray:
        """Its product with v [R, P]."""
        replicas, features, classes = self.shape
        given = self.xp.asarray(v, dtype=self.x.dtype)
        weight = given[:, : features * classes].reshape(self.shape)
        bias = given[:, features * classes :].reshape(replicas, 1, -1) if self.intercept else None

        def sums() -> Iterator[tuple[Array, ...]]:
            for piece, mean, *counts in self.examples():
                u = self.family.bend(mean, logits_of(weight, bias, piece))  # [R, K, B]
                for c in counts:
                    u = c[:, None] * u
                yield against(u, piece), u.sum(2)

        slope, level = of_all(self.xp, *total(self.xp, sums()))
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
        classes = range(self.shape[2])
        block = self._block(lambda mean: sum(self.family.weight(mean, k, k) for k in classes) / len(classes))
        diagonal = np.einsum("rdd->rd", block)
        diagonal[:, : self.shape[1]] += self.decay.reshape(self.shape).mean(2)
        eps = self.xp.finfo(self.x.dtype).eps
        diagonal += np.where(diagonal == 0, 1, eps * diagonal)  # for a constant feature, and one that is there twice
        unit = 1 / np.sqrt(np.abs(diagonal))
        unit = unit[:, :, None] * unit[:, None]
        inverse: np.ndarray = unit * np.linalg.inv(unit * block)
        return inverse

    def examples(self, some: Any = slice(None)) -> Iterator[tuple[Array, ...]]:
        """Some at a time, as some replicas have them: x, the means, and what each counts."""
        replicas, _, classes = self.shape
        several, kept = classes * (replicas if isinstance(some, slice) else len(some)), len(self.means)
        for piece, *known in pieces(several, self.x, *self.means, *self.counts):
            mean = known[0][some] if kept else self._means(piece, some)
            yield piece, mean, *(for_each(self.xp, c, replicas)[some] for c in known[kept:])

    def _means(self, x: Array, some: Any = slice(None)) -> Array:
        """Of examples [1, B, D], as some replicas have them, [R, K, B]."""
        z = logits_of(self.weight[some], self.bias[some], x)
        return self.family.parts(self.xp, z, 0 * z[:, 0])[1]

    @functools.cached_property
    def lenders(self) -> tuple[Any, Any]:
        """The replicas whose curvature of the likelihood is worked out, and which of these each replica has: of many on
        the same examples, one that curves alike on these lends it to others. A step is then not quite Newton's, and
        the next one makes up for that."""
        replicas, features, classes = self.shape
        examples, lent = self.x.shape[1], list[int]()
        if len(self.x) == replicas or replicas * examples * features**2 < LENT or examples < MANY * features:
            return slice(None), slice(None)
        mean = self._means(self.x[:, :: max(1, examples // SEEN)])
        curved = np.concatenate([self.family.weight(mean, k, k) for k in range(classes)], 1)
        left, whose = np.arange(replicas), np.zeros(replicas, int)
        while len(left):
            one = curved[left[0]]
            alike = ~(np.abs(curved[left] - one).sum(1) > ALIKE * one.sum())
            whose[left[alike]] = len(lent)
            lent.append(int(left[0]))
            left = left[~alike]
        return lent, whose

    def _block(self, curved: Callable[[Array], Array]) -> np.ndarray:
        """scale Σ c weight x xᵀ [R, D, D] over all examples, in double precision, with the intercept as a last feature.

        curved: from the means [R, K, B] of examples to their weights [R, B].
        """
        lent, whose = self.lenders

        def products() -> Iterator[tuple[Array]]:
            for piece, mean, *counts in self.examples(lent):
                weight = curved(mean)
                for c in counts:
                    weight = c * weight
                ones = self.xp.ones((*piece.shape[:2], int(self.intercept)), dtype=self.wide)
                x = self.xp.concatenate([self.xp.asarray(piece, dtype=self.wide), ones], 2)
                group = max(1, 8 * PIECE // (x.shape[1] * x.shape[2])) if len(x) < len(weight) else len(weight)
                parts = [weight[first : first + group] for first in range(0, len(weight), group)]
                yield (together(self.xp, [x.mT @ (x * part[:, :, None]) for part in parts], 0),)

        found = self.scale * np.asarray(of_all(self.xp, *total(self.xp, products()))[0], np.float64)
        each: np.ndarray = found[whose]
        return each

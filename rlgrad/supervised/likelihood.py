"""The likelihood of a linear model in closed form: its value, gradient and curvature, without autograd's graph.

    log L = Σ c log p(y | x),    ∂ log L / ∂z_k = c ([y = k] − p_k),    where z = xᵀw + b are the scores

(Hastie, Tibshirani & Friedman 2009, equations 4.21 and 4.25; two classes have one score, that of class 1; c is the
weight of an example, which differs between replicas if they are folds or resamples; other families have their own mean
instead of p). Examples are processed some thousands at a time, so that they are still in the cache when the gradient
reads them for the second time; sums over all examples are in double precision. Scores are [R, K, B], and weights are
multiplied as [R, K, D]: in this order a matrix product with few classes is several times as fast.

Each formula is written once, for torch tensors and numpy arrays. On the CPU numpy's are used: its calls take less time,
which matters with few examples, and its products with few columns are faster.
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

PIECE = 1 << 19  # examples times features at a time: two megabytes, in single precision
NUMPY = "cpu"  # the device on which numpy computes
WIDE = 1e-13  # rounding error of a zero in a curvature in double precision, relative to its diagonal
LARGER = 64  # times as many on a GPU, which has no such cache, and a cost for each call
SCORES = 1 << 18  # scores at a time
KEPT = 1 << 24  # up to this many scores are kept for metrics and curvature; more are computed again
LENT = 1e10  # if all replicas' curvatures take more products than this, some replicas use those of others
MANY = 100  # examples per feature, from which the choice of rows in a fold or resample hardly matters
SEEN = 512  # examples used to compare curvatures
ALIKE = 0.15  # if two curvatures differ by no more than this part, one serves for both
FEW_WEIGHTS = 64  # up to this many weights of several classes the curvature is computed as a matrix

Array = Any  # torch's or numpy's


class PenalisedLikelihood(NamedTuple):
    """A penalised likelihood at some weights, with its gradient."""

    value: Tensor  # [R]
    weight: Tensor  # [R, D, K] the gradient by the weights
    bias: Tensor  # [R, 1, K] the gradient by the intercepts
    scores: Tensor | None  # [R, K, B]; None: too many to keep
    means: Tensor | None  # [R, K, B], for classes their probabilities; None: too many to keep


Decay = float | np.ndarray  # one for all weights; or [R, 1, 1], one per replica; or [R, D, 1], also per feature


@np.errstate(all="ignore")  # like torch: a diverged replica has inf or nan
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
    """Compute scale log L − decay/2 ||w||², with its gradient.

    weight [R, D, K], bias [R, 1, K], x [R, B, D], y [R, B]; K = 1 for two classes.
    sample_weight: [R, B] of the examples, or [M, B], where row m is for replicas m, m + M, ...; None: 1 for all.
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
    """The weights of the examples as a tuple: empty if there are none."""
    return () if sample_weight is None else (sample_weight,)


def native(x: Tensor, *others: Tensor) -> tuple[Any, ...]:
    """The module numpy or torch, whichever computes on the device of these examples [R, B, D], and all arguments as its
    arrays. Data that all replicas share becomes [1, B, D], so that it is read only once."""
    x = x[:1] if x.stride(0) == 0 else x
    if x.device.type != NUMPY:
        return torch, x, *(other.detach() for other in others)
    return np, x.numpy(), *(other.detach().numpy() for other in others)


def for_each(xp: Any, counts: Array, replicas: int) -> Array:
    """Repeat the weights [M, B] of examples for all replicas: [R, B], or [1, B] as it is."""
    return counts if len(counts) in (1, replicas) else xp.tile(counts, (replicas // len(counts), 1))


def pieces(several: int, x: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """Yield the examples x [R, B, D] in pieces, and the same pieces of `others` [..., B]. several: scores of each."""
    more = 1 if isinstance(x, np.ndarray) or x.device.type == "cpu" else LARGER
    count = max(1, more * min(PIECE // x.shape[2], SCORES // several))
    for first in range(0, max(1, x.shape[1]), count):
        some = slice(first, first + count)
        yield x[:, some], *(other[..., some] for other in others)


def total(xp: Any, parts: Iterator[Sequence[Array]]) -> Sequence[Array]:
    """Add up, in double precision, tuples of arrays that all have the same shapes."""
    found = next(parts)
    for number, more in enumerate(parts):
        known = found if number else [xp.asarray(each, dtype=xp.float64) for each in found]
        found = [old + new for old, new in zip(known, more, strict=True)]
    return found


def of_all(xp: Any, *sums: Array) -> Sequence[Array]:
    """Add up, over all ranks, the sums over each rank's examples."""
    if ranks.here.size == 1:
        return sums
    return [xp.asarray(each) for each in distributed.summed(*(torch.as_tensor(each) for each in sums))]


def together(xp: Any, parts: Sequence[Array], axis: int = 2) -> Array:
    """Concatenate arrays of some examples each, [R, K, some], to [R, K, B]. axis: along which they are concatenated."""
    return parts[0] if len(parts) == 1 else xp.concatenate(parts, axis)


def tensor(array: Array, dtype: torch.dtype) -> Tensor:
    """The array as a tensor of that precision, contiguous, because some optimizers need contiguous gradients."""
    found = torch.from_numpy(array) if isinstance(array, np.ndarray) else array
    return found.to(dtype).contiguous()


def array(found: Array) -> np.ndarray:
    """Return the array as numpy's."""
    return found.numpy(force=True) if isinstance(found, Tensor) else found


def logits_of(weight: Array, bias: Array | None, x: Array) -> Array:
    """xᵀw + b [R, K, B]; x is [R, B, D], or [1, B, D] if all replicas share it."""
    w = weight.mT
    shared = len(x) < len(w)  # one product serves all replicas
    scores = (w.reshape(1, -1, w.shape[2]) @ x.mT).reshape(*w.shape[:2], -1) if shared else w @ x.mT
    return scores if bias is None else scores + bias.mT


def against(scores: Array, x: Array) -> Array:
    """Σ over the examples of scores [R, K, B] times x [R, B, D] or [1, B, D]: [R, K, D]."""
    if len(x) < len(scores):
        return (scores.reshape(1, -1, scores.shape[2]) @ x).reshape(*scores.shape[:2], -1)
    return scores @ x


def squares(xp: Any, x: Array, weight: Array, kind: Any, intercept: bool) -> Array:
    """Σ over the examples of weight [R, B] times x xᵀ, for x [R, B, D] or [1, B, D]: [R, P, P]. kind: the precision.
    intercept: whether x has one more feature, which is always 1."""
    root = xp.sqrt(xp.abs(xp.asarray(weight, dtype=kind)))[:, :, None]
    features = x.shape[2]
    half = xp.empty((*weight.shape, features + intercept), dtype=kind, device=x.device)
    xp.multiply(x, root, out=half[:, :, :features])
    half[:, :, features:] = root
    if (weight < 0).any():
        return half.mT @ (half * xp.sign(weight)[:, :, None])
    return half.mT @ half  # numpy computes only half of such a product, the rest by symmetry


def scored(weight: Tensor, bias: Tensor, x: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the scores [R, K, some] of the examples in pieces, with the same pieces of `others`."""
    for piece, *known in pieces(weight[:, 0].numel(), x[:1] if x.stride(0) == 0 else x, *others):
        yield logits_of(weight, bias, piece), *known


class Information(Curvature):
    """The curvature of sign (scale log L − decay/2 ||w||²), where scale and decay are positive.

    The curvature of −log L is the Fisher information Σ c x xᵀ ⊗ V, where V is the variance of the label at x: for
    classes diag p − p pᵀ. P counts the weights [D, K] in order and then the intercepts [K], if there are any, each of
    which is the weight of a constant feature 1.
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
        """x [R, B, D]. at: weights [R, D, K] and intercepts [R, 1, K]. means: [R, K, B] at these, if `penalised` has
        kept them. sample_weight: as in `penalised`."""
        self.shape = tuple(at[0].shape)
        self.family, self.sign, self.scale, self.intercept = family, sign, scale, intercept
        self.by_products = self.shape[2] > 1 and self.shape[1] * self.shape[2] > FEW_WEIGHTS
        self.decay = np.broadcast_to(decay, self.shape).reshape(self.shape[0], -1)  # [R, D K]
        self.xp, self.x, self.weight, self.bias, *known = native(x, *at, *given(means), *given(sample_weight))
        self.means, self.counts = known[: means is not None], known[means is not None :]
        self.wide = self.x.dtype

    def widened(self) -> "Information":
        """Use double precision for the matrix: if features have different scales, single precision loses the small ones
        next to the large ones."""
        self.wide, self.eps = self.xp.float64, WIDE
        return self

    @np.errstate(all="ignore")
    def matrix(self) -> np.ndarray:
        """The second derivatives [R, P, P]."""
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
        """The product [R, P] of the matrix with v [R, P]."""
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
        slope = np.asarray(array(slope.mT), np.float64).reshape(replicas, -1)
        level = np.asarray(array(level), np.float64)[:, : classes * self.intercept]
        result: np.ndarray = self.scale * np.concatenate([slope, level], 1)
        result[:, : features * classes] += self.decay * v[:, : features * classes]
        return self.sign * result

    def undo(self, v: np.ndarray) -> np.ndarray:
        """About |H|⁻¹ v [R, P]: as if every class had the mean of the classes' blocks, and no others. For one score it
        is exact."""
        return np.asarray(self._inverse @ v.reshape(self.shape[0], -1, self.shape[2])).reshape(v.shape)

    def felt(self, v: np.ndarray) -> np.ndarray:
        """v without the part common to all classes, which changes no probability: flat, unless there is a penalty."""
        if self.shape[2] == 1:
            return v
        common = v.reshape(self.shape[0], -1, self.shape[2]).mean(2).repeat(self.shape[2], 1)
        free = np.ones(v.shape, bool)
        free[:, : self.decay.shape[1]] = self.decay == 0
        free &= self.kink is None or self.kink == 0
        return v - np.where(free, common, 0)

    @functools.cached_property
    def _inverse(self) -> np.ndarray:
        """The inverse [R, D, D] of the mean block over classes."""
        classes = range(self.shape[2])
        block = self._block(lambda mean: sum(self.family.weight(mean, k, k) for k in classes) / len(classes))
        diagonal = np.einsum("rdd->rd", block)
        diagonal[:, : self.shape[1]] += self.decay.reshape(self.shape).mean(2)
        eps = self.xp.finfo(self.x.dtype).eps
        diagonal += np.where(diagonal == 0, 1, eps * diagonal)  # for constant and for duplicate features
        unit = 1 / np.sqrt(np.abs(diagonal))
        unit = unit[:, :, None] * unit[:, None]
        return np.asarray(unit * np.linalg.inv(unit * block))

    def examples(self, some: Any = slice(None)) -> Iterator[tuple[Array, ...]]:
        """Yield the examples in pieces, for some replicas: x, the means, and the weights of the examples."""
        replicas, _, classes = self.shape
        several, kept = classes * (replicas if isinstance(some, slice) else len(some)), len(self.means)
        for piece, *known in pieces(several, self.x, *self.means, *self.counts):
            mean = known[0][some] if kept else self._means(piece, some)
            yield piece, mean, *(for_each(self.xp, c, replicas)[some] for c in known[kept:])

    def _means(self, x: Array, some: Any = slice(None)) -> Array:
        """The means [R, K, B] of examples x [1, B, D], for some replicas."""
        z = logits_of(self.weight[some], self.bias[some], x)
        return self.family.parts(self.xp, z, 0 * z[:, 0])[1]

    @functools.cached_property
    def lenders(self) -> tuple[Any, Any]:
        """The replicas whose likelihood curvature is computed, and for each replica which of these it uses: if many
        replicas have the same examples, those with a similar curvature share one. A step is then only almost Newton's,
        which the next step corrects."""
        replicas, features, classes = self.shape
        examples, lent = self.x.shape[1], list[int]()
        if len(self.x) == replicas or replicas * examples * features**2 < LENT or examples < MANY * features:
            return slice(None), slice(None)
        mean = self._means(self.x[:, :: max(1, examples // SEEN)])
        curved = np.concatenate([array(self.family.weight(mean, k, k)) for k in range(classes)], 1)
        left, whose = np.arange(replicas), np.zeros(replicas, int)
        while len(left):
            one = curved[left[0]]
            alike = ~(np.abs(curved[left] - one).sum(1) > ALIKE * one.sum())
            whose[left[alike]] = len(lent)
            lent.append(int(left[0]))
            left = left[~alike]
        return lent, whose

    def _block(self, curved: Callable[[Array], Array]) -> np.ndarray:
        """scale Σ c weight x xᵀ [R, D, D] over all examples, in double precision; the last feature is the intercept.

        curved: function from the means [R, K, B] of examples to their weights [R, B].
        """
        lent, whose = self.lenders

        def products() -> Iterator[tuple[Array]]:
            for piece, mean, *counts in self.examples(lent):
                weight = curved(mean)
                for c in counts:
                    weight = c * weight
                group = max(1, 8 * PIECE // (piece.shape[1] * piece.shape[2])) if len(piece) == 1 else len(weight)
                parts = [weight[first : first + group] for first in range(0, len(weight), group)]
                found = [squares(self.xp, piece, part, self.wide, self.intercept) for part in parts]
                yield (together(self.xp, found, 0),)

        (whole,) = of_all(self.xp, *total(self.xp, products()))
        return np.asarray((self.scale * np.asarray(array(whole), np.float64))[whose])

"""The likelihood of a linear classifier in closed form: its value, gradient and curvature, without autograd's graph.

    log L = Σ log p(y | x),    ∂ log L / ∂z_k = [y = k] − p_k,    where z = xᵀw + b are the scores of the classes

(Hastie, Tibshirani & Friedman 2009, equations 4.21 and 4.25; two classes have one score, that of class 1). Examples
are worked on some thousands at a time, so that they are still in the cache when the gradient reads them for the second
time; sums over all examples are taken in double precision. Scores are [R, K, B], and weights meet them as [R, K, D]:
this way round a matrix product with few classes is several times as fast.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

PIECE = 1 << 19  # numbers of the examples' features at a time: two megabytes, in single precision


class Found(NamedTuple):
    """What is known of an objective at some weights."""

    value: Tensor  # [R]
    weight: Tensor  # [R, D, K] its gradient there
    bias: Tensor  # [R, 1, K]
    scores: Tensor  # [R, K, B]


def penalised(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, scale: float, decay: float) -> Found:
    """scale log L − decay/2 ||w||².

    weight [R, D, K], bias [R, 1, K], x [R, B, D], y [R, B]; K = 1 where there are two classes.
    """
    each = bernoulli if weight.shape[2] == 1 else categorical
    factor = x.new_full((), scale)  # multiplying by a tensor takes a third of the time that a number takes
    found = []
    for piece, labels in pieces(x, y):
        scores = score(weight, bias, piece)
        log_likelihood, residual = each(scores, labels)
        residual *= factor
        found.append((scores, log_likelihood.sum(1), against(residual, piece), residual.sum(2, keepdim=True)))
    every, *sums = zip(*found, strict=True)
    value, slope, level = map(total, sums)
    value, slope = value * factor, slope.mT.contiguous()
    if decay:
        value = value - decay / 2 * weight.square().sum((1, 2))
        slope = slope - decay * weight
    return Found(value, slope, level.mT.contiguous(), every[0] if len(every) == 1 else torch.cat(every, 2))


def pieces(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The examples some at a time. Data that all replicas share is [1, B, D] here: it need be read only once."""
    x = x[:1] if x.stride(0) == 0 else x
    count = max(1, PIECE // x.shape[2])
    if x.shape[1] <= count:
        yield x, y
    else:
        yield from zip(torch.split(x, count, 1), torch.split(y, count, 1), strict=True)


def total(parts: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    """The sum of tensors of one shape, taken in double precision; dtype: of the result, if it is to be another."""
    whole = parts[0] if len(parts) == 1 else torch.stack(list(parts)).sum(0, dtype=torch.float64)
    return whole.to(dtype or parts[0].dtype)


def score(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """xᵀw + b [R, K, B]; x is [R, B, D], or [1, B, D] if it is everybody's."""
    w, b = weight.mT, None if bias is None else bias.mT
    if shared := x.shape[0] < w.shape[0]:  # one product serves all replicas
        w, b = w.reshape(1, -1, w.shape[2]), None if b is None else b.reshape(1, -1, 1)
    scores = torch.bmm(w, x.mT) if b is None else torch.baddbmm(b, w, x.mT)
    return scores.reshape(*weight.mT.shape[:2], -1) if shared else scores


def against(scores: Tensor, x: Tensor) -> Tensor:
    """Σ over the examples of scores [R, K, B] times x [R, B, D] or [1, B, D]: [R, K, D]."""
    if x.shape[0] < scores.shape[0]:
        return torch.bmm(scores.reshape(1, -1, scores.shape[2]), x).reshape(*scores.shape[:2], -1)
    return torch.bmm(scores, x)


def bernoulli(scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """log p(y) [R, B] for labels 0 and 1, and its derivative y − p [R, 1, B] by the score [R, 1, B] of class 1."""
    z = scores.squeeze(1)
    return y * z - functional.softplus(z, threshold=40.0), (y - z.sigmoid()).unsqueeze(1)


def categorical(scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """log p(y) [R, B] for labels 0 … K-1, and its derivatives [y = k] − p_k [R, K, B] by the scores [R, K, B]."""
    log_p = scores.log_softmax(1)
    labels = y.unsqueeze(1)
    is_label = torch.zeros_like(scores).scatter_(1, labels, 1.0)
    return log_p.gather(1, labels).squeeze(1), is_label - log_p.exp()


class Information:
    """The curvature of sign (scale log L − decay/2 ||w||²), where scale and decay are positive.

    That of −log L is the Fisher information Σ x xᵀ ⊗ (diag p − p pᵀ), whatever the labels are. P counts the weights
    [D, K] in their order and then, if there are any, the intercepts [K], each the weight of a feature that is 1.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        x: Tensor,
        sign: int,
        scale: float,
        decay: float,
        intercept: bool = True,
    ):
        self.shape, self.sign, self.scale, self.decay, self.intercept = weight.shape, sign, scale, decay, intercept
        self.parts = []  # the examples [R, B, D], some at a time, and their probabilities [R, K, B]
        for piece, _ in pieces(x, x[:, :, 0]):
            scores = score(weight, bias, piece)
            self.parts.append((piece, scores.sigmoid() if scores.shape[1] == 1 else scores.softmax(1)))

    def matrix(self) -> Tensor:
        """[R, P, P], in double precision."""
        (replicas, features, classes), size = self.shape, self.shape[1] + self.intercept
        each = range(classes)
        blocks = {
            (k, m): self._block([p[:, k] * (float(k == m) - p[:, m]) for _, p in self.parts])
            for k in each
            for m in each[: k + 1]
        }
        rows = [torch.stack([blocks[max(k, m), min(k, m)] for m in each], 3) for k in each]
        result = torch.stack(rows, 2).reshape(replicas, size * classes, size * classes)
        result.diagonal(dim1=1, dim2=2)[:, : features * classes].add_(self.decay)
        return self.sign * result

    def times(self, v: Tensor) -> Tensor:
        """Its product with v [R, P]."""
        replicas, features, classes = self.shape
        weight = v[:, : features * classes].reshape(self.shape)
        bias = v[:, features * classes :].reshape(replicas, 1, -1) if self.intercept else None
        slopes, levels = [], []
        for piece, p in self.parts:
            u = p * score(weight, bias, piece)  # [R, K, B]
            u = u - p * u.sum(1, keepdim=True)  # where there is one score, too
            slopes.append(against(u, piece))
            levels.append(u.sum(2))
        result = (self.scale * total(slopes).mT + self.decay * weight).flatten(1)
        result = torch.cat([result, self.scale * total(levels)], 1) if self.intercept else result
        return self.sign * result

    def undo(self, v: Tensor) -> Tensor:
        """About the inverse of its absolute value, times v [R, P]: as if every class had the mean of their blocks. Of
        two classes it is the inverse."""
        v = v.double().reshape(self.shape[0], -1, self.shape[2])
        return torch.cholesky_solve(v, self._factor).flatten(1)

    @functools.cached_property
    def _factor(self) -> Tensor:
        """The Cholesky factor [R, D, D] of the mean block over classes."""
        block = self._block([(p - p.square()).mean(1) for _, p in self.parts])
        diagonal = block.diagonal(dim1=1, dim2=2)
        diagonal[:, : self.shape[1]] += self.decay
        eps = torch.finfo(self.parts[0][0].dtype).eps
        diagonal += eps * diagonal.amax(1, keepdim=True)  # so that a constant feature does no harm
        factor: Tensor = torch.linalg.cholesky_ex(block).L
        return factor

    def _block(self, weights: Sequence[Tensor]) -> Tensor:
        """scale Σ weight x xᵀ [R, D, D] over all examples, in double precision, with the intercept as a last feature.

        weights: of the examples of each part, [R, B].
        """
        products, slopes, levels = [], [], []
        for (piece, _), weight in zip(self.parts, weights, strict=True):
            products.append(torch.matmul(piece.mT, piece * weight.unsqueeze(2)))
            if self.intercept:
                slopes.append(against(weight.unsqueeze(1), piece))
                levels.append(weight.sum(1, keepdim=True))
        block = total(products, torch.float64)
        if self.intercept:
            slope = total(slopes, torch.float64)  # [R, 1, D]
            beside = torch.cat([slope.mT, total(levels, torch.float64).unsqueeze(2)], 1)  # [R, D + 1, 1]
            block = torch.cat([torch.cat([block, slope], 1), beside], 2)
        return self.scale * block

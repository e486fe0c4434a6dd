"""Statistics of coefficients by the likelihood: standard errors, z, p and intervals, in the units of the file; and
which columns depend on others.

Everything is computed in double precision, in one or two passes through the examples.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlgrad.supervised.families import Family
from rlgrad.supervised.preprocessing import Preprocessing, measured

PIECE = 1 << 20  # examples times features at a time
DEPENDENT = 1e-10  # if others leave no more than this part of a column's variance, they determine it


class Design:
    """The training examples as a linear model uses them: an intercept, if there is one, and features of mean 0 and
    deviation 1, without the columns that others determine."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        weight: Tensor | None,
        names: Sequence[str],
        intercept: bool,
        class_weight: Tensor | None = None,
    ):
        """x [N, D], y [N]. weight: [N] of the examples. names: [D] of the features. class_weight: [N] the factor in
        `weight` that is the weight of the class; the rest is how many times an example counts."""
        self.x, self.y, self.intercept = x.cpu(), y.numpy(force=True), intercept
        ones = torch.ones(len(y))
        self.weight = (ones if weight is None else weight).double().numpy(force=True)
        self.class_weight = (ones if class_weight is None else class_weight).double().numpy(force=True)
        self.rows = max(1, PIECE // max(1, x.shape[1]))  # of a piece
        known = measured(piece.double().numpy() for piece in torch.split(self.x, self.rows))
        self.shift = known.mean * intercept
        self.unit = np.sqrt(known.variance + (known.mean - self.shift) ** 2)
        self.unit[known.low == known.high] = 1.0
        self.names = named(names, intercept)
        gram = sum(z.T @ (w[:, None] * z) for z, _, w, _ in self.pieces())
        self.kept, self.determined = independent(np.asarray(gram))

    def pieces(self) -> Any:
        """Yield the examples in pieces: columns [n, P], labels, weights and weights of the class [n]."""
        for first in range(0, len(self.x), self.rows):
            some = slice(first, first + self.rows)
            z = (self.x[some].double().numpy() - self.shift) / self.unit
            z = np.column_stack([*[np.ones(len(z))] * self.intercept, z])
            yield z, self.y[some], self.weight[some], self.class_weight[some]

    def has_constant(self) -> bool:
        """Whether the model can give all examples the same score: by its intercept, or by columns that make one."""
        if self.intercept:
            return True
        wider = ((np.column_stack([z, np.ones(len(z))]), w[:, None]) for z, _, w, _ in self.pieces())
        return len(self.names) in independent(np.asarray(sum(z.T @ (w * z) for z, w in wider)))[1]

    def inner(self, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """The coefficients [P, K] of these columns, from those of the model's features, [D, K] and [K]. A column that
        others determine gets 0; its coefficient is moved to the others."""
        found = np.vstack([*[bias + self.shift @ weight] * self.intercept, weight * self.unit[:, None]])
        for column, parts in self.determined.items():
            for other, part in parts.items():
                found[other] += part * found[column]
            found[column] = 0
        return found

    def outer(self, done: Preprocessing) -> np.ndarray:
        """The matrix [P, P] that converts coefficients of these columns to the units of the file."""
        mean: Any = np.asarray(done.mean) if len(done.mean) else 0.0
        deviation: Any = np.asarray(done.deviation) if len(done.deviation) else 1.0
        unit = self.unit * deviation
        found = np.diag([*[1.0] * self.intercept, *1 / unit])
        if self.intercept:
            found[0, 1:] -= (mean + deviation * self.shift) / unit
        return found

    def dependences(self) -> list[str]:
        """Which columns others determine, in words."""
        found = []
        for column, parts in self.determined.items():
            others = [self.names[other] for other in parts if not (self.intercept and other == 0)]
            said = f"is determined by {listed(others)}" if others else "is constant"
            found.append(f"{self.names[column]} {said}")
        return found


def independent(gram: np.ndarray) -> tuple[list[int], dict[int, dict[int, float]]]:
    """The columns that earlier columns do not determine; and for each other column, its coefficients on those. gram:
    [P, P] the inner products of columns. This is Cholesky's factorisation, row by row."""
    from scipy.linalg import solve_triangular

    kept: list[int] = []
    factor, determined = np.zeros(gram.shape), dict[int, dict[int, float]]()
    for column in range(len(gram)):
        n = len(kept)
        row = solve_triangular(factor[:n, :n], gram[kept, column], lower=True) if n else np.zeros(0)
        own = gram[column, column] - row @ row
        if own <= DEPENDENT * gram[column, column] or own <= 0:
            parts = solve_triangular(factor[:n, :n], row, lower=True, trans="T") if n else row
            determined[column] = {k: float(p) for k, p in zip(kept, parts, strict=True) if abs(p) > DEPENDENT**0.5}
        else:
            factor[n, :n], factor[n, n] = row, math.sqrt(own)
            kept.append(column)
    return kept, determined


class Moments(NamedTuple):
    """The log-likelihood and its derivatives at some coefficients: of the kept columns P, for K' scores each."""

    log_likelihood: float
    slope: np.ndarray  # [P K'] the gradient
    information: np.ndarray  # [P K', P K'] minus its second derivatives
    squares: np.ndarray  # [P K', P K'] Σ of the outer products of each example's gradient, as often as it counts
    residual: float  # Σ squared residuals

    @property
    def step(self) -> np.ndarray:
        """Newton's step [P K'], towards a zero slope. Raises LinAlgError."""
        return np.linalg.solve(self.information, self.slope)


@np.errstate(all="ignore")  # far from an optimum a mean may be infinite
def moments(family: Family, design: Design, coefficients: np.ndarray) -> Moments:
    """The moments at coefficients [P, K]. For several classes the first is the reference class: K' = K − 1."""
    first = int(coefficients.shape[1] > 1)
    used, free = design.kept, coefficients.shape[1] - first
    size = len(used) * free
    value, slope, residual = 0.0, np.zeros(size), 0.0
    information, squares = np.zeros((len(used), free, len(used), free)), np.zeros((size, size))
    for z, y, w, of_class in design.pieces():
        z = z[:, used]
        each, mean, rest = (part[0] for part in family.parts(np, (z @ coefficients[used]).T[None], y[None]))
        score = (z[:, :, None] * rest[first:].T[:, None]).reshape(len(z), size)
        value, residual, slope = value + w @ each, residual + w @ np.square(rest[0]), slope + w @ score
        squares += score.T @ ((w * of_class)[:, None] * score)  # w is a count times the weight of the class
        for k in range(free):
            for m in range(free):
                curved = family.weight(mean[None], k + first, m + first)[0]
                information[:, k, :, m] += z.T @ ((w * curved)[:, None] * z)
    return Moments(float(value), slope, information.reshape(size, size), squares, float(residual))


class Row(NamedTuple):
    """A coefficient, in the units of the file. None: does not exist."""

    name: str
    label: str | None  # the class, if there are several scores
    estimate: float | None  # None: other columns determine this one
    error: float | None = None
    z: float | None = None  # or Student's t
    p: float | None = None
    low: float | None = None  # the 95% interval
    high: float | None = None
    ratio: float | None = None  # of odds or rates, for an increase of the column by 1


class Fitted(NamedTuple):
    """A table of coefficients, and facts about the whole model."""

    rows: list[Row]
    statistic: str  # z or t
    facts: dict[str, float | str]


def estimates(family: Family, weight: np.ndarray, bias: np.ndarray | None, done: Preprocessing, labels: Any) -> Fitted:
    """The coefficients without standard errors. weight [D, K], bias [K]: of features after that preprocessing."""
    found = weight / (np.asarray(done.deviation)[:, None] if len(done.deviation) else 1.0)
    if bias is not None:
        found = np.vstack([bias - (np.asarray(done.mean) @ found if len(done.mean) else 0.0), found])
    names = named(done.columns, bias is not None)
    first = int(found.shape[1] > 1)
    found = found - first * found[:, :1]
    rows = [
        row(name, str(labels[k]) if first else None, float(found[place, k]), None, math.inf, family.ratio is not None)
        for k in range(first, found.shape[1])
        for place, name in enumerate(names)
    ]
    return Fitted(rows, "z", {})


def fitted(
    family: Family, design: Design, coefficients: np.ndarray, done: Preprocessing, labels: Sequence[Any], errors: str
) -> Fitted:
    """The coefficients with standard errors. coefficients: [P, K] of the design's columns, at the optimum up to
    rounding; a step in double precision adds the last digits. errors: fisher or sandwich. Raises LinAlgError if the
    likelihood has no curvature there."""
    first, used = int(coefficients.shape[1] > 1), design.kept
    coefficients = coefficients - first * coefficients[:, :1]
    free, to_file = coefficients.shape[1] - first, design.outer(done)
    step = moments(family, design, coefficients).step
    coefficients[used, first:] += step.reshape(len(used), free)
    found = moments(family, design, coefficients)
    covariance, statistic, degrees = np.linalg.inv(found.information), "z", math.inf
    if errors == "sandwich":
        covariance = covariance @ found.squares @ covariance
    elif family.dispersed:
        statistic, degrees = "t", float(design.weight.sum() - len(used))
        covariance = covariance * found.residual / degrees
    wide = np.zeros((len(design.names), free, len(design.names), free))
    wide[np.ix_(used, range(free), used, range(free))] = covariance.reshape(len(used), free, len(used), free)
    variance = np.einsum("ip,pkqk,iq->ik", to_file, wide, to_file)
    if not np.isfinite(variance).all():
        raise np.linalg.LinAlgError
    natural, rows = (to_file @ coefficients)[:, first:], []
    for k in range(free):
        label = str(labels[k + 1]) if first else None
        for place, name in enumerate(design.names):
            if place in design.determined:
                rows.append(Row(name, label, None))
            else:
                error = math.sqrt(variance[place, k])
                rows.append(row(name, label, float(natural[place, k]), error, degrees, family.ratio is not None))
    return Fitted(rows, statistic, summary_of(family, design, found, first + free))


def row(name: str, label: str | None, estimate: float, error: float | None, degrees: float, ratio: bool) -> Row:
    """A row of the table. degrees: of freedom of Student's t; infinite: the normal distribution."""
    times = overflow(estimate) if ratio else None
    if not error:
        return Row(name, label, estimate, ratio=times)
    z = estimate / error
    if math.isinf(degrees):
        p, margin = math.erfc(abs(z) / math.sqrt(2)), NormalDist().inv_cdf(0.975)
    else:
        from scipy.stats import t

        p, margin = 2 * float(t.sf(abs(z), degrees)), float(t.ppf(0.975, degrees))
    return Row(name, label, estimate, error, z, p, estimate - margin * error, estimate + margin * error, times)


def overflow(estimate: float) -> float | None:
    """eˣ, or None if it is too large or too small for a float."""
    return math.exp(estimate) if abs(estimate) < 700 else None


def summary_of(family: Family, design: Design, found: Moments, scores: int) -> dict[str, float | str]:
    """Log-likelihood, AIC, BIC and a pseudo-R² relative to the best constant. R² is relative to 0 if no coefficients
    make a constant, as in statsmodels. scores: K."""
    count, free = float(design.weight.sum()), len(found.slope)
    value = found.log_likelihood
    y, w = design.y.astype(float), design.weight
    if family.dispersed:  # with the deviation at its optimum
        total, squares = float(w @ np.square(y - w @ y / count)), float(w @ np.square(y))
        if not 0 < found.residual < np.inf or not total:  # the likelihood of an exact fit is infinite
            return {"examples": count}
        value, null = (count / 2 * (math.log(count / (2 * math.pi * rest)) - 1) for rest in (found.residual, total))
        fit = {"R²": 1 - found.residual / (total if design.has_constant() else squares)}
    else:
        level = family.constant(torch.from_numpy(y), scores, torch.from_numpy(w))
        z = np.broadcast_to(level.double().numpy()[None, :, None], (1, scores, len(y)))
        null = float(w @ family.parts(np, z, design.y[None])[0][0])
        fit = {"pseudo-R²": 1 - value / null}
    information = {"AIC": 2 * free - 2 * value, "BIC": math.log(count) * free - 2 * value}
    return {"examples": count, "log-likelihood": value, "log-likelihood of a constant": null, **fit, **information}


def named(columns: Sequence[str], intercept: bool) -> list[str]:
    """The names of the coefficients: of the intercept, if there is one, and of the columns."""
    own = (f"{name} (column)" if name == "intercept" else name for name in columns)
    return ["intercept", *own] if intercept else list(columns)


def listed(names: Sequence[str]) -> str:
    """Join names as 'a, b and c'; of many only the first few."""
    shown = list(names[:5]) + ([f"{len(names) - 5} more"] if len(names) > 5 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"

"""Statistics over R replicas: mean, interquartile mean, 95% interval, probability of improvement."""

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

COLUMNS = ("mean", "IQM", "95% interval", "lowest", "highest")  # of statistics in a table


def summarize(values: Sequence[float], without: Collection[int] = (), by_chance: bool = True) -> dict[str, Any]:
    """The mean over replicas, its 95% interval, the interquartile mean, and the values themselves.

    without: replicas that do not count; their values are shown as None.
    by_chance: whether replicas differ by chance alone. If they do not, as starting points, there is no interval.

    The interval is Student's, which docs/intervals.md tests; the interquartile mean is that of Agarwal et al. 2021
    (https://arxiv.org/abs/2108.13264). One value, or equal values, do not show the spread: then the interval is
    [None, None]. A number that is not finite becomes None, because JSON cannot hold it.
    """
    x = np.asarray([value for replica, value in enumerate(values) if replica not in without], dtype=float)
    mean, low, high = x.mean() if len(x) else math.nan, math.nan, math.nan
    iqm = mean
    if len(x) > 1 and np.isfinite(x).all() and np.ptp(x) > 0:
        cut = len(x) // 4
        iqm = np.sort(x)[cut : len(x) - cut].mean()
        if by_chance:
            margin = student(len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
            low, high = mean - margin, mean + margin
    return {
        "mean": finite(mean),
        "iqm": finite(iqm),
        "ci95": [finite(low), finite(high)],
        "per_replica": [None if replica in without else finite(value) for replica, value in enumerate(values)],
    }


def probability_of_improvement(x: Sequence[float], y: Sequence[float]) -> float:
    """How often a replica of x [M] is above one of y [N]; ties count as half. It is the Mann-Whitney statistic, divided
    by the number of pairs (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4.3)."""
    difference = np.subtract.outer(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    return float((np.sign(difference) + 1).mean() / 2)


@functools.cache
def student(degrees: int) -> float:
    """The half-width of Student's 95% interval in standard errors, with these degrees of freedom.

    It equals scipy's `t.ppf(0.975, degrees)` to 1e-7, without the time to import scipy (Abramowitz &
    Stegun 1964, 26.7.3, 26.7.4 and 26.7.5, https://personal.math.ubc.ca/~cbm/aands/page_948.htm).
    """
    if degrees >= 100:
        z = NormalDist().inv_cdf(0.975)
        terms = z**3 + z, 5 * z**5 + 16 * z**3 + 3 * z, 3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z
        pairs = enumerate(zip(terms, (4.0, 96.0, 384.0), strict=True), 1)
        return z + math.fsum(a / (b * degrees**k) for k, (a, b) in pairs)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if within(degrees, angle) < 0.95 else (low, angle)
    return math.sqrt(degrees) * math.tan(low)


def within(degrees: int, angle: float) -> float:
    """The probability that Student's t lies between -x and x, where x = sqrt(degrees) tan(angle)."""
    odd = degrees % 2
    cosine, term, series = math.cos(angle), 1.0, 0.0
    for k in range(degrees // 2):
        series += term
        term *= cosine**2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    series *= math.sin(angle)
    return (angle + series * cosine) * 2 / math.pi if odd else series


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def number(value: float | str | None) -> str:
    """The number as text, with four digits. None, for not finite, gives an empty text."""
    return f"{value:.4g}" if isinstance(value, float) else value or ""


def interval(statistics: Mapping[str, Any]) -> str:
    """The interval as text: '495.8 to 498.4'; empty if there is none."""
    low, high = statistics["ci95"]
    return "" if low is None else f"{number(low)} to {number(high)}"


def columns(found: Mapping[str, Any]) -> list[str]:
    """The cells of COLUMNS."""
    each = sorted(value for value in found["per_replica"] if value is not None) or [None]
    return [number(found["mean"]), number(found["iqm"]), interval(found), number(each[0]), number(each[-1])]

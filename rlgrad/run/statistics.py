"""What R replicas say together."""

import math
from collections.abc import Collection, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np


def summarize(values: Sequence[float], without: Collection[int] = ()) -> dict[str, Any]:
    """Mean, interquartile mean and 95% interval of the mean over replicas, and the values themselves.

    without: replicas that do not count; their values are shown as None.

    The interval is the BCa bootstrap's (Efron 1987), the interquartile mean that of Agarwal et al. 2021
    (https://arxiv.org/abs/2108.13264). One replica says nothing about the spread: its interval is [None, None].
    What is not finite becomes None, as JSON has no name for it.
    """
    x = np.asarray([value for replica, value in enumerate(values) if replica not in without], dtype=float)
    mean, iqm, low, high = x.mean(), x.mean(), math.nan, math.nan
    if len(x) > 1 and np.isfinite(x).all():
        low = high = mean
        if np.ptp(x) > 0:  # equal values have no spread to resample
            cut = len(x) // 4
            iqm = np.sort(x)[cut : len(x) - cut].mean()
            low, high = interval(x)
    return {
        "mean": finite(mean),
        "iqm": finite(iqm),
        "ci95": [finite(low), finite(high)],
        "per_replica": [None if replica in without else finite(value) for replica, value in enumerate(values)],
    }


def interval(x: np.ndarray, level: float = 0.95, resamples: int = 9999) -> tuple[float, float]:
    """The interval of the mean of x [N] by the bootstrap, bias-corrected and accelerated (BCa; Efron 1987, section 3).

    It is `scipy.stats.bootstrap`, to the same resamples, without the second or so that importing scipy.stats takes.
    """
    normal, mean = NormalDist(), x.mean()
    means = x[np.random.default_rng(0).integers(0, len(x), (resamples, len(x)))].mean(1)
    below = (np.mean(means < mean) + np.mean(means <= mean)) / 2
    bias = normal.inv_cdf(float(np.clip(below, 1 / (2 * resamples), 1 - 1 / (2 * resamples))))
    influence = x - mean  # of each value, by leaving it out, but for a factor
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + normal.inv_cdf(tail)
        ends.append(float(np.quantile(means, normal.cdf(float(bias + z / (1 - acceleration * z))))))
    return ends[0], ends[1]


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

"""What R replicas say together."""

import math
import warnings
from collections.abc import Collection, Sequence
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
            from scipy import stats  # most of a second, so only where it is needed

            iqm = stats.trim_mean(x, 0.25)
            with warnings.catch_warnings(action="ignore"):
                low, high = stats.bootstrap((x,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return {
        "mean": finite(mean),
        "iqm": finite(iqm),
        "ci95": [finite(low), finite(high)],
        "per_replica": [None if replica in without else finite(value) for replica, value in enumerate(values)],
    }


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

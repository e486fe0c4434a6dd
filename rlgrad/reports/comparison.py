"""How probable it is that one run is better than another, with its interval."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def probability_of_improvement(x: Sequence[float], y: Sequence[float]) -> float:
    """How often a replica of x [M] is above one of y [N]; ties count as half. It is the Mann-Whitney statistic, divided
    by the number of pairs (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4.3)."""
    difference = np.subtract.outer(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    return float((np.sign(difference) + 1).mean() / 2)


def interval_of_probability(probability: float, m: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of this probability from M and N replicas: Newcombe's method 5 (2006,
    https://doi.org/10.1002/sim.2324). It is Wilson's score interval for this statistic. So it has a width even if all
    of x is above all of y, where a bootstrap has none.
    """
    z, more = NormalDist().inv_cdf((1 + level) / 2), (m + n) / 2 - 1

    def deviation(p: float) -> float:
        return math.sqrt(p * (1 - p) * (1 + more * ((1 - p) / (2 - p) + p / (1 + p))) / (m * n))

    def end(outermost: float) -> float:
        """The value, between the estimate and `outermost`, from which the estimate is exactly z deviations away."""
        inside, outside = probability, outermost
        for _ in range(60):
            middle = (inside + outside) / 2
            if abs(probability - middle) <= z * deviation(middle):
                inside = middle
            else:
                outside = middle
        return inside

    return end(0.0), end(1.0)

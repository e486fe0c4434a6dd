"""How probable it is that one run is better than another."""

from collections.abc import Sequence

import numpy as np


def probability_of_improvement(x: Sequence[float], y: Sequence[float]) -> float:
    """How often a replica of x [M] is above one of y [N]; ties count as half. It is the Mann-Whitney statistic, divided
    by the number of pairs (Agarwal et al. 2021, https://arxiv.org/abs/2108.13264, section 4.3)."""
    difference = np.subtract.outer(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    return float((np.sign(difference) + 1).mean() / 2)

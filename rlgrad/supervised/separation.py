"""If columns separate classes, the likelihood has no maximum: it grows forever as the weights grow (Albert & Anderson
1984, https://doi.org/10.1093/biomet/71.1.1). For counts: if columns determine exactly which counts are 0."""

import numpy as np

from rlgrad.supervised.inference import Design, listed

LARGEST = 500_000  # numbers in the linear program that finds a separating plane; a larger one is not solved


def separated(family: str, design: Design, classes: int) -> str | None:
    """Which columns separate the labels of the rows with a weight above 0, in words; None if none do, or if the search
    would take too long."""
    pieces = ((z[w > 0], y[w > 0]) for z, y, w, _ in design.pieces())
    x, y = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    x, scores = x[:, design.kept], 1 if classes <= 2 else classes
    if x.size * scores**2 > LARGEST or family == "gaussian":
        return None
    names = [design.names[k] for k in design.kept]
    if scores == 1:
        side = np.where(y > 0, 1.0, -1.0)[:, None] * x
        apart, level = (side, None) if family == "logistic" else (side[y == 0], x[y > 0])
    else:  # scores of the true class minus those of each other class
        rows = [np.einsum("np,nk->npk", x, np.eye(classes)[y] - np.eye(classes)[k])[y != k] for k in range(classes)]
        apart, level = np.concatenate(rows).reshape(-1, x.shape[1] * classes), None
    free = np.repeat(np.array(names) == "intercept", scores) if design.intercept else None
    way = plane(apart, level, free)
    if way is None:
        return None
    size = np.abs(way.reshape(len(names), scores)).max(1)
    used = [name for name, part in zip(names, size, strict=True) if part > 1e-6 and name != "intercept"]
    used = used or ["the intercept"]
    what = "the classes" if family == "logistic" else "zeros from other counts"
    wholly = " wholly" if (apart @ way > 1e-9).all() and family == "logistic" else ""
    return f"{listed(used)} separate{'s' if len(used) == 1 else ''} {what}{wholly}"


def plane(apart: np.ndarray, level: np.ndarray | None, free: np.ndarray | None) -> np.ndarray | None:
    """The v [P] with the smallest Σ|v| such that apart v ≥ 0 with mean 1, and level v = 0; None if there is none.
    free: [P] which elements cost almost nothing."""
    from scipy.optimize import LinearConstraint, milp

    if not len(apart):
        return None
    size = apart.shape[1]
    cost = np.ones(size) if free is None else np.where(free, 1e-6, 1.0)
    ways = np.kron([[1.0, -1.0]], np.eye(size))  # v = v⁺ − v⁻
    within = [LinearConstraint(apart @ ways, 0), LinearConstraint(apart.mean(0) @ ways, 1, 1)]
    within += [] if level is None else [LinearConstraint(level @ ways, 0, 0)]
    found = milp(np.tile(cost, 2), constraints=within)
    return ways @ found.x if found.status == 0 else None

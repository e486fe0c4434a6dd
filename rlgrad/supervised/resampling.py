"""Replicas for statistics: folds, resamples, and paths of penalties. All replicas learn from the same examples, with
different weights of the examples.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator
from torch import Tensor

from rlgrad.errors import SettingError
from rlgrad.settings import Cell, Section
from rlgrad.streams import Purpose, stream
from rlgrad.supervised.data import Dataset, generator
from rlgrad.supervised.families import Family
from rlgrad.supervised.inference import Fitted, Row, estimates
from rlgrad.supervised.likelihood import penalised, pieces

CONSTANT = 1e-10  # a variance below this part of the feature's mean square, in a fold, is rounding error
PENALTIES = {"l1": 1.0, "l2": 1e3}  # times the largest slope: the first value of a path
END = 1e-3  # times the largest slope: the last value of a path


class Resampling(Section):
    """Replicas that each learn from a part of the examples, or from a resample, and are judged on the others."""

    folds: Annotated[int, Field(ge=2)] | None = None
    """number of folds of the rows. There is one replica for each: it learns from the other folds. The classes have the
    same proportions in every fold"""
    bootstrap: Annotated[int, Field(ge=2)] | None = None
    """number of resamples. There is one replica for each: its rows are drawn with replacement, as many as there are"""
    groups: StrictInt | str | None = None
    """the column whose equal values mark rows that belong together: they are in the same fold, or drawn together"""
    by: StrictInt | str | None = None
    """the column that gives the fold of each row"""

    @model_validator(mode="after")
    def one_kind(self) -> "Resampling":
        folds = self.folds is not None or self.by is not None
        if folds == (self.bootstrap is not None) or (self.groups is not None and self.by is not None):
            raise ValueError("give a number, folds, by or bootstrap; groups needs folds or bootstrap")
        return self

    def __int__(self) -> int:
        """The number of replicas for each value of a sweep; 1 if only the data determines it."""
        return self.folds or self.bootstrap or 1


class Path(BaseModel):
    """A number of values of a penalty instead of one, `{path: 100}`: they fall geometrically, from a value at which the
    weights are zero or almost zero (Friedman, Hastie & Tibshirani 2010, section 2.5,
    https://doi.org/10.18637/jss.v033.i01)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[int, Field(ge=2, le=10_000)]

    def values(self, name: str, slope: float) -> list[float]:
        """The values of the penalty `name`. slope: the largest slope, as `steepest` returns it. Raises SettingError."""
        if not 0 < slope < math.inf:
            message = "a path starts from the largest slope, which is 0 or infinite here: sweep values"
            raise SettingError((name,), message)
        return [float(f"{value:.6g}") for value in np.geomspace(PENALTIES[name] * slope, END * slope, self.path)]


def steepest(family: Family, dataset: Dataset, intercept: bool) -> float:
    """The largest slope of the mean log-likelihood if all weights are 0 and the intercept is at its optimum."""
    x, y, weight, classes = dataset.x, dataset.y, dataset.sample_weight, dataset.classes
    scores = 1 if classes == 2 else classes
    level = family.constant(y, classes, weight) if intercept else torch.zeros(scores)
    start, counted = x.new_zeros(1, x.shape[1], scores), None if weight is None else weight[None]
    found = penalised(family, start, level.to(x).reshape(1, 1, -1), x[None], y[None], 1 / len(y), 0.0, counted)
    return float(found.weight.abs().max())


def resampled(
    dataset: Dataset, how: Resampling, seeds: Sequence[int], split_seed: int, mean: bool, copies: int = 0
) -> Dataset:
    """The same examples, with weights that differ between replicas. seeds: [M] of the replicas of one value of a sweep.
    mean: whether the objective is a mean, which is then over the replica's own examples. copies: number of values of
    the sweep, if each replica prepares its own x by its own examples; 0: all have the same x. Raises SettingError."""
    rows, together = len(dataset.y), how.by if how.groups is None else how.groups
    if how.bootstrap:
        units = np.arange(rows) if dataset.groups is None else dataset.groups
        count = int(units.max()) + 1
        each = [stream(seed, Purpose.SPLIT).multinomial(count, [1 / count] * count) for seed in seeds]
        drawn = np.stack(each)[:, units]
    else:
        drawn = folds(dataset, how, split_seed) != np.arange(len(seeds))[:, None]
    times = torch.as_tensor(drawn).to(dataset.x.dtype)
    weight = times * (rows / times.sum(1, keepdim=True)) if mean else times
    weight = weight if dataset.sample_weight is None else weight * dataset.sample_weight
    fact = f"{len(seeds)} {'resamples' if how.bootstrap else 'folds'} of {rows} rows"
    facts = {**dataset.facts, "replicas": fact + (f", by {together}" if together is not None else "")}
    dataset = dataset._replace(sample_weight=weight, drawn=times, facts=facts)
    if not (copies and dataset.prepare):
        return dataset
    own, x, validation = zip(*map(dataset.prepare, drawn), strict=True)
    x, *held = (torch.stack(each).repeat(copies, 1, 1) for each in (x, validation))
    kept = dataset.validation and (held[0], dataset.validation[1])
    return dataset._replace(x=x, own=own * copies, validation=kept)


def folds(dataset: Dataset, how: Resampling, seed: int) -> np.ndarray:
    """The fold of each row [N]. Raises SettingError."""
    from sklearn import model_selection as sklearn  # importing takes more than a second

    groups, place = dataset.groups, ("replicas", "folds")
    if how.by is not None and groups is not None:
        if (count := int(groups.max()) + 1) != how.folds:
            raise SettingError(place, f"{how.by} has {count} different values, so there are {count} folds")
        return groups
    kinds = sklearn.KFold, sklearn.GroupKFold, sklearn.StratifiedKFold, sklearn.StratifiedGroupKFold
    kind = kinds[2 * (dataset.classes > 1) + (groups is not None)]
    splitter = kind(how.folds, shuffle=True, random_state=generator(seed))
    found: np.ndarray = np.zeros(len(dataset.y), int)
    try:
        with warnings.catch_warnings(action="ignore"):  # scikit-learn warns of classes with fewer rows than folds
            for number, (_, held) in enumerate(splitter.split(found, dataset.y.long().numpy(force=True), groups)):
                found[held] = number if len(held) else 1 / len(held)
    except (ValueError, ZeroDivisionError) as error:
        raise SettingError(place, f"these examples cannot be split like this: {error}") from error
    return found


def check_rows(dataset: Dataset, how: Resampling, family: Family, every: bool) -> None:
    """Raise SettingError if a replica cannot learn from its rows. every: whether it needs all classes: the intercept of
    a class without rows has no optimum, and weights cannot balance it."""
    weights, hint = dataset.sample_weight, "take other folds" if how.bootstrap is None else "take another seed"
    assert weights is not None
    for number, weight in enumerate(weights):
        y = dataset.y[weight > 0]
        missing = torch.bincount(y.long(), minlength=len(dataset.labels)) == 0 if dataset.labels and every else y[:0]
        if not len(y):
            why = "all have weight 0"
        elif missing.any():
            why = f"none has the label {dataset.labels[int(missing.int().argmax())]!r} and a weight above 0"
            hint += ", or leave out the rows with this label"
        else:
            why = family.refuses(y)
        if why:
            raise SettingError(("replicas",), f"of the rows that replica {number} learns from, {why}: {hint}")


def deviations(drawn: Tensor, x: Tensor) -> Tensor:
    """The standard deviation [M, D] of each feature over each replica's own examples, in the units of x [N, D]; 1 if it
    is constant there. drawn: [M, N] how often each replica has each example."""
    sums = squares = torch.zeros(())
    for known, times in pieces(len(drawn), x[None], drawn):
        z = known[0].double()
        sums, squares = sums + times.double() @ z, squares + times.double() @ z.square()
    rows = drawn.sum(1, dtype=torch.float64)[:, None]
    variance = squares / rows - (sums / rows).square()
    return torch.where(variance > CONSTANT * squares / rows, variance, 1.0).sqrt()


def chosen(cells: Sequence[Cell], values: np.ndarray, metric: str) -> tuple[str, dict[str, Any]]:
    """Which value of a sweep is the best on the folds; and by the one-standard-error rule, the strongest penalty whose
    mean is within one standard error of the best (Breiman et al. 1984; Hastie, Tibshirani & Friedman 2009, section
    7.10). values: [cells, folds] of the metric; less is better."""
    count = values.shape[1]
    means, errors = values.mean(1), values.std(1, ddof=1) / math.sqrt(count)
    best = int(np.argmin(np.where(np.isfinite(means), means, np.inf)))
    each = [{name: value for name, value in cell.named.items() if name in PENALTIES} for cell in cells]
    others = [cell.named.items() - own.items() for cell, own in zip(cells, each, strict=True)]

    def result(number: int) -> dict[str, Any]:
        return {"settings": cells[number].named, "mean": float(means[number]), "standard_error": float(errors[number])}

    said = f"{metric.replace('_', ' ')} over {count} folds is least with {cells[best].name}: {means[best]:.4g}"
    said += f", with a standard error of {errors[best]:.2g}"
    findings = {"metric": metric, "folds": count, "best": result(best)}
    good = [n for n, mean in enumerate(means) if mean <= means[best] + errors[best] and others[n] == others[best]]
    if each[best] and good:
        simple = max(good, key=lambda n: sum(each[n].values()))
        said += f"; the strongest penalty within one standard error of it is {cells[simple].name}: {means[simple]:.4g}"
        findings["one_standard_error"] = result(simple)
    return said, findings


def spread(
    family: Family, weight: np.ndarray, bias: np.ndarray, intercept: bool, done: Sequence[Any], labels: Sequence[Any]
) -> Fitted:
    """The coefficients over resamples: their means, their deviations (the standard errors), and the middle 95% of them
    (Efron & Tibshirani 1993, chapters 6 and 13). weight [R, D, K], bias [R, 1, K], done [R]: as in `estimates`."""
    parts = zip(weight, bias[:, 0] if intercept else [None] * len(weight), done, strict=True)
    every = [estimates(family, w, b, preprocessing, labels).rows for w, b, preprocessing in parts]
    found = np.array([[row.estimate for row in rows] for rows in every], float)
    numbers = [found.mean(0), found.std(0, ddof=1), *np.quantile(found, (0.025, 0.975), 0)]
    columns = zip(every[0], *(part.tolist() for part in numbers), strict=True)
    rows = [Row(row.name, row.label, mean, error, None, None, low, high) for row, mean, error, low, high in columns]
    return Fitted(rows, "z", {"estimates": f"means over {len(found)} resamples"})

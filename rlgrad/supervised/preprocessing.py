"""What is done to the examples of a table before anything is learned from them, and again to those of later."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from rlgrad.errors import SettingError
from rlgrad.supervised.columns import Column

Missing = Literal["error", "drop", "zero", "median_and_indicator"]
TOGETHER = 2**27  # values that a median is taken of at a time
Blocks = Callable[[], Iterator[np.ndarray]]  # the training part [n, D], as often as asked for


class Preprocessing(NamedTuple):
    """From features as they are in the source, x [N, D], to what a model learns from. All of it is JSON.

    Categories come as their numbers, NaN where one is unknown: that counts as missing. The first one has no feature of
    its own: it is what the others are compared with.
    """

    features: Sequence[str]  # [D] names
    missing_values: Missing
    median: Sequence[float] = ()  # [D] where missing values are replaced by it
    indicated: Sequence[bool] = ()  # [D] for which features a further one says where a value is missing
    mean: Sequence[float] = ()  # [D'] where features are standardised
    deviation: Sequence[float] = ()  # [D']
    categories: Mapping[str, Sequence[str]] = {}  # of those features that are not numbers
    missing: Sequence[str | float] = ()  # what stands for a missing value, besides what always does
    not_missing: Sequence[str] = ()  # what does not

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x [N, D] -> [N, D'], NaN where a value is missing."""
        return self.scaled(self.filled(x))

    @property
    def source(self) -> list[Column]:
        """[D] what the features are."""
        return [Column(name, self.categories.get(name)) for name in self.features]

    @property
    def columns(self) -> list[str]:
        """[D'] the names of what a model learns from."""
        parts = [[name] if words is None else [f"{name}={word}" for word in words[1:]] for name, words in self.source]
        missing = [f"{name} is missing" for name, shown in zip(self.features, self.indicated, strict=False) if shown]
        return [name for part in parts for name in part] + missing

    def filled(self, x: np.ndarray) -> np.ndarray:
        if self.missing_values == "zero":
            return self.spread(np.nan_to_num(x))
        if self.missing_values == "median_and_indicator":
            missing = np.isnan(x)
            indicators = missing[:, np.asarray(self.indicated, bool)]
            return np.column_stack([self.spread(np.where(missing, self.median, x)), indicators])
        found = self.spread(x)
        if self.missing_values == "drop" and self.categories:
            found[np.isnan(x).any(1)] = np.nan
        return found

    def spread(self, x: np.ndarray) -> np.ndarray:
        """A feature of 0 and 1 for each category but the first, in the place of its number."""
        if not self.categories:
            return x
        parts = [
            x[:, [k]] if words is None else x[:, [k]] == np.arange(1, len(words))
            for k, (_, words) in enumerate(self.source)
        ]
        return np.hstack(parts).astype(x.dtype, copy=False)

    def scaled(self, x: np.ndarray) -> np.ndarray:
        return (x - np.asarray(self.mean)) / np.asarray(self.deviation) if len(self.mean) else x


class Extent(NamedTuple):
    """Of the known values of each feature [D]."""

    rows: int
    known: np.ndarray
    low: np.ndarray  # NaN where nothing is known
    high: np.ndarray


def extent(blocks: Iterator[np.ndarray]) -> Extent:
    """Over all blocks, of which there must be one."""
    return functools.reduce(
        lambda a, b: Extent(a.rows + b.rows, a.known + b.known, np.fmin(a.low, b.low), np.fmax(a.high, b.high)),
        (Extent(len(x), len(x) - np.isnan(x).sum(0), np.fmin.reduce(x), np.fmax.reduce(x)) for x in blocks if len(x)),
    )


def moments(blocks: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance [D] over all blocks, by the rule of Chan, Golub & LeVeque (1983); of one block, numpy's."""
    rows, mean, variance = 0, np.zeros(()), np.zeros(())
    with np.errstate(over="ignore", invalid="ignore"):
        for x in blocks:
            if len(x):
                rows += len(x)
                part, apart = len(x) / rows, x.mean(0) - mean
                mean = mean + apart * part
                variance = variance + (x.var(0) - variance) * part + apart**2 * part * (1 - part)
    return mean, variance


def medians(blocks: Blocks, wanted: np.ndarray) -> np.ndarray:
    """[D] medians of the known values of those features that are wanted, and 0 for others."""
    result = np.zeros(len(wanted))
    rows = sum(map(len, blocks()))
    width = max(1, TOGETHER // max(1, rows))
    places = np.flatnonzero(wanted)
    for start in range(0, len(places), width):
        group = places[start : start + width]
        result[group] = np.nanmedian(np.concatenate([x[:, group] for x in blocks()]), axis=0)
    return result


def fitted(blocks: Blocks, columns: Sequence[Column], missing_values: Missing, standardise: bool) -> Preprocessing:
    """What is measured on the training part: medians of the known values, and 0/1 features for those that miss any;
    then mean and deviation. Raises SettingError where that cannot be."""
    categories = {column.name: list(column.categories) for column in columns if column.categories is not None}
    found = Preprocessing([column.name for column in columns], missing_values, categories=categories)
    known = extent(blocks())
    if missing_values == "median_and_indicator":
        if (known.known == 0).any():
            nothing = columns[int((known.known == 0).argmax())].name
            message = f"feature {nothing} has no value in the training part, and so no median"
            raise SettingError(("missing_values",), message)
        numbers = np.array([column.categories is None for column in columns])
        indicated = (known.known < known.rows).tolist()
        found = found._replace(median=medians(blocks, numbers).tolist(), indicated=indicated)
    if standardise:
        mean, variance = moments(map(found.filled, blocks()))
        deviation = np.sqrt(variance)
        if (wild := ~np.isfinite(mean + deviation)).any():
            name = found.columns[int(wild.argmax())]
            message = f"the values of {name} are too large: their deviation is not finite; `drop` leaves the column out"
            raise SettingError(("standardise",), message)
        same = extent(map(found.filled, blocks()))
        deviation[same.low == same.high] = 1  # a constant feature stays one
        found = found._replace(mean=mean.tolist(), deviation=deviation.tolist())
    return found

"""The preprocessing of a table's examples: fitted on the training part, and applied to all later examples."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from rlgrad.errors import SettingError
from rlgrad.supervised.columns import Column
from rlgrad.supervised.formulas import parsed

Missing = Literal["error", "drop", "zero", "median_and_indicator"]
TOGETHER = 2**27  # values in memory at a time, for medians
FLAT = 1e-5  # a column whose values differ by less than this part of their size is too much like an intercept
Blocks = Callable[[], Iterator[np.ndarray]]  # each call reads the training part [n, D] again


class Preprocessing(NamedTuple):
    """The map from the features of the source, x [N, D], to the inputs of a model [N, D']. All fields are JSON values.

    Categories are given by their numbers, NaN if unknown, which counts as missing. The first category has no feature of
    its own: it is the reference with which the others are compared.
    """

    features: Sequence[str]  # [D] names
    missing_values: Missing
    median: Sequence[float] = ()  # [D] if it replaces missing values
    indicated: Sequence[bool] = ()  # [D] which features have an extra 0/1 feature that marks missing values
    mean: Sequence[float] = ()  # [D'] if features are standardised
    deviation: Sequence[float] = ()  # [D']
    categories: Mapping[str, Sequence[str]] = {}  # of the features that are not numbers
    missing: Sequence[str | float] = ()  # cells that mean a missing value, in addition to the usual ones
    not_missing: Sequence[str] = ()  # usual ones that do not
    formula: str = ""  # from which the columns are computed; empty: one column per number and per category
    terms: Sequence[str] = ()  # the names of its columns, and the numbers measured for them
    learned: Mapping[str, Mapping[str, Any]] = {}
    decimal: str = ""  # the decimal sign of the training data; empty: not known

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x [N, D] -> [N, D'], NaN if a value is missing."""
        return self.scaled(self.filled(x))

    @property
    def source(self) -> list[Column]:
        """The features as columns of the source [D]."""
        return [Column(name, self.categories.get(name), self.decimal) for name in self.features]

    @property
    def columns(self) -> list[str]:
        """The names of the model's inputs [D']."""
        parts = [
            [name] if words is None else [f"{name}={word}" for word in words[1:]] for name, words, _ in self.source
        ]
        missing = [f"{name} is missing" for name, shown in zip(self.features, self.indicated, strict=False) if shown]
        made = list(self.terms) if self.formula else [name for part in parts for name in part]
        return made + missing

    def filled(self, x: np.ndarray) -> np.ndarray:
        """All except standardising: x [N, D] -> [N, D']."""
        found = self.spread(self.completed(x))
        if self.missing_values == "median_and_indicator":
            return np.column_stack([found, np.isnan(x)[:, np.asarray(self.indicated, bool)]])
        if self.missing_values == "drop" and (self.categories or self.formula):
            found[np.isnan(x).any(1)] = np.nan
        return found

    def completed(self, x: np.ndarray) -> np.ndarray:
        """x [N, D] with missing values replaced, if the setting replaces them."""
        if self.missing_values in ("error", "drop"):
            return x
        return np.where(np.isnan(x), self.median if len(self.median) else 0.0, x)

    def learning(self, blocks: Iterable[np.ndarray]) -> "Preprocessing":
        """This preprocessing with the numbers that its formula measures on the training part [n, D]."""
        state: dict[str, Any] = {}
        x = np.concatenate([self.completed(block) for block in blocks])
        names, _ = parsed(self.formula).matrix(x, self.source, state)
        return self._replace(terms=names, learned=state)

    def spread(self, x: np.ndarray) -> np.ndarray:
        """The features by the formula; without one, a 0/1 feature for each category except the first, instead of the
        category's number."""
        if self.formula:
            return parsed(self.formula).matrix(x, self.source, self.learned, list(self.terms))[1]
        if not self.categories:
            return x
        parts = [
            x[:, [k]] if words is None else x[:, [k]] == np.arange(1, len(words))
            for k, (_, words, _) in enumerate(self.source)
        ]
        return np.hstack(parts).astype(x.dtype, copy=False)

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """x [N, D'] with mean 0 and deviation 1, if features are standardised."""
        return (x - np.asarray(self.mean)) / np.asarray(self.deviation) if len(self.mean) else x


class Measured(NamedTuple):
    """Statistics of the known values of each feature [D]."""

    rows: int
    known: np.ndarray  # number of known values
    low: np.ndarray  # NaN if no value is known
    high: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def measured(blocks: Iterable[np.ndarray]) -> Measured:
    """Statistics over all blocks [n, D], NaN if a value is missing; at least one block must not be empty."""
    with np.errstate(over="ignore", invalid="ignore"):
        return functools.reduce(together, (measured_of(x) for x in blocks if len(x)))


def measured_of(x: np.ndarray) -> Measured:
    """Statistics of one block [n, D]."""
    if np.isfinite(x).all():
        return Measured(len(x), np.full(x.shape[1], len(x)), x.min(0), x.max(0), x.mean(0), x.var(0))
    there = ~np.isnan(x)
    known = there.sum(0)
    mean = np.where(there, x, 0).sum(0) / np.maximum(known, 1)
    variance = np.where(there, (x - mean) ** 2, 0).sum(0) / np.maximum(known, 1)
    return Measured(len(x), known, np.fmin.reduce(x), np.fmax.reduce(x), mean, variance)


def together(a: Measured, b: Measured) -> Measured:
    """Combine the statistics of two sets of rows, by the formula of Chan, Golub & LeVeque (1983)."""
    known, apart = a.known + b.known, b.mean - a.mean
    part = b.known / np.maximum(known, 1)
    variance = a.variance + (b.variance - a.variance) * part + apart**2 * part * (1 - part)
    low, high = np.fmin(a.low, b.low), np.fmax(a.high, b.high)
    return Measured(a.rows + b.rows, known, low, high, a.mean + apart * part, variance)


def flat(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which columns [D] are almost constant beside their size, but not quite. low, high: their smallest and largest
    values."""
    found: np.ndarray = (high > low) & (high - low < FLAT * np.maximum(np.abs(low), np.abs(high)))
    return found


def medians(blocks: Blocks, wanted: np.ndarray) -> np.ndarray:
    """The medians [D] of the known values of the `wanted` features; 0 for others."""
    result = np.zeros(len(wanted))
    rows = sum(map(len, blocks()))
    width = max(1, TOGETHER // max(1, rows))
    places = np.flatnonzero(wanted)
    for start in range(0, len(places), width):
        group = places[start : start + width]
        result[group] = np.nanmedian(np.concatenate([x[:, group] for x in blocks()]), axis=0)
    return result


def fitted(
    blocks: Blocks, columns: Sequence[Column], known: Measured, told: Any, centred: bool, indicated: Any = None
) -> Preprocessing:
    """Fit the preprocessing to the training part: medians of the known values, and which features get a 0/1 feature for
    missing values; then the formula's numbers; then mean and deviation. known: statistics of the columns as they are.
    told: the settings of the data. centred: whether standardised features have mean 0: without an intercept, centring
    would change the model. indicated: which features get a 0/1 feature, if that is known. Raises SettingError."""
    categories = {column.name: list(column.categories) for column in columns if column.categories is not None}
    words: dict[str, Any] = {
        "missing": list(told.missing),
        "not_missing": list(told.not_missing),
        "formula": told.formula or "",
        "decimal": columns[0].decimal,
    }
    found = Preprocessing([column.name for column in columns], told.missing_values, categories=categories, **words)
    whole = (known.known == known.rows).all()
    if told.missing_values == "median_and_indicator":
        numbers = np.array([column.categories is None for column in columns]) & (known.known > 0)
        indicated = (known.known < known.rows).tolist() if indicated is None else indicated
        found = found._replace(median=medians(blocks, numbers).tolist(), indicated=indicated)
    if told.formula:
        found = found.learning(blocks())
    if centred and not told.standardise and not told.formula and (narrow := flat(known.low, known.high)).any():
        message = f"the values of {columns[int(narrow.argmax())].name} differ by too little beside their size"
        raise SettingError(("standardise",), f"{message} for its weight to be found: true subtracts their mean")
    if told.standardise:
        if categories or told.formula or not whole:
            known = measured(map(found.filled, blocks()))
        with np.errstate(invalid="ignore"):
            deviation = np.sqrt(known.variance)
        if (wild := ~np.isfinite(known.mean + deviation)).any():
            name = found.columns[int(wild.argmax())]
            message = f"the values of {name} are too large: their deviation is not finite; `drop` leaves the column out"
            raise SettingError(("standardise",), message)
        deviation[known.low == known.high] = 1  # a constant feature stays one
        found = found._replace(mean=(known.mean if centred else 0 * known.mean).tolist(), deviation=deviation.tolist())
    return found

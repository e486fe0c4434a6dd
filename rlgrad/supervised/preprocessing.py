"""What is done to the examples of a table before anything is learned from them, and again to those of later."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from rlgrad.errors import SettingError

Missing = Literal["error", "zero", "median_and_indicator"]


class Preprocessing(NamedTuple):
    """From features as they are in the source, x [N, D], to what a model learns from. All of it is JSON."""

    features: Sequence[str]  # [D] names
    missing_values: Missing
    median: Sequence[float] = ()  # [D] where missing values are replaced by it
    indicated: Sequence[bool] = ()  # [D] for which features a further one says where a value is missing
    mean: Sequence[float] = ()  # [D'] where features are standardised
    deviation: Sequence[float] = ()  # [D']

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x [N, D] -> [N, D'], NaN where a value is missing."""
        return self.scaled(self.filled(x))

    def filled(self, x: np.ndarray) -> np.ndarray:
        if self.missing_values == "zero":
            return np.asarray(np.nan_to_num(x))
        if self.missing_values == "median_and_indicator":
            missing = np.isnan(x)
            indicators = missing[:, np.asarray(self.indicated, bool)]
            return np.column_stack([np.where(missing, self.median, x), indicators])
        return x

    def scaled(self, x: np.ndarray) -> np.ndarray:
        return (x - np.asarray(self.mean)) / np.asarray(self.deviation) if len(self.mean) else x


def fitted(x: np.ndarray, features: Sequence[str], missing_values: Missing, standardise: bool) -> Preprocessing:
    """What is measured on the training part x [N, D]: medians of the known values, and 0/1 features for those that miss
    any; then mean and deviation. Raises SettingError where a feature has no value at all."""
    found = Preprocessing(list(features), missing_values)
    if missing_values == "median_and_indicator":
        absent = np.isnan(x)
        if absent.all(0).any():
            nothing = int(absent.all(0).argmax()) + 1
            message = f"feature {nothing} has no value in the training part, and so no median"
            raise SettingError(("missing_values",), message)
        found = found._replace(median=np.nanmedian(x, axis=0).tolist(), indicated=absent.any(0).tolist())
    if standardise:
        filled = found.filled(x)
        mean, deviation = filled.mean(0), filled.std(0)
        deviation[np.ptp(filled, axis=0) == 0] = 1  # a constant feature stays one
        found = found._replace(mean=mean.tolist(), deviation=deviation.tolist())
    return found

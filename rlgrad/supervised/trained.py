"""A classifier that has been trained, to be used: one replica's, asked with features as they are in the source."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlgrad.supervised.classifier import LinearClassifier
from rlgrad.supervised.preprocessing import Preprocessing


def description(labels: Sequence[int | str], preprocessing: Preprocessing) -> dict[str, Any]:
    """What it takes to use a classifier, besides its tensors."""
    shared = {"features": list(preprocessing.features), "indicated": list(preprocessing.indicated)}
    form = {"kind": "classifier", "classes": list(labels), **shared}
    return {"form": form, "preprocessing": preprocessing._asdict()}


class TrainedClassifier:
    """What one replica has learned of a table, its preprocessing inside.

    origin: where it comes from, in words. classes_: [K] the labels, as scikit-learn calls them. features: [D] their
    names, in the order in which they are expected. model: the module, of one replica, behind the preprocessing.
    """

    origin = "a classifier"

    def __init__(self, tensors: Mapping[str, Tensor], said: Mapping[str, Any]):
        """tensors: [1, ...] each. said: the description that was kept with them."""
        weight = tensors["linear.weight"]
        self.classes_ = np.asarray(said["form"]["classes"])
        self.preprocessing = Preprocessing(**said["preprocessing"])
        self.features = self.preprocessing.features
        self.model = LinearClassifier(1, weight.shape[1], len(self.classes_)).to(weight.dtype).requires_grad_(False)
        self.model.load_state_dict(tensors)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.origin}>"

    def description(self) -> dict[str, Any]:
        """What is kept with its weights."""
        return description(self.classes_.tolist(), self.preprocessing)

    def predict_proba(self, x: Any) -> np.ndarray:
        """The probability of each class, [N, K]. x: [N, D] features, NaN where a value is missing and the run allowed
        for that; or a data frame, whose columns are found by their names. Raises ValueError."""
        found: np.ndarray = self.probabilities(torch.from_numpy(self.preprocessing(self._table(x)))).numpy()
        return found

    def predict(self, x: Any) -> np.ndarray:
        """The most probable class of each example, [N]; the first of those that are equally probable."""
        found: np.ndarray = self.classes_[self.predict_proba(x).argmax(1)]
        return found

    def probabilities(self, x: Tensor) -> Tensor:
        """[N, D'] what comes out of the preprocessing -> [N, K]."""
        found = self.model(x[None].to(self.model.linear.weight.dtype)).probs[0]
        return torch.stack([1 - found, found], 1) if found.dim() == 1 else found

    def _table(self, x: Any) -> np.ndarray:
        if hasattr(x, "columns"):
            if absent := [name for name in self.features if name not in x.columns]:
                raise ValueError(f"there is no column {absent[0]!r}, which the classifier was trained with")
            x = x[list(self.features)]
        table = np.asarray(x, dtype=float)
        if table.ndim != 2 or table.shape[1] != len(self.features):
            raise ValueError(f"the features must be [N, {len(self.features)}], not {list(table.shape)}")
        if self.preprocessing.missing_values == "error" and not np.isfinite(table).all():
            name = self.features[int(np.argwhere(~np.isfinite(table))[0, 1])]
            raise ValueError(f"a value of {name} is missing or infinite, and the run had no `missing_values` set")
        return table

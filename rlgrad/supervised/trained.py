"""A classifier that has been trained, to be used: one replica's, asked with features as they are in the source."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlgrad.supervised.classifier import LinearClassifier
from rlgrad.supervised.preprocessing import Preprocessing


def description(labels: Sequence[int | str], preprocessing: Preprocessing, family: str = "logistic") -> dict[str, Any]:
    """What it takes to use a classifier, or a regression, besides its tensors."""
    shared = {"features": list(preprocessing.features), "indicated": list(preprocessing.indicated)}
    classes = {"kind": "classifier", "classes": list(labels)}
    form = (classes if family == "logistic" else {"kind": "regression", "family": family}) | shared
    return {"form": form, "preprocessing": preprocessing._asdict()}


class TrainedClassifier:
    """What one replica has learned of a table, its preprocessing inside.

    origin: where it comes from, in words. classes_: [K] the labels, as scikit-learn calls them. features: [D] their
    names, in the order in which they are expected. model: the module, of one replica, behind the preprocessing.
    """

    origin = "a classifier"

    def __init__(self, tensors: Mapping[str, Tensor], said: Mapping[str, Any]):
        """tensors: [1, ...] each. said: the description that was kept with them."""
        weight, self.form = tensors["linear.weight"], said["form"]
        self.classes_ = np.asarray(self.form.get("classes", ()))
        self.preprocessing = Preprocessing(**said["preprocessing"])
        self.features = self.preprocessing.features
        classes, family = max(1, len(self.classes_)), self.form.get("family", "logistic")
        self.model = LinearClassifier(1, weight.shape[1], classes, family).to(weight.dtype).requires_grad_(False)
        self.model.load_state_dict(tensors)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.origin}>"

    def description(self) -> dict[str, Any]:
        """What is kept with its weights."""
        return description(self.classes_.tolist(), self.preprocessing, self.form.get("family", "logistic"))

    def predict_proba(self, x: Any) -> np.ndarray:
        """The probability of each class, [N, K]. x: [N, D] features, NaN where a value is missing and the run allowed
        for that; or a data frame, whose columns are found by their names. Raises ValueError."""
        found: np.ndarray = self.probabilities(self.asked(x)).numpy()
        return found

    def predict(self, x: Any) -> np.ndarray:
        """The most probable class of each example, [N]; the first of those that are equally probable."""
        found: np.ndarray = self.classes_[self.predict_proba(x).argmax(1)]
        return found

    def asked(self, x: Any) -> Tensor:
        """Features as they are in the source -> what the model learned from, [N, D']."""
        return torch.from_numpy(self.preprocessing(self._table(x)))

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


class TrainedRegression(TrainedClassifier):
    """The same for labels that are numbers, whose mean it predicts."""

    origin = "a regression"

    def predict_proba(self, x: Any) -> np.ndarray:
        """Raises ValueError: there are no classes."""
        raise ValueError("its labels are numbers: predict gives their mean, and there are no classes")

    def predict(self, x: Any) -> np.ndarray:
        """The mean [N] of the label of each example. x: as for a classifier."""
        seen = self.asked(x)[None].to(self.model.linear.weight.dtype)
        mean: np.ndarray = self.model(seen).mean[0].numpy()
        return mean

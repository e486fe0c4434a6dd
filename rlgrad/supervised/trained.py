"""Trained classifiers and regressions for use: one replica's, with features as they are in the source."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlgrad.errors import SettingError
from rlgrad.supervised.classifier import LinearClassifier, NetworkClassifier
from rlgrad.supervised.columns import blocks
from rlgrad.supervised.preprocessing import Preprocessing
from rlgrad.supervised.tables import Absent, Table, found, frame


def description(labels: Sequence[int | str], preprocessing: Preprocessing, family: str = "logistic") -> dict[str, Any]:
    """All that is needed to use a classifier or a regression, besides its tensors."""
    shared = {"features": list(preprocessing.features), "indicated": list(preprocessing.indicated)}
    classes = {"kind": "classifier", "classes": list(labels)}
    form = (classes if family == "logistic" else {"kind": "regression", "family": family}) | shared
    form |= {"formula": preprocessing.formula, "learned": preprocessing.learned} if preprocessing.formula else {}
    return {"form": form, "preprocessing": preprocessing._asdict()}


class TrainedClassifier:
    """The trained classifier of one replica, with its preprocessing.

    origin: where it comes from, in words. classes_: [K] the labels, named as in scikit-learn. features: [D] names, in
    the expected order. model: the module, of one replica, that follows the preprocessing.
    """

    origin = "a classifier"

    def __init__(self, tensors: Mapping[str, Tensor], said: Mapping[str, Any]):
        """tensors: [1, ...] each. said: the description that was saved with them."""
        self.form, first = said["form"], next(iter(tensors.values()))
        self.classes_ = np.asarray(self.form.get("classes", ()))
        self.preprocessing = Preprocessing(**said["preprocessing"])
        self.features = self.preprocessing.features
        classes, family = max(1, len(self.classes_)), self.form.get("family", "logistic")
        self.dtype = first.dtype
        if "hidden" in self.form:
            told = self.form["hidden"], self.form["activation"], [np.random.default_rng(0)]
            width = len(self.preprocessing.columns)
            self.model: LinearClassifier = NetworkClassifier(width, classes, family, *told)
        else:
            self.model = LinearClassifier(1, tensors["linear.weight"].shape[1], classes, family)
        self.model.to(first.dtype).requires_grad_(False)
        self.model.load_state_dict(tensors)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.origin}>"

    def description(self) -> dict[str, Any]:
        """All that is saved with the weights."""
        found = description(self.classes_.tolist(), self.preprocessing, self.form.get("family", "logistic"))
        return found | {"form": self.form}

    def predict_proba(self, x: Any) -> np.ndarray:
        """The probability of each class [N, K]; NaN in rows that the run would have dropped.

        x: a data frame of pandas, polars or pyarrow, whose columns are found by their names; or an array [N, D] of the
        features in order, NaN if a value is missing. Raises ValueError.
        """
        return np.concatenate([np.zeros((0, len(self.classes_))), *self._answers(x)])

    def predict(self, x: Any) -> np.ndarray:
        """The most probable class of each example [N], of equally probable ones the first; None in rows that the run
        would have dropped. Raises ValueError."""
        probabilities = self.predict_proba(x)
        unknown = np.isnan(probabilities).any(1)
        found: np.ndarray = self.classes_[np.where(unknown, 0, probabilities.argmax(1))]
        if unknown.any():
            found = found.astype(object)
            found[unknown] = None
        return found

    def answer(self, x: np.ndarray) -> np.ndarray:
        """Features [n, D] as they are in the source -> the probabilities [n, K]."""
        return np.asarray(self.probabilities(torch.from_numpy(self.preprocessing(x))).numpy())

    def probabilities(self, x: Tensor) -> Tensor:
        """Preprocessed features [N, D'] -> the probabilities [N, K]."""
        found = self.model(x[None].to(self.dtype)).probs[0]
        return torch.stack([1 - found, found], 1) if found.dim() == 1 else found

    def read(self, table: Table) -> Iterator[np.ndarray]:
        """The features [n, D] of a table, batch by batch. Raises SettingError."""
        done = self.preprocessing
        absent, strict = Absent(done.missing, done.not_missing), done.missing_values == "error"
        return blocks(table, found(table, self.features), done.source, absent, strict)

    def _answers(self, x: Any) -> Iterator[np.ndarray]:
        """Yield the `answer` to a table in memory, batch by batch. Raises ValueError."""
        if not (hasattr(x, "columns") or hasattr(x, "__arrow_c_stream__")):
            if isinstance(x, np.ma.MaskedArray):
                x = np.where(np.ma.getmaskarray(x), np.array(None), x.data)
            x = np.asarray(x)
            if x.ndim != 2 or x.shape[1] != len(self.features):
                raise ValueError(f"the features must be [N, {len(self.features)}], not {list(x.shape)}")
            x = {name: x[:, k].tolist() if x.dtype == object else x[:, k] for k, name in enumerate(self.features)}
        try:
            yield from map(self.answer, self.read(frame(x, self.preprocessing.decimal)))
        except SettingError as error:
            raise ValueError(str(error)) from error


class TrainedRegression(TrainedClassifier):
    """The trained regression of one replica: it predicts the mean of labels that are numbers."""

    origin = "a regression"

    def predict_proba(self, x: Any) -> np.ndarray:
        """Raise ValueError: there are no classes."""
        raise ValueError("its labels are numbers: predict gives their mean, and there are no classes")

    def predict(self, x: Any) -> np.ndarray:
        """The mean [N] of the label of each example. x: as for a classifier."""
        return np.concatenate([np.zeros((0, 1)), *self._answers(x)])[:, 0]

    def answer(self, x: np.ndarray) -> np.ndarray:
        """Features [n, D] as they are in the source -> the mean [n, 1]."""
        seen = torch.from_numpy(self.preprocessing(x))[None].to(self.dtype)
        return np.asarray(self.model(seen).mean[0, :, None].numpy())

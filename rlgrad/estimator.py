"""Logistic regression with the interface of a scikit-learn estimator: in memory, without files.

It works like scikit-learn's `LogisticRegression`, with the same penalty for the same C. Newton's method finds the
optimum, with the objective and the loop of a run.
"""

import warnings
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ValidationError
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from rlgrad.loop import make_optimizer, updates
from rlgrad.problems.logistic import Logistic, Settings
from rlgrad.settings import refusal
from rlgrad.supervised.data import Dataset
from rlgrad.supervised.preprocessing import flat

MANY = 50_000  # with more examples, the first steps and the curvature use only some of them
FIRST = {"batch_size": 8192, "batch_growth": 25.0, "curvature_examples": 25_000}


class LogisticClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression, binary or multinomial, with scikit-learn's interface and its penalty.

    C: the inverse of the penalty's strength, as in LogisticRegression: ½ ||w||² + C Σ −log p(y | x) is minimized. inf:
    no penalty.
    fit_intercept: whether there is an intercept, which is not penalised.
    class_weight: the weight of the examples of each class: a mapping, or "balanced"; None: 1 for all.
    objective: the cost to minimize, or the log-likelihood to maximize. The optimum is the same.
    tol: the fit ends about when the objective can improve by no more than this part of its value.
    max_iter: at most this many steps of Newton's method; then the fit ends with a ConvergenceWarning.

    After `fit`: classes_ [K]; coef_ [K, D] and intercept_ [K], or for two classes [1, D] and [1], for the second class;
    n_iter_, how often the objective was evaluated on all examples; n_features_in_, feature_names_in_.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        fit_intercept: bool = True,
        class_weight: Any = None,
        objective: Literal["negative_log_likelihood", "log_likelihood"] = "negative_log_likelihood",
        tol: float = 1e-12,
        max_iter: int = 100,
    ):
        self.C, self.fit_intercept, self.class_weight, self.objective = C, fit_intercept, class_weight, objective
        self.tol, self.max_iter = tol, max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LogisticClassifier":
        """X: [N, D] features. y: [N] labels. sample_weight: [N] the weight of each example.

        Raises ValueError if a parameter is wrong, or if the data cannot be used.
        """
        for name, value, least in (("C", self.C, 0), ("tol", self.tol, 0), ("max_iter", self.max_iter, 1)):
            if not isinstance(value, Real) or not value >= least or (name == "C" and value == 0):
                raise ValueError(f"{name} must be {'positive' if name == 'C' else f'{least} or more'}, not {value!r}")
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), order="C")
        if y.dtype.kind not in "biuUS":  # those are classes; the check takes as long as an iteration
            check_classification_targets(y)
        self.classes_: np.ndarray
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"two classes or more are needed, and y has one class: {self.classes_[0]!r}")
        counts = None
        if sample_weight is not None or self.class_weight is not None:
            counts = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
            each = compute_class_weight(self.class_weight, classes=self.classes_, y=y, sample_weight=counts)
            with np.errstate(over="ignore"):
                counts = torch.from_numpy((counts * each[labels]).astype(X.dtype))
            if (each < 0).any() or not counts.sum().isfinite():
                raise ValueError(f"the weights of classes and examples must be 0 or more, and their sum finite: {each}")
        shift = X.mean(0) if self.fit_intercept and flat(X.min(0), X.max(0)).any() else np.zeros(X.shape[1], X.dtype)
        X = X - shift if shift.any() else X if X.flags.writeable else X.copy()
        x, two = torch.from_numpy(X), len(self.classes_) == 2
        numbers = torch.from_numpy(labels).to(x.dtype if two else torch.long)
        self._solve(Dataset(x, numbers, x, numbers, len(self.classes_), sample_weight=counts))
        self.intercept_ -= self.coef_ @ shift
        return self

    def _solve(self, dataset: Dataset) -> None:
        """Find the optimum by Newton's method, and store it."""
        examples, two = len(dataset.y), dataset.classes == 2
        few = FIRST if examples > MANY else {}
        given: dict[str, Any] = {"data": "in.memory", "optimizer": {"name": "Newton"}, "updates": 1, **few}
        given |= {"objective": self.objective, "l2": 1 / (self.C * examples), "intercept": self.fit_intercept}
        given |= {"standardise": False}  # features may have very different scales
        try:
            settings = Settings.model_validate(given)
        except ValidationError as error:
            path, message = refusal(error, given)
            raise ValueError(f"{'.'.join(path)}: {message}") from None
        problem = Logistic(settings, dataset)
        squares = two and not few  # the error after a step is about the square of the one before
        tolerance, solver = (self.tol / 100) ** 0.5 if squares else self.tol, "direct" if two else "cg"
        optimizer = make_optimizer(problem, "Newton", solver=solver, max_iter=self.max_iter, tolerance=tolerance)
        for update in updates(problem, optimizer):
            if update.passes[0].batch.y.shape[1] == examples:  # the first updates use only some of them
                break
        self.n_iter_ = update.evaluations
        if self.n_iter_ > self.max_iter:
            message = f"the fit has not reached the optimum after max_iter={self.max_iter} steps: raise max_iter"
            warnings.warn(message, ConvergenceWarning, stacklevel=3)
        linear = problem.model.linear
        self.coef_: np.ndarray = linear.weight[0].T.numpy(force=True)
        self.intercept_: np.ndarray = linear.bias[0, 0].numpy(force=True)

    def decision_function(self, X: Any) -> np.ndarray:
        """For two classes the log odds [N] of the second; for more classes the scores [N, K]."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        scores: np.ndarray = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each example [N]; of equally probable ones the first."""
        scores = self.decision_function(X)
        found: np.ndarray = self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)]
        return found

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class [N, K]."""
        found: np.ndarray = np.exp(self.predict_log_proba(X))
        return found

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of the probability of each class [N, K]."""
        scores = self.decision_function(X)
        scores = np.stack([np.zeros_like(scores), scores], 1) if scores.ndim == 1 else scores
        found: np.ndarray = log_softmax(scores, axis=1)
        return found

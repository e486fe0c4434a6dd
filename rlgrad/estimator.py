"""The classifier as scikit-learn's users know theirs: on the bare loop, without files.

It is scikit-learn's `LogisticRegression`, with the same penalty for the same C; its optimum is found by Newton's method,
and by the same objective and loop as that of a run.
"""

import warnings
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from rlgrad.loop import make_optimizer, updates
from rlgrad.problems.logistic import Logistic, Settings
from rlgrad.supervised.data import Dataset

MANY = 50_000  # examples, from which the first steps see some of them only, and the curvature is taken from some
FIRST = {"batch_size": 8192, "batch_growth": 25.0, "curvature_examples": 25_000}


class LogisticClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regression, binary or multinomial, with scikit-learn's interface and its penalty.

    C: the inverse of the penalty's strength, as of LogisticRegression: ½ ||w||² + C Σ −log p(y | x) is minimized. inf:
    no penalty.
    fit_intercept: whether there is an intercept, which is not penalised.
    class_weight: how many times the examples of each class count: a mapping, or "balanced"; None: once.
    objective: the cost to descend, or the score to ascend. The optimum is the same.
    tol: the fit ends where a step would change the objective by no more than this part of it.
    max_iter: evaluations of the objective, after which the fit ends anyway, with a ConvergenceWarning.

    After `fit`: classes_ [K]; coef_ [K, D] and intercept_ [K], of two classes [1, D] and [1] for the second of them;
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
        """X: [N, D] features. y: [N] labels. sample_weight: [N] how many times each example counts.

        Raises ValueError where these cannot be learned from, or a parameter is wrong.
        """
        if not isinstance(self.C, Real) or not self.C > 0:
            raise ValueError(f"C must be a positive number, not {self.C!r}")
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), order="C")
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs examples of 2 classes or more: all are of the class {self.classes_[0]!r}")
        weight = self._weights(X, y, sample_weight)
        linear, self.n_iter_ = self._optimum(X, labels, weight)
        self.coef_ = linear.weight[0].T.numpy(force=True)
        self.intercept_ = linear.bias[0, 0].numpy(force=True)
        return self

    def _weights(self, X: np.ndarray, y: np.ndarray, sample_weight: Any) -> np.ndarray | None:
        """[N] how many times each example counts; None: once."""
        if sample_weight is None and self.class_weight is None:
            return None
        weight = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        found: np.ndarray = weight * compute_sample_weight(self.class_weight, y)
        return found.astype(X.dtype)

    def _optimum(self, X: np.ndarray, labels: np.ndarray, weight: np.ndarray | None) -> tuple[torch.nn.Module, int]:
        """The linear model [1, D, K] at the optimum for labels 0 ... K-1, and how often the objective was evaluated."""
        binary, many = len(self.classes_) == 2, len(X) > MANY
        x = torch.from_numpy(X)
        y = torch.from_numpy(labels).to(x.dtype if binary else torch.long)
        settings = Settings(
            data="memory.csv",
            optimizer={"name": "Newton"},
            updates=1,
            objective=self.objective,
            l2=1 / (self.C * len(X)),
            intercept=self.fit_intercept,
            **(FIRST if many else {}),
        )
        counts = None if weight is None else torch.from_numpy(weight)
        problem = Logistic(settings, Dataset(x, y, x, y, len(self.classes_), sample_weight=counts))
        solver = "direct" if binary else "cg"
        optimizer = make_optimizer(problem, "Newton", solver=solver, max_iter=self.max_iter, tolerance=self.tol)
        for update in updates(problem, optimizer):
            if update.passes[0].batch.y.shape[1] == len(X):
                break
        if update.evaluations > self.max_iter:
            message = "the fit has ended after max_iter={} evaluations, short of the optimum: raise max_iter"
            warnings.warn(message.format(self.max_iter), ConvergenceWarning, stacklevel=3)
        return problem.model.linear, update.evaluations

    def decision_function(self, X: Any) -> np.ndarray:
        """Of two classes, [N] the log of the odds of the second; of more, [N, K] the scores of all."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        scores: np.ndarray = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """[N] the most probable class of each example; the first of those that are equally probable."""
        scores = self.decision_function(X)
        found: np.ndarray = self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)]
        return found

    def predict_proba(self, X: Any) -> np.ndarray:
        """[N, K] the probability of each class."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """[N, K] its logarithm."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return -np.logaddexp(0, np.stack([scores, -scores], 1))
        return scores - logsumexp(scores, axis=1, keepdims=True)

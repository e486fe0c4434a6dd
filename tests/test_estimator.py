"""The classifier with scikit-learn's interface, held against scikit-learn's own."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from rlgrad import LogisticClassifier, estimator


def bundled(name: str, scaled: bool = True) -> tuple[np.ndarray, np.ndarray]:
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return (StandardScaler().fit_transform(x) if scaled else x), y


def reference(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None, **options: object) -> LogisticRegression:
    """scikit-learn's optimum, to its last digits."""
    solver = "newton-cholesky" if len(np.unique(y)) == 2 else "newton-cg"
    return LogisticRegression(solver=solver, tol=1e-12, max_iter=2000, **options).fit(x, y, weight)


def alike(found: LogisticClassifier, expected: LogisticRegression, x: np.ndarray, close: float = 1e-6) -> None:
    size = np.abs(expected.coef_).max()
    assert found.coef_.shape == expected.coef_.shape
    assert found.intercept_.shape == expected.intercept_.shape
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=0, atol=close * size)
    np.testing.assert_allclose(found.predict_proba(x), expected.predict_proba(x), rtol=0, atol=close)
    np.testing.assert_allclose(found.decision_function(x), expected.decision_function(x), rtol=close, atol=30 * close)
    assert (found.predict(x) == expected.predict(x)).all()


def test_scikit_learn_s_own_checks_pass() -> None:
    """All of them: nothing is expected to fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(LogisticClassifier(), on_skip=None)
    skipped = {each["check_name"] for each in found if each["status"] != "passed"}
    assert skipped <= {"check_array_api_input"}, skipped  # which wants an environment variable
    assert len(found) > 40


@pytest.mark.parametrize("C", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("name", ["breast_cancer", "iris", "wine"])
def test_the_optimum_is_that_of_logistic_regression(name: str, scaled: bool, C: float) -> None:
    x, y = bundled(name, scaled)
    alike(LogisticClassifier(C).fit(x, y), reference(x, y, C=C), x)


@pytest.mark.parametrize(
    "options", [{"fit_intercept": False}, {"class_weight": "balanced"}, {"class_weight": {0: 3.0}}], ids=str
)
@pytest.mark.parametrize("name", ["breast_cancer", "iris"])
def test_so_it_is_with_weights_and_without_an_intercept(name: str, options: dict) -> None:
    x, y = bundled(name)
    weight = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)
    for given in (None, weight):
        alike(LogisticClassifier(**options).fit(x, y, given), reference(x, y, given, **options), x)


def test_without_a_penalty_too() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 5))
    y = x[:, 0] + rng.logistic(size=300) > 0
    alike(LogisticClassifier(C=np.inf).fit(x, y), reference(x, y, C=np.inf), x)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("scale", "shift"), [((1e-8, 1, 1e8), 0), (1, 1e5), (1, 1e8), ((8, 2e4, 0.01), (2000, 5e4, 0.05)), (1e150, 0)])  # fmt: skip
def test_the_optimum_does_not_depend_on_units_or_zeros(classes: int, scale: object, shift: object) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    y = (x @ rng.standard_normal((3, classes)) + rng.gumbel(size=(200, classes))).argmax(1)
    expected = LogisticRegression(C=np.inf, solver="newton-cg", tol=1e-12).fit(x, y).predict_proba(x)
    found = LogisticClassifier(C=np.inf).fit(there := x * scale + shift, y).predict_proba(there)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("given", [{"class_weight": {0: -1.0}}, {"sample_weight": 1e38}])
def test_weights_that_are_negative_or_have_no_finite_sum_are_refused(given: dict) -> None:
    x, y = bundled("iris")
    weight = given.pop("sample_weight", None)
    with pytest.raises(ValueError, match="0 or more, and their sum finite"):
        LogisticClassifier(**given).fit(x.astype(np.float32), y, weight)


def test_examples_that_cannot_be_written_to_are_read_without_a_warning() -> None:
    x, y = bundled("iris")
    x.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alike(LogisticClassifier().fit(x, y), reference(x, y), x)


@pytest.mark.parametrize("classes", [2, 3])
def test_many_examples_are_begun_with_some_of_them(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimator, "MANY", 2000)
    monkeypatch.setattr(estimator, "FIRST", {"batch_size": 300, "batch_growth": 5.0, "curvature_examples": 1000})
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 6))
    y = (x @ rng.standard_normal((6, classes)) + rng.gumbel(size=(4000, classes))).argmax(1)
    weight = rng.random(4000) * 5
    for given in (None, weight):
        alike(LogisticClassifier().fit(x, y, given), reference(x, y, given), x)


def test_ascent_goes_to_the_same_place() -> None:
    x, y = bundled("iris")
    up, down = (
        LogisticClassifier(objective=which).fit(x, y) for which in ("log_likelihood", "negative_log_likelihood")
    )
    assert (up.coef_ == down.coef_).all()


def test_single_precision_stays_and_comes_close() -> None:
    x, y = bundled("breast_cancer")
    found = LogisticClassifier().fit(x.astype(np.float32), y)
    assert found.coef_.dtype == found.predict_proba(x.astype(np.float32)).dtype == np.float32
    alike(found, reference(x, y), x, close=1e-4)


def test_a_tie_counts_as_the_first_class() -> None:
    x, y = np.array([[-1.0], [0.0], [1.0], [0.0]]), np.array(["yes", "no", "no", "yes"])
    model = LogisticClassifier(fit_intercept=False).fit(x, y)
    assert model.predict([[0.0]]).tolist() == ["no"]
    assert model.predict_proba([[0.0]]).tolist() == [[0.5, 0.5]]


def test_probabilities_of_what_is_certain_are_no_nan() -> None:
    model = LogisticClassifier().fit([[0.0], [1.0]], [0, 1])
    assert model.predict_log_proba([[-1e5], [1e5]])[:, 1] == pytest.approx([-1e5 * model.coef_[0, 0], 0], rel=1e-3)
    assert model.predict_proba([[-1e5], [1e5]]).tolist() == [[1, 0], [0, 1]]


def test_an_early_end_is_said() -> None:
    x, y = bundled("iris")
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        assert LogisticClassifier(max_iter=3).fit(x, y).n_iter_ > 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LogisticClassifier().fit(x, y).n_iter_ < 20


@pytest.mark.parametrize(("options", "said"), [({"C": 0}, "C must be"), ({"C": "1"}, "C must be"), ({"max_iter": 0}, "max_iter must be"), ({"tol": -1.0}, "tol must be"), ({"objective": "loss"}, "^objective: input should be 'negative_log_likelihood' or 'log_likelihood' .here: loss.$")])  # fmt: skip
def test_a_wrong_parameter_is_refused(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LogisticClassifier(**options).fit(*bundled("iris"))


def test_it_lives_among_scikit_learn_s_tools() -> None:
    table = pd.DataFrame(*datasets.load_breast_cancer(return_X_y=True)[:1]).rename(columns=lambda k: f"f{k}")
    y = np.array(["benign", "malignant"])[datasets.load_breast_cancer().target]
    both = [
        GridSearchCV(make_pipeline(StandardScaler(), model), {f"{type(model).__name__.lower()}__C": [0.01, 1.0]})
        .set_params()
        .fit(table, y)
        for model in (LogisticClassifier(), LogisticRegression(tol=1e-8, max_iter=1000))
    ]
    assert both[0].best_score_ == pytest.approx(both[1].best_score_)
    model = both[0].best_estimator_.set_output(transform="pandas").fit(table, y)
    assert model[-1].feature_names_in_.tolist() == table.columns.tolist()
    assert (pickle.loads(pickle.dumps(model)).predict_proba(table) == model.predict_proba(table)).all()
    assert clone(model[-1]).get_params() == model[-1].get_params()
    assert cross_val_score(model, table, y, scoring="neg_log_loss").mean() > -0.1
    with pytest.raises(ValueError, match="feature names"):
        model[-1].predict(table[table.columns[::-1]])


def test_the_import_of_the_package_stays_light() -> None:
    code = "import sys, rlgrad; assert rlgrad.__all__; assert not {'sklearn', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

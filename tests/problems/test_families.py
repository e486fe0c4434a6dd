"""Families of labels that are numbers, from a table to what is predicted: statsmodels has the same optimum."""

from pathlib import Path

import numpy as np
import pytest

import rlgrad
from rlgrad.config import load_config
from rlgrad.errors import UsageError

EXAMPLES, NAMES = 120, ("a", "b", "c")


def table(path: Path, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, 3] and labels [N] of that family, written to a file."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((EXAMPLES, 3)).round(3)
    score = x @ [0.5, -0.3, 0.2] + 0.4
    y = rng.poisson(np.exp(score)) if kind == "poisson" else (score + rng.standard_normal(EXAMPLES)).round(3)
    rows = [",".join([*NAMES, "y"]), *(",".join(map(str, [*row, label])) for row, label in zip(x, y, strict=True))]
    path.write_text("\n".join(rows))
    return x, np.asarray(y, dtype=float)


def settings(path: Path, kind: str, **more: object) -> dict[str, object]:
    given = {"problem": "logistic", "family": kind, "data": str(path), "test_fraction": 0, "dtype": "float64"}
    return given | {"optimizer": {"name": "Newton", "tolerance": 1e-15}, "updates": 1} | more


@pytest.mark.parametrize("objective", ["log_likelihood", "negative_log_likelihood"])
@pytest.mark.parametrize("kind", ["poisson", "gaussian"])
def test_the_optimum_and_what_is_predicted_are_statsmodels_s(tmp_path: Path, kind: str, objective: str) -> None:
    sm = pytest.importorskip("statsmodels.api")
    x, y = table(tmp_path / "t.csv", kind)
    run = rlgrad.train(settings(tmp_path / "t.csv", kind, objective=objective), out=tmp_path / "run")
    family = sm.families.Poisson() if kind == "poisson" else sm.families.Gaussian()
    twin = sm.GLM(y, sm.add_constant(x), family=family).fit(tol=1e-14, maxiter=200)
    predicted = rlgrad.load(tmp_path / "run").predict(x)
    np.testing.assert_allclose(predicted, twin.predict(sm.add_constant(x)), rtol=1e-8)
    name = "deviance" if kind == "poisson" else "squared_error"
    found = run.summary[f"evaluation.{name}"]["mean"]
    assert found == pytest.approx(twin.deviance / EXAMPLES, rel=1e-9)
    assert run.summary[f"evaluation.prior_{name}"]["mean"] == pytest.approx(twin.null_deviance / EXAMPLES, rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "label", "message"),
    [
        ("poisson", "-1", "family: poisson: its labels must be counts, 0 or more, and one is -1"),
        ("gaussian", "word", "word"),
    ],
)
def test_labels_that_a_family_cannot_have_are_refused(tmp_path: Path, kind: str, label: str, message: str) -> None:
    table(tmp_path / "t.csv", kind)
    with (tmp_path / "t.csv").open("a") as file:
        file.write(f"\n1,2,3,{label}")
    with pytest.raises(UsageError, match=message):
        load_config(settings(tmp_path / "t.csv", kind)).build()


def test_a_regression_has_no_classes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="breast_cancer has classes"):
        load_config(settings(tmp_path / "t.csv", "gaussian", data="breast_cancer")).build()
    x, _ = table(tmp_path / "t.csv", "gaussian")
    rlgrad.train(settings(tmp_path / "t.csv", "gaussian"), out=tmp_path / "run")
    with pytest.raises(ValueError, match="there are no classes"):
        rlgrad.load(tmp_path / "run").predict_proba(x)


@pytest.mark.parametrize("chosen", ["balanced", {"1": 3.0}])
def test_weights_of_rows_and_classes_are_scikit_learn_s(tmp_path: Path, chosen: object) -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(2)
    x = rng.standard_normal((EXAMPLES, 2)).round(3)
    y, weight = (x[:, 0] + rng.standard_normal(EXAMPLES) > 0.8).astype(int), rng.integers(0, 4, EXAMPLES) / 2
    rows = [f"{a},{w},{b},{label}" for (a, b), w, label in zip(x.tolist(), weight.tolist(), y.tolist(), strict=True)]
    (tmp_path / "t.csv").write_text("a,count,b,y\n" + "\n".join(rows))
    given = settings(tmp_path / "t.csv", "logistic", weight="count", class_weights=chosen, l2=0.02, standardise=False)
    run = rlgrad.train(given, out=tmp_path / "run")
    weights = chosen if chosen == "balanced" else {0: 1.0, 1: 3.0}
    twin = LogisticRegression(C=1 / (0.02 * EXAMPLES), class_weight=weights, solver="newton-cholesky", tol=1e-12)
    twin.fit(x, y, weight)
    linear = run.problem.model.linear
    np.testing.assert_allclose(linear.weight[0, :, 0].detach(), twin.coef_[0], rtol=1e-6)
    np.testing.assert_allclose(linear.bias[0, 0].detach(), twin.intercept_, rtol=1e-6)
    assert "digest of the weights" in run.problem.identity()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weight": "nothing"}, "weight: .*nothing"),
        ({"weight": "y", "label": "y"}, "weight: .* is also the label"),
        ({"weight": "a"}, "weight: .*the weight .* is negative: write 0 or more"),
        ({"class_weights": {"7": 2.0}}, "class_weights.7: there is no label '7'"),
        ({"class_weights": {"0": -2.0}}, "class_weights.0: input should be greater than or equal to 0"),
        ({"class_weights": {"0": 0.0}}, "class_weights: no example with the label '0' has a weight above 0"),
        ({"weight": "y", "label": "a"}, "weight: no example with the label '-1' has a weight above 0"),
        ({"weight": "y", "label": "a", "class_weights": "balanced"}, "weight: no example with the label '-1' has"),
    ],
)
def test_wrong_weights_are_refused(tmp_path: Path, given: dict, message: str) -> None:
    (tmp_path / "t.csv").write_text("a,b,y\n-1,2,0\n2,1,1\n1,3,0\n0,1,1\n")
    with pytest.raises(UsageError, match=message):
        load_config(settings(tmp_path / "t.csv", "logistic", **given)).build()

"""The optimum in the units of the file, in single precision: scipy's, in double precision on the same numbers."""

import itertools
from pathlib import Path

import numpy as np
import pytest

import rlgrad
from rlgrad.config import load_config
from rlgrad.loop import updates
from rlgrad.supervised.likelihood import Information


def raw(path: Path, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A year, an income and a rate: without their own scale, two of their scores are lost in single precision."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((300, 3))
    x = (z * [8, 20_000, 0.01] + [2000, 50_000, 0.05]).round(4)
    y = (z @ rng.standard_normal((3, classes)) + rng.gumbel(size=(300, classes))).argmax(1)
    path.write_text("year,income,rate,y\n" + "\n".join(",".join(map(str, [*a, b])) for a, b in zip(x, y, strict=True)))
    return x, y


@pytest.mark.parametrize(
    (
        "solver",
        "classes",
        "intercept",
        "l2",
    ),  # each choice with each other one, and half of the ways to put them together
    [
        each
        for each in itertools.product(["direct", "cg"], [2, 3], [True, False], [0.0, 1e-4])
        if (each[0] == "cg") ^ (each[1] == 3) ^ each[2] ^ (each[3] > 0)
    ],
)
def test_the_optimum_is_that_of_the_file_s_units(
    tmp_path: Path, solver: str, classes: int, intercept: bool, l2: float
) -> None:
    x, y = raw(tmp_path / "t.csv", classes)
    given = {"problem": "logistic", "data": str(tmp_path / "t.csv"), "test_fraction": 0, "standardise": False}
    chosen = {"name": "Newton", "solver": solver}
    run = rlgrad.train(
        given | {"l2": l2, "intercept": intercept, "optimizer": chosen, "updates": 8}, out=tmp_path / "r"
    )
    expected = by_hand(x, y, l2, intercept)
    np.testing.assert_allclose(rlgrad.load(tmp_path / "r").predict_proba(x), expected, atol=2e-4)
    assert run.problem.facts["scaling"] == "Newton's curvature is scaled, and computed in double precision"


def by_hand(x: np.ndarray, y: np.ndarray, l2: float, intercept: bool) -> np.ndarray:
    """The penalised optimum by scipy, in the file's units, its step measured by their deviations: [N, K]."""
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    scale, shift = x.std(0), x.mean(0) if intercept else np.zeros(3)
    z, classes = (x - shift) / scale, y.max() + 1
    columns = 1 if classes == 2 else classes

    def scores(w: np.ndarray) -> np.ndarray:
        found = z @ w[:-columns].reshape(3, columns) + intercept * w[-columns:]
        return np.column_stack([np.zeros(len(y)), found]) if columns == 1 else found

    def cost(w: np.ndarray) -> float:
        penalty = l2 / 2 * np.square(w[:-columns].reshape(3, columns) / scale[:, None]).sum()
        return float(-log_softmax(scores(w), axis=1)[np.arange(len(y)), y].mean() + penalty)

    found = minimize(cost, np.zeros(4 * columns), tol=1e-14, options={"maxiter": 5000})
    return np.exp(log_softmax(scores(found.x), axis=1))


def test_many_classes_need_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The eigenvectors of 640 weights and intercepts take a hundred times as long as conjugate gradients."""
    monkeypatch.setattr(Information, "matrix", lambda _: pytest.fail("the whole curvature was worked out"))
    given = {"problem": "logistic", "data": "digits", "l2": 1e-3, "updates": 1}
    built = load_config(given | {"optimizer": {"name": "Newton"}}).build()
    next(updates(built.problem, built.optimizer))
    assert float(built.problem.evaluate(0)["accuracy"]) > 0.95

"""Machine Learning in Action, chapter 5: its three procedures are configs, and their numbers are reproduced.

The data is not part of the project. Where it is: the environment variable RLGRAD_DATA, or ../shared/data.
"""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlgrad import updates
from rlgrad.config import Built, load_config
from rlgrad.problems.logistic import Logistic

DATA = Path(os.environ.get("RLGRAD_DATA", Path(__file__).parents[2] / "shared" / "data"))
TEST_SET, COLIC, RAW = DATA / "mlia" / "testSet.txt", DATA / "mlia", DATA / "horse_colic"

pytestmark = pytest.mark.skipif(not TEST_SET.is_file(), reason=f"no data in {DATA}")


def built(config: str, data: Path = TEST_SET, **overrides: Any) -> Built:
    return load_config(config, {"data": str(data)} | overrides).build()


def train(parts: Built, count: int) -> Logistic:
    for _ in itertools.islice(updates(parts.problem, parts.optimizer), count):
        if parts.schedule:
            parts.schedule.step()
    problem: Logistic = parts.problem
    return problem


def coefficients(problem: Logistic) -> np.ndarray:
    """Intercept and weights [R, 1 + D]."""
    linear = problem.model.linear
    return torch.cat([linear.bias.flatten(1), linear.weight.flatten(1)], 1).detach().numpy()


def errors(problem: Logistic) -> float:
    """Wrong answers among the held-out examples, mean over replicas."""
    return round(float((1 - problem.evaluate(0)["accuracy"]).mean()) * len(problem.dataset.test_y), 9)


def test_batch_ascent() -> None:
    problem = train(built("textbook_batch"), 500)
    np.testing.assert_allclose(coefficients(problem)[0], [4.124143, 0.480073, -0.616848], atol=1e-6)
    assert errors(problem) == 4


def test_one_stochastic_pass() -> None:
    problem = train(built("textbook_stochastic"), 100)
    np.testing.assert_allclose(coefficients(problem)[0], [1.017020, 0.859143, -0.365799], atol=1e-6)
    assert errors(problem) == 28


NEWTON = {
    "name": "LBFGS",
    "lr": 1,
    "line_search_fn": "strong_wolfe",
    "tolerance_grad": 1e-10,
    "tolerance_change": 1e-14,
}


def test_maximum_likelihood() -> None:
    problem = train(built("textbook_batch", optimizer=NEWTON), 30)
    found = coefficients(problem)[0]
    np.testing.assert_allclose(found, [14.752147, 1.253583, -2.002673], atol=1e-6)
    assert float(problem.objective(problem.sample(0)).value.detach()) == pytest.approx(-9.315761, abs=1e-6)
    assert errors(problem) == 5
    x = np.column_stack([np.ones(100), problem.dataset.x.numpy()])
    p = 1 / (1 + np.exp(-x @ found))
    deviations = np.sqrt(np.diag(np.linalg.inv((x.T * (p * (1 - p))) @ x)))
    np.testing.assert_allclose(deviations, [4.395, 0.577, 0.592], atol=5e-4)


def test_with_a_penalty() -> None:
    problem = train(built("textbook_batch", optimizer=NEWTON, l2=1.0), 30)
    np.testing.assert_allclose(coefficients(problem)[0], [11.386066, 0.857678, -1.542325], atol=1e-6)
    log_loss = float(problem.evaluate(0)["log_loss"])
    assert 100 * log_loss == pytest.approx(9.774, abs=5e-4)


STEPS = 350  # into another epoch; steps as large as these make more of every rounding error


@pytest.mark.parametrize("config", ["textbook_decaying", "textbook_decaying_printed"])
@pytest.mark.parametrize("colic", [False, True])
def test_decaying_steps_are_those_of_plain_numpy(config: str, colic: bool) -> None:
    """The book's program, given the rows that our streams draw."""
    overrides: dict[str, Any] = {"replicas": 2}
    if colic:
        overrides |= {"intercept": False, "test_data": str(COLIC / "horseColicTest.txt"), "schedule.epoch_length": 299}
    parts = built(config, COLIC / "horseColicTraining.txt" if colic else TEST_SET, **overrides)
    problem = train(parts, STEPS)
    x, y = problem.dataset.x.numpy(), problem.dataset.y.numpy()
    if not colic:
        x = np.column_stack([np.ones(len(x)), x])
    for replica in range(2):
        w = np.ones(x.shape[1])
        for step in range(STEPS):
            epoch, i = divmod(step, len(y))
            row = int(problem.minibatches.order(epoch)[replica, i])
            w += (4 / (1.0 + epoch + i) + 0.01) * (y[row] - 1 / (1 + np.exp(-np.clip(x[row] @ w, -700, 700)))) * x[row]
        np.testing.assert_allclose(coefficients(problem)[replica][int(colic) :], w, rtol=1e-6, atol=1e-6)


def test_the_slip_draws_the_first_rows_too_often() -> None:
    slipped, mended = (
        built(f"textbook_decaying{end}", replicas=50).problem.minibatches.order(0) for end in ("_printed", "")
    )
    assert all(len(set(rows.tolist())) == 100 for rows in mended)
    expected = np.array([sum(1 / n for n in range(max(row + 1, 1), 101)) for row in range(100)])
    counts = np.bincount(slipped.flatten(), minlength=100) / 50
    assert abs(counts[0] - expected[0]) < 1.5  # 5.2 times, where a shuffle takes every row once
    assert np.corrcoef(counts, expected)[0, 1] > 0.9


def colic(**overrides: Any) -> Built:
    files = {"test_data": str(COLIC / "horseColicTest.txt")}
    settings: dict[str, Any] = {"test_fraction": 0, "reduction": "mean", "optimizer": NEWTON, "standardise": True}
    return built("textbook_batch", COLIC / "horseColicTraining.txt", **files | settings | overrides)


def quality(problem: Logistic, prefix: str = "") -> list[float]:
    found = problem.evaluate(0)
    return [1 - float(found[f"{prefix}accuracy"]), float(found[f"{prefix}log_loss"])]


def test_a_constant_is_hard_to_beat() -> None:
    problem = colic().problem
    assert quality(problem, "prior_") == pytest.approx([0.299, 0.634], abs=5e-4)


def test_horse_colic_standardised_with_a_penalty() -> None:
    problem = train(colic(l2=1 / (299 * 0.0464159)), 20)
    assert [*quality(problem), float(problem.evaluate(0)["auc"])] == pytest.approx([0.224, 0.544, 0.773], abs=6e-4)


def test_horse_colic_with_missing_values_kept_as_such() -> None:
    parts = built("horse_colic", RAW / "horse-colic.data", test_data=str(RAW / "horse-colic.test"))
    problem = train(parts, 20)
    assert [*quality(problem), float(problem.evaluate(0)["auc"])] == pytest.approx([0.224, 0.517, 0.785], abs=6e-4)
    assert problem.dataset.x.shape == (299, 40)

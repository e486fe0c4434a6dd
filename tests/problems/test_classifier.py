"""A multilayer perceptron on tables: what a line cannot separate, its gradient, and what is kept of it."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rlgrad
from rlgrad.config import load_config
from rlgrad.loop import updates

EXAMPLES = 200


def ring(path: Path, kind: str) -> np.ndarray:
    """Points [N, 2] whose label is whether, or how far, they are from the middle."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (EXAMPLES, 2)).round(3)
    far = (x**2).sum(1)
    y = far.round(3) if kind == "gaussian" else np.digitize(far, [0.5] if kind == "two" else [0.3, 0.8])
    path.write_text("a,b,y\n" + "\n".join(f"{a},{b},{c}" for (a, b), c in zip(x.tolist(), y.tolist(), strict=True)))
    return x


def settings(path: Path, kind: str, **more: Any) -> dict[str, Any]:
    given = {"problem": "classifier", "data": str(path), "hidden": [16, 8], "updates": 150, "l2": 1e-4}
    given |= {"family": "gaussian"} if kind == "gaussian" else {}
    return given | {"optimizer": {"name": "Adam", "lr": 0.03}} | more


@pytest.mark.parametrize(
    ("kind", "objective"),
    [("two", "negative_log_likelihood"), ("three", "log_likelihood"), ("gaussian", "negative_log_likelihood")],
)
def test_it_learns_what_no_line_separates_and_is_used(tmp_path: Path, kind: str, objective: str) -> None:
    x = ring(tmp_path / "t.csv", kind)
    run = rlgrad.train(settings(tmp_path / "t.csv", kind, objective=objective, replicas=2), out=tmp_path / "run")
    name = "squared_error" if kind == "gaussian" else "accuracy"
    found, constant = (run.summary[f"evaluation.{which}{name}"]["mean"] for which in ("", "prior_"))
    assert found < 0.1 * constant if kind == "gaussian" else found > max(0.85, constant)
    model = rlgrad.load(tmp_path / "run", replica=1)
    predicted = model.predict(x)
    inner = run.problem.model(torch.from_numpy(model.preprocessing(x)).float().expand(2, -1, -1))
    if kind == "gaussian":
        np.testing.assert_allclose(predicted, inner.mean[1].detach(), atol=1e-5)
    else:
        probabilities = inner.probs[1].detach().numpy()
        ours = model.predict_proba(x)
        np.testing.assert_allclose(ours if kind == "three" else ours[:, 1], probabilities, atol=1e-5)


@pytest.mark.parametrize("objective", ["log_likelihood", "negative_log_likelihood"])
def test_its_gradient_is_that_of_finite_differences(tmp_path: Path, objective: str) -> None:
    ring(tmp_path / "t.csv", "three")
    given = settings(tmp_path / "t.csv", "three", objective=objective, dtype="float64", l2=0.1, hidden=[3])
    problem = load_config(given).build().problem
    batch = problem.sample(0)
    problem.objective(batch).value.sum().backward()
    for parameter in problem.model.parameters():
        flat, grad = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(0, len(flat), 5):
            ends = []
            for step in (1e-5, -1e-5):
                flat[place] += step
                ends.append(float(problem.objective(batch).value))
                flat[place] -= step
            assert float(grad[place]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-8)


def test_ascent_and_descent_end_with_the_same_bits(tmp_path: Path) -> None:
    ring(tmp_path / "t.csv", "two")
    ends = []
    for objective in ("log_likelihood", "negative_log_likelihood"):
        built = load_config(settings(tmp_path / "t.csv", "two", objective=objective, batch_size=32)).build()
        for _ in islice(updates(built.problem, built.optimizer), 20):
            pass
        ends.append([parameter.detach() for parameter in built.problem.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_without_hidden_layers_it_is_logistic_regression(tmp_path: Path) -> None:
    ring(tmp_path / "t.csv", "two")
    newton = {"optimizer": {"name": "Newton"}, "updates": 3, "l2": 0.01, "dtype": "float64"}
    wide = rlgrad.train(settings(tmp_path / "t.csv", "two", hidden=[], **newton), out=tmp_path / "a")
    plain = settings(tmp_path / "t.csv", "two", problem="logistic", **newton)
    plain.pop("hidden")
    straight = rlgrad.train(plain, out=tmp_path / "b")
    values = [run.summary["objective"]["mean"] for run in (wide, straight)]
    assert values[0] == pytest.approx(values[1], rel=1e-9)

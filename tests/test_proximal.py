"""The penalty l1: the optimum is scikit-learn's, its zeros are zeros, and a step is the minimum of its quadratic."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from rlgrad.config import load_config
from rlgrad.errors import UsageError
from rlgrad.loop import updates
from rlgrad.optimizers.proximal import coordinates

pytest.importorskip("sklearn")


def solved(steps: int = 3, **settings: Any) -> Any:
    given = {"problem": "logistic", "data": "breast_cancer", "updates": steps, "dtype": "float64"}
    built = load_config(given | {"optimizer": {"name": "Newton", "tolerance": 1e-13}} | settings).build()
    for _ in islice(updates(built.problem, built.optimizer), steps):
        pass
    return built.problem


@pytest.mark.parametrize(
    ("objective", "data", "l1", "l2"),
    [
        ("log_likelihood", "iris", 0.02, 0.0),
        ("log_likelihood", "breast_cancer", 0.01, 0.05),
        ("negative_log_likelihood", "iris", 0.01, 0.05),
        ("negative_log_likelihood", "breast_cancer", 0.02, 0.0),
    ],
)
def test_the_optimum_and_its_zeros_are_scikit_learn_s(objective: str, data: str, l1: float, l2: float) -> None:
    from sklearn.linear_model import LogisticRegression

    problem = solved(l1=l1, l2=l2, data=data, objective=objective)
    x, y = problem.dataset.x.numpy(), problem.dataset.y.numpy()
    twin = LogisticRegression(
        C=1 / ((l1 + l2) * len(y)), l1_ratio=l1 / (l1 + l2), solver="saga", tol=1e-9, max_iter=100_000
    ).fit(x, y)
    found = problem.model.linear.weight[0].detach().numpy().T
    np.testing.assert_allclose(found, twin.coef_, atol=2e-4)
    zero = np.abs(twin.coef_) < 1e-12
    assert zero.sum() > 2
    assert (found[zero] == 0).all()
    assert "left to gain" in problem.conclusion()[0]
    assert problem.conclusion()[0].startswith("converged")


def test_penalties_are_swept_side_by_side() -> None:
    """A path of l1, each as it is alone."""
    path = solved(l1={"sweep": [0.3, 0.1, 0.01]})
    for k, l1 in enumerate((0.3, 0.1, 0.01)):
        alone = solved(l1=l1)
        torch.testing.assert_close(path.model.linear.weight[k], alone.model.linear.weight[0], atol=1e-5, rtol=0)
    assert ((path.model.linear.weight == 0).sum((1, 2)).diff() < 0).all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_proximal_steps_come_to_the_same_zeros(momentum: float) -> None:
    best = solved(l1=0.03, l2=0.1)
    optimizer = {"name": "Proximal", "lr": 0.2, "momentum": momentum}
    slow = solved(800, l1=0.03, l2=0.1, optimizer=optimizer)
    a, b = (problem.model.linear.weight[0].detach() for problem in (best, slow))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    assert torch.equal(a == 0, b == 0)
    assert (a == 0).sum() >= 10


def test_the_predicted_change_is_that_of_a_small_step() -> None:
    given = {"problem": "logistic", "data": "breast_cancer", "updates": 1, "dtype": "float64", "l1": 0.05}
    built = load_config(given | {"initial_deviation": 0.5, "optimizer": {"name": "Proximal", "lr": 1e-6}}).build()
    before = [p.detach().clone() for p in built.problem.model.parameters()]
    update = next(updates(built.problem, built.optimizer))
    moved = [p.detach() - b for p, b in zip(built.problem.model.parameters(), before, strict=True)]
    promised = sum((g * m).sum((1, 2)) for g, m in zip(update.gradient, moved, strict=True))
    found = built.problem.diagnose(update, promised)
    assert float(found["objective/predicted_change"]) == pytest.approx(
        float(found["objective/achieved_change"]), rel=1e-3
    )


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_step_is_the_minimum_of_the_quadratic_and_the_kink(replicas: int) -> None:
    """Where no element of a subgradient can be 0, it is none: the optimality of Karush, Kuhn and Tucker."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((replicas, 6, 6))
    matrix, slope = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(6), rng.standard_normal((replicas, 6))
    at, kink = rng.standard_normal((replicas, 6)), np.array([0.0, 0.5, 1, 1, 2, 100]) * np.ones((replicas, 1))
    there = at + coordinates(matrix, slope, at, kink)
    smooth = slope + np.einsum("rpq,rq->rp", matrix, there - at)
    on = there != 0
    np.testing.assert_allclose(smooth[on], -(kink * np.sign(there))[on], atol=1e-5)
    assert (np.abs(smooth[~on]) <= kink[~on] + 1e-9).all()
    assert not on[:, 5].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": {"name": "Adam", "lr": 0.1}}, "l1: Adam cannot make weights exactly 0: take Newton, or"),
        ({"optimizer": {"name": "Newton", "solver": "cg"}}, "l1: it cannot be used with solver: cg"),
        ({"gradient": "autograd"}, "l1: it cannot be used with gradient: autograd"),
        ({"wrong_sign": True}, "l1: it cannot be used with wrong_sign"),
        (
            {"optimizer": {"name": "Proximal", "lr": 0.1, "momentum": 1.0}},
            "momentum must be at least 0 and below 1, not 1.0",
        ),
    ],
)
def test_what_it_does_not_go_with_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        solved(**{"l1": 0.1, **settings})

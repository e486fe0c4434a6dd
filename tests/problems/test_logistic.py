import itertools

import numpy as np
import pytest
import torch

from rlgrad import updates
from rlgrad.config import Built, load_config
from rlgrad.loop import differentiate
from rlgrad.problems.logistic import Logistic

pytest.importorskip("sklearn")

SETTINGS = {
    "problem": "logistic",
    "data": "breast_cancer",
    "updates": 1,
    "optimizer": {"name": "SGD", "lr": 0.1},
}


def built(**settings: object) -> Built:
    return load_config(SETTINGS | settings).build()


def run(parts: Built, steps: int) -> Logistic:
    for _ in itertools.islice(updates(parts.problem, parts.optimizer), steps):
        if parts.schedule:
            parts.schedule.step()
    problem: Logistic = parts.problem
    return problem


def weights(problem: Logistic) -> list[torch.Tensor]:
    return [p.detach() for p in problem.model.parameters()]


@pytest.mark.parametrize("data", ["breast_cancer", "iris"])
@pytest.mark.parametrize("objective", ["log_likelihood", "negative_log_likelihood"])
def test_the_gradient_is_the_closed_form(float64: None, data: str, objective: str) -> None:
    problem = built(data=data, objective=objective, l2=0.3, initial_deviation=0.5, replicas=2, dtype="float64").problem
    batch = problem.sample(0)
    estimate = problem.objective(batch)
    differentiate(estimate, list(problem.model.parameters()))
    linear, x, n = problem.model.linear, problem.dataset.x, len(problem.dataset.y)
    for replica in range(2):
        w, b = linear.weight[replica].detach(), linear.bias[replica].detach()
        logits = x @ w + b
        if problem.dataset.classes == 2:
            p, y = torch.sigmoid(logits), problem.dataset.y.unsqueeze(1)
            likelihood = (y * logits - torch.log1p(logits.exp())).mean()
        else:
            p = logits.softmax(1)
            y = torch.eye(problem.dataset.classes)[problem.dataset.y]
            likelihood = (y * logits).sum(1).mean() - logits.logsumexp(1).mean()
        sign = 1 if objective == "log_likelihood" else -1
        assert torch.allclose(linear.weight.grad[replica], sign * (x.T @ (y - p) / n - 0.3 * w), atol=1e-12)
        assert torch.allclose(linear.bias.grad[replica], sign * (y - p).mean(0, keepdim=True), atol=1e-12)
        value = estimate.value[replica].detach()
        assert torch.allclose(value, sign * (likelihood - 0.15 * w.square().sum()), atol=1e-12)


@pytest.mark.parametrize(("data", "l2"), [("breast_cancer", 0.01), ("iris", 0.02)])
@pytest.mark.parametrize("objective", ["log_likelihood", "negative_log_likelihood"])
@pytest.mark.parametrize(
    ("optimizer", "updates_needed"),
    [
        ({"name": "LBFGS", "line_search_fn": "strong_wolfe", "tolerance_change": 1e-14, "tolerance_grad": 1e-10}, 30),
        ({"name": "Newton", "tolerance": 1e-15}, 1),
        ({"name": "Newton", "tolerance": 1e-15, "solver": "cg", "max_iter": 40}, 1),
    ],
    ids=["LBFGS", "Newton", "Newton-cg"],
)
def test_the_optimum_is_scikit_learn_s(
    float64: None, data: str, l2: float, objective: str, optimizer: dict, updates_needed: int
) -> None:
    from sklearn.linear_model import LogisticRegression

    parts = built(data=data, l2=l2, objective=objective, optimizer=optimizer, dtype="float64")
    problem = run(parts, updates_needed)
    x, y = problem.dataset.x.numpy(), problem.dataset.y.numpy()
    reference = LogisticRegression(C=1 / (l2 * len(y)), tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(x, y)
    weight, bias = weights(problem)
    if problem.dataset.classes > 2:  # intercepts are free up to a common constant: compare their differences
        np.testing.assert_allclose(weight[0].T, reference.coef_, atol=1e-6)
        np.testing.assert_allclose(
            bias[0, 0] - bias[0, 0].mean(), reference.intercept_ - reference.intercept_.mean(), atol=1e-6
        )
    else:
        np.testing.assert_allclose(weight[0, :, 0], reference.coef_[0], atol=1e-6)
        np.testing.assert_allclose(bias[0, 0], reference.intercept_, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "SGD", "lr": 0.5, "momentum": 0.9, "weight_decay": 0.01},
        {"name": "LBFGS", "max_iter": 3},
        {"name": "Newton", "max_iter": 2},
        {"name": "Newton", "max_iter": 2, "solver": "cg"},
    ],
)
@pytest.mark.parametrize("data", ["breast_cancer", "iris"])
def test_ascent_and_descent_end_with_the_same_weights_bit_for_bit(data: str, optimizer: dict) -> None:
    def trained(objective: str) -> list[torch.Tensor]:
        settings = {"data": data, "batch_size": 16, "l2": 0.01, "replicas": 2, "initial_deviation": 0.1}
        return weights(run(built(objective=objective, optimizer=optimizer, **settings), 40))

    for up, down in zip(trained("log_likelihood"), trained("negative_log_likelihood"), strict=True):
        assert torch.equal(up, down)
        assert up.abs().max() > 0


def test_the_shipped_pair_ends_with_equal_weights() -> None:
    up, down = (run(load_config(name).build(), 400) for name in ("breast_cancer_ascent", "breast_cancer"))
    assert all(torch.equal(a, b) for a, b in zip(weights(up), weights(down), strict=True))
    assert up.direction is not down.direction


def test_an_epoch_sees_every_example_once_and_each_in_an_order_of_its_own() -> None:
    problem = built(batch_size=64, replicas=2).problem
    examples = len(problem.dataset.y)
    per_epoch = -(-examples // 64)

    def epoch(number: int) -> torch.Tensor:
        batches = [problem.sample(number * per_epoch + i) for i in range(per_epoch)]
        return torch.cat([batch.x for batch in batches], 1)

    first, second = epoch(0), epoch(1)
    for rows in (*first, *second):
        assert torch.equal(rows.sort(0).values, problem.dataset.x.sort(0).values)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, epoch(0))  # any update can be done again


@pytest.mark.parametrize("data", ["breast_cancer", "iris"])
@pytest.mark.parametrize("batch_size", [32, None])
@pytest.mark.parametrize(
    "optimizer", [{"name": "Adam", "lr": 0.1}, {"name": "Newton"}, {"name": "Newton", "solver": "cg"}]
)
def test_a_frozen_or_spoiled_replica_leaves_the_others_as_they_are(
    optimizer: dict, batch_size: int | None, data: str
) -> None:
    def trained(spoil: float | None) -> list[torch.Tensor]:
        parts = built(data=data, batch_size=batch_size, replicas=3, optimizer=optimizer, l2=0.01)
        if spoil is not None:
            with torch.no_grad():
                for parameter in parts.problem.model.parameters():
                    parameter[1] = spoil
        return weights(run(parts, 3))

    untouched = trained(None)
    for spoil in (torch.nan, 1e3):
        for a, b in zip(untouched, trained(spoil), strict=True):
            assert torch.equal(a[[0, 2]], b[[0, 2]])


def test_only_the_training_part_is_measured_to_standardise() -> None:
    dataset = built().problem.dataset
    assert torch.allclose(dataset.x.mean(0), torch.zeros(30), atol=1e-5)
    assert torch.allclose(dataset.x.std(0, correction=0), torch.ones(30), atol=1e-4)
    assert (dataset.test_x.mean(0).abs() > 1e-3).any()
    raw = built(standardise=False).problem.dataset
    mean, deviation = raw.x.mean(0), raw.x.std(0, correction=0)
    assert torch.allclose(dataset.test_x, (raw.test_x - mean) / deviation, atol=1e-3)


@pytest.mark.parametrize("data", ["breast_cancer", "iris"])
def test_evaluation_is_scikit_learn_s_and_so_is_the_constant_beside_it(data: str) -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.metrics import accuracy_score, log_loss

    problem = run(built(data=data), 20)
    dataset, found = problem.dataset, problem.evaluate(0)
    p = problem.model(dataset.test_x.unsqueeze(0)).probs[0].detach()
    y = dataset.test_y
    assert float(found["accuracy"]) == pytest.approx(accuracy_score(y, p.argmax(1) if data == "iris" else p > 0.5))
    assert float(found["log_loss"]) == pytest.approx(log_loss(y, p), abs=1e-6)
    constant = DummyClassifier(strategy="prior").fit(dataset.x, dataset.y)
    assert float(found["prior_accuracy"]) == pytest.approx(constant.score(dataset.test_x, y))
    assert float(found["prior_log_loss"]) == pytest.approx(
        log_loss(y, constant.predict_proba(dataset.test_x)), abs=1e-6
    )


def test_digits_reach_their_accuracy() -> None:
    config = load_config("digits", {"replicas": 2})
    problem = run(config.build(), config.settings.updates)
    assert (problem.evaluate(0)["accuracy"] >= 0.95).all()


def test_the_slip_draws_the_example_of_update_i_from_the_first_n_less_i() -> None:
    """Each of them alike: in many epochs the mean row of update i is (N - i - 1) / 2."""
    problem = built(order="slipped", batch_size=1, replicas=400).problem
    rows = problem.minibatches.order(0).double()  # [R, N]
    examples = rows.shape[1]
    last = torch.arange(examples - 1, -1, -1)  # the last row that there is to draw from
    assert (rows <= last).all()
    deviation = (((last + 1.0) ** 2 - 1) / 12 / 400).sqrt()
    assert ((rows.mean(0) - last / 2).abs() <= 5 * deviation).all()

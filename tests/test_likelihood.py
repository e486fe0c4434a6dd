"""Closed forms are held against what autograd finds by way of the model's distribution."""

from typing import Any

import numpy as np
import pytest
import torch

from rlgrad.loop import differentiate
from rlgrad.optimizers.curvature import Differentiated
from rlgrad.problems.logistic import Logistic, Settings
from rlgrad.replicas import flatten
from rlgrad.supervised import likelihood
from rlgrad.supervised.data import Dataset
from rlgrad.supervised.families import family_of
from rlgrad.supervised.families.family import average
from rlgrad.supervised.likelihood import for_each
from rlgrad.supervised.minibatches import Batch

EXAMPLES, FEATURES, REPLICAS = 50, 4, 3


def made(classes: int | str, counted: bool = False, **settings: Any) -> Logistic:
    """A problem on data that no linear model separates, each replica at weights of its own. classes: how many, or
    another family. counted: whether examples count, and penalties are, as much as each replica has it."""
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.standard_normal((EXAMPLES, FEATURES)))
    y = torch.from_numpy(rng.integers(0, classes if isinstance(classes, int) else 4, EXAMPLES))
    given = {"replicas": REPLICAS, "initial_deviation": 0.7, "l2": 0.3, "optimizer": {"name": "SGD"}} | settings
    if isinstance(classes, str):
        given, classes = given | {"family": classes}, 1
    y = y if classes > 2 else y.double()
    counts = torch.from_numpy(rng.integers(0, 3, (REPLICAS, EXAMPLES)).astype(float)) if counted else None
    dataset = Dataset(x, y, x, y, classes, sample_weight=counts)
    problem = Logistic(Settings(data="made.csv", updates=1, **given), dataset)
    if counted:
        problem.decay = rng.random((REPLICAS, FEATURES, 1))
    return problem


def drawn(problem: Logistic, shared: bool) -> Batch:
    """All examples, or other ones for each replica."""
    if shared:
        return problem.sample(0)
    rows = torch.from_numpy(np.random.default_rng(2).integers(0, EXAMPLES, (REPLICAS, 30)))
    return problem.minibatches.gathered(rows)


@pytest.mark.usefixtures("either_library")
@pytest.mark.parametrize("pieces", [0, 1, 7])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("classes", [2, 3, "poisson", "gaussian"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"counted": True},
        {"objective": "log_likelihood", "reduction": "sum"},
        {"l2": 0.0},
        {"intercept": False, "objective": "log_likelihood"},
    ],
    ids=str,
)
def test_value_gradient_and_metrics_are_autograd_s(
    float64: None, monkeypatch: pytest.MonkeyPatch, settings: dict, classes: int | str, shared: bool, pieces: int
) -> None:
    monkeypatch.setattr(likelihood, "PIECE", EXAMPLES * FEATURES // max(pieces, 1))

    def found(gradient: str) -> tuple[torch.Tensor, list[torch.Tensor | None], dict[str, torch.Tensor]]:
        problem = made(classes, gradient=gradient, **settings)
        estimate = problem.objective(drawn(problem, shared))
        assert (estimate.gradient is None) == (gradient == "autograd")
        parameters = list(problem.model.parameters())
        differentiate(estimate, parameters)
        return estimate.value.detach(), [p.grad for p in parameters], dict(estimate.metrics)

    closed, twin = found("closed_form"), found("autograd")
    torch.testing.assert_close(closed, twin, rtol=1e-12, atol=1e-12)
    assert len({float(value) for value in closed[0]}) == REPLICAS


@pytest.mark.usefixtures("either_library")
@pytest.mark.parametrize("pieces", [0, 1, 7])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("classes", [2, 4, "poisson", "gaussian"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"counted": True}, {"objective": "log_likelihood", "reduction": "sum"}, {"intercept": False}],
    ids=str,
)
def test_the_curvature_is_autograd_s(
    float64: None, monkeypatch: pytest.MonkeyPatch, settings: dict, classes: int | str, shared: bool, pieces: int
) -> None:
    monkeypatch.setattr(likelihood, "PIECE", EXAMPLES * FEATURES // max(pieces, 1))
    problem, plain = made(classes, **settings), made(classes, gradient="autograd", **settings)
    batch = drawn(problem, shared)
    curvature, twin = (made.objective(batch).curvature() for made in (problem, plain))
    assert isinstance(twin, Differentiated)
    assert not isinstance(curvature, Differentiated)
    matrix = curvature.matrix()
    np.testing.assert_allclose(matrix, twin.matrix(), rtol=1e-11, atol=1e-12)
    v = np.random.default_rng(0).standard_normal((REPLICAS, matrix.shape[1]))
    product = np.einsum("rpq,rq->rp", matrix, v)
    np.testing.assert_allclose(curvature.times(v), product, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(twin.times(v), product, rtol=1e-11, atol=1e-12)
    if classes not in (3, 4):  # there the rough inverse is the inverse, of the positive one of ±H
        np.testing.assert_allclose(problem.direction.opposite.sign * curvature.undo(product), v, rtol=1e-8, atol=1e-8)
    else:
        assert ((curvature.undo(v) * v).sum(1) > 0).all()


@pytest.mark.parametrize("gradient", ["closed_form", "autograd"])
@pytest.mark.usefixtures("either_library")
@pytest.mark.parametrize("pieces", [0, 7])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_an_example_of_weight_n_counts_n_times(
    float64: None, monkeypatch: pytest.MonkeyPatch, classes: int, shared: bool, pieces: int, gradient: str
) -> None:
    monkeypatch.setattr(likelihood, "PIECE", EXAMPLES * FEATURES // max(pieces, 1))
    problem = made(classes, gradient=gradient, reduction="sum")
    x, y, _ = drawn(problem, shared)
    times = torch.from_numpy(np.random.default_rng(3).integers(0, 4, y.shape[1]))  # 0, too
    weighted = Batch(x, y, times.to(x.dtype).expand(y.shape))
    repeated = Batch(x.repeat_interleave(times, 1), y.repeat_interleave(times, 1))

    def found(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        estimate = problem.objective(batch)
        curvature = estimate.curvature()
        differentiate(estimate, list(problem.model.parameters()))
        slope = flatten(p.grad for p in problem.model.parameters())
        matrix, product = curvature.matrix(), curvature.times(slope.numpy())
        return estimate.value.detach(), slope, torch.from_numpy(matrix), torch.from_numpy(product)

    torch.testing.assert_close(found(weighted), found(repeated), rtol=1e-11, atol=1e-11)


def test_minibatches_carry_the_weights_of_their_examples(float64: None) -> None:
    for options in ({}, {"batch_size": 7}, {"batch_size": 7, "batch_growth": 1.5}):
        problem = made(2, **options)
        weight = torch.arange(EXAMPLES, dtype=torch.float64)
        dataset = problem.dataset._replace(x=weight[:, None].expand(-1, FEATURES), sample_weight=weight)
        weighted = Logistic(problem.settings, dataset)
        for step in range(9):
            x, _, counts = weighted.sample(step)
            torch.testing.assert_close(x[:, :, 0], counts)


def test_autograd_s_curvature_is_that_of_torch_s_hessian(float64: None) -> None:
    def function(point: torch.Tensor) -> torch.Tensor:
        return (point.sin() * point.roll(1, -1).square()).sum(-1)

    point = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    matrix = torch.from_numpy(Differentiated(function(point), [point]).matrix())
    for replica in range(3):
        exact = torch.autograd.functional.hessian(function, point[replica].detach())
        torch.testing.assert_close(matrix[replica], exact)


def test_single_precision_loses_nothing_where_scores_are_large() -> None:
    weight, bias = torch.full((1, 1, 1), 1.0), torch.zeros(1, 1, 1)
    x, y = torch.tensor([[[-90.0], [-30.0], [0.0], [30.0], [90.0]]]), torch.tensor([[0.0, 1, 0, 1, 1]])
    found = likelihood.penalised(family_of("logistic", 2), weight, bias, x, y, 1.0, 0.0)
    assert float(found.value) == pytest.approx(-30 - np.log(2))
    assert float(found.weight) == pytest.approx(-30)


def test_metrics_are_of_the_weights_before_the_step_though_asked_for_after_it(float64: None) -> None:
    problem = made(2)
    estimate = problem.objective(problem.sample(0))
    with torch.no_grad():
        for parameter in problem.model.parameters():
            parameter.zero_()
    again = made(2)
    expected = dict(again.objective(again.sample(0)).metrics)
    assert {name: value.tolist() for name, value in estimate.metrics.items()} == {
        name: value.tolist() for name, value in expected.items()
    }
    assert flatten(problem.model.parameters()).abs().max() == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [2, 3])
def test_numbers_too_large_are_not_finite_and_nothing_is_said(classes: int) -> None:
    problem = made(classes)
    with torch.no_grad():
        problem.model.linear.weight[0] = 1e308
    estimate = problem.objective(problem.sample(0))
    assert not estimate.gradient[0][0].isfinite().all()
    assert estimate.gradient[0][1:].isfinite().all()
    estimate.curvature().matrix()


@pytest.mark.parametrize("xp", [np, torch])
def test_sums_over_pieces_are_taken_in_double_precision(xp: Any) -> None:
    """In single precision 2²⁴ + 1 is 2²⁴."""
    parts = [(xp.ones(1, dtype=xp.float32) * 2**24,), *[(xp.ones(1, dtype=xp.float32),)] * 4]
    (found,) = likelihood.total(xp, iter(parts))
    assert found.tolist() == [2**24 + 4]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("torch_s", [True, False])
def test_what_is_nearly_certain_keeps_its_digits(classes: int, torch_s: bool) -> None:
    """log p of the right label at a score of 25: -log(1 + (K - 1) e⁻²⁵), far below the rounding of the score."""
    score = torch.tensor([25.0, -25.0], dtype=torch.float64)  # [B]
    scores = score.reshape(1, 1, 2) if classes == 2 else torch.stack([torch.zeros(2), score, -score]).double()[None]
    y = torch.tensor([[1.0, 0.0]]) if classes == 2 else torch.tensor([[1, 2]])
    each = family_of("logistic", classes).parts
    found = each(torch, scores, y.double() if classes == 2 else y) if torch_s else each(np, scores.numpy(), y.numpy())
    rest = np.exp(-25.0) + (np.exp(-50.0) if classes == 3 else 0.0)
    digits = 1e-12 if classes == 2 else 1e-4  # of K classes the largest score is taken off: 1 + e⁻²⁵ is rounded
    assert np.asarray(found[0])[0].tolist() == pytest.approx([-np.log1p(rest)] * 2, rel=digits)
    assert np.asarray(found[2]).sum(1) == pytest.approx(0 if classes == 3 else np.array([[rest, -rest]]), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_preconditioner_is_the_inverse_of_the_mean_block(classes: int, intercept: bool, float64: None) -> None:
    problem = made(classes, intercept=intercept)
    curvature = problem.objective(problem.sample(0)).curvature()
    matrix = np.abs(problem.direction.sign) * curvature.matrix()
    k, size = (1 if classes == 2 else classes), FEATURES + intercept
    blocks = matrix.reshape(REPLICAS, size, k, size, k)
    mean = sum(blocks[:, :, one, :, one] for one in range(k)) / k
    v = np.random.default_rng(0).normal(size=(REPLICAS, size * k))
    expected = np.linalg.solve(mean, v.reshape(REPLICAS, size, k)).reshape(v.shape)
    assert np.allclose(curvature.undo(v), expected, rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("objective", ["log_likelihood", "negative_log_likelihood"])
def test_half_of_the_examples_have_the_curvature_of_all_where_each_is_there_twice(
    reduction: str, objective: str, float64: None
) -> None:
    found = []
    for examples in (None, EXAMPLES):
        problem = made(3, reduction=reduction, objective=objective, curvature_examples=examples)
        batch = problem.sample(0)
        twice = Batch(batch.x.repeat_interleave(2, 1), batch.y.repeat_interleave(2, 1))
        found.append(problem.objective(twice).curvature().matrix())
    assert np.allclose(*found, rtol=1e-12)


@pytest.mark.parametrize("xp", [np, torch])
def test_large_counts_keep_their_digits_in_single_precision(xp: Any) -> None:
    """scipy's log-probabilities in double precision, near the mean of a million, where the terms are ten million."""
    from scipy.stats import poisson

    y = np.array([[0, 1, 1_000_000, 1_001_000, 999_000]], dtype=np.float32)
    scores = np.log(np.array([[[2.0, 1.5, 1e6, 1e6, 1e6]]])).astype(np.float32)
    given = (scores, y) if xp is np else (torch.from_numpy(scores), torch.from_numpy(y))
    found, mean, residual = (np.asarray(part) for part in family_of("poisson", 1).parts(xp, *given))
    exact = np.exp(scores[0, 0].astype(float))
    np.testing.assert_allclose(found[0], poisson.logpmf(y[0].astype(int), exact), rtol=1e-4)
    np.testing.assert_allclose(mean[0, 0], exact, rtol=1e-6)
    np.testing.assert_allclose(residual[0, 0], y[0] - exact, atol=0.2, rtol=1e-4)


@pytest.mark.parametrize("weight", [None, [1.0, 2, 3, 0.5, 4]])
def test_the_deviance_of_large_counts_keeps_its_digits_in_single_precision(weight: list[float] | None) -> None:
    """scikit-learn's and scipy's, in double precision, for counts of 20 million and for one of 0 and one of a half."""
    from scipy.stats import poisson
    from sklearn.metrics import mean_poisson_deviance

    y = torch.tensor([[0.0, 0.5, 20_000_000, 20_004_000, 19_996_000]])
    scores = torch.tensor([2.0, 1.5, 2e7, 2e7, 2e7]).log()[None, :, None]
    family = family_of("poisson", 1)
    mean = family.distribution(scores).mean.double().numpy()[0]
    counts = None if weight is None else torch.tensor([weight])
    found = family.quality(family.distribution(scores), y, counts)
    exact = y[0].double().numpy()
    assert found["deviance"].item() == pytest.approx(mean_poisson_deviance(exact, mean, sample_weight=weight))
    whole = exact != 0.5
    only = [torch.tensor(whole)[None] * (1.0 if counts is None else counts)]
    expected = np.average(-poisson.logpmf(exact[whole], mean[whole]), weights=only[0][0][whole])
    assert family.quality(family.distribution(scores), y, *only)["log_loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("xp", [np, torch])
def test_what_examples_count_goes_round_by_the_values_of_a_sweep(xp: Any) -> None:
    """Of replicas 0 and 1, and 2 and 3 with another value: m, m + M, ..."""
    counts = xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert for_each(xp, counts, 4).tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]
    assert for_each(xp, counts, 2).tolist() == [[1, 2], [3, 4]]
    assert for_each(xp, counts[:1], 3).tolist() == [[1, 2]]


def test_an_average_is_by_what_examples_count() -> None:
    values = torch.tensor([[1.0, 4.0], [2.0, 6.0]])
    assert average(values, torch.tensor([[1.0, 3.0], [2.0, 2.0]])).tolist() == [(1 + 12) / 4, 4.0]
    assert average(values, None).tolist() == [2.5, 4.0]

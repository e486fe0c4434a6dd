"""Folds, resamples and paths of penalties, beside separate fits by scikit-learn."""

import csv
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

import rlgrad
from rlgrad.config import load_config, with_sweeps
from rlgrad.errors import UsageError
from rlgrad.loop import make_optimizer, updates
from rlgrad.problems.logistic import Logistic, Settings
from rlgrad.settings import Cell
from rlgrad.supervised import likelihood, resampling
from rlgrad.supervised.data import Dataset
from rlgrad.supervised.families import NUMERIC

ROWS = 240


def table(classes: int = 2, rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of different scales, and labels that depend on them: classes, or numbers if there is one."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 3)) * [1.0, 5.0, 0.2] + [0.0, 10.0, 1.0]
    scores = (x - x.mean(0)) / x.std(0) @ rng.standard_normal((3, classes)) + rng.gumbel(size=(rows, classes))
    return x, scores.argmax(1) if classes > 1 else scores[:, 0]


def written(folder: Path, x: np.ndarray, y: np.ndarray, **columns: Any) -> str:
    file = folder / "table.csv"
    with file.open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow([*(f"x{k}" for k in range(x.shape[1])), *columns, "y"])
        rows.writerows(zip(*x.T.tolist(), *columns.values(), y.tolist(), strict=True))
    return str(file)


def solved(data: str, **settings: Any) -> Any:
    """The problem at its optimum."""
    given = {"problem": "logistic", "data": data, "optimizer": {"name": "Newton"}, "updates": 1, "dtype": "float64"}
    built = load_config({"test_fraction": 0, **given, **settings}).build()
    for _ in itertools.islice(updates(built.problem, built.optimizer), 3):
        pass
    return built.problem


def probabilities(problem: Any, replica: int) -> np.ndarray:
    """Of all examples to learn from, [N, K]."""
    linear, x = problem.model.linear, problem.dataset.x
    scores = (x @ linear.weight[replica] + linear.bias[replica]).detach()
    return (torch.cat([0 * scores, scores], 1) if scores.shape[1] == 1 else scores).softmax(1).numpy()


def alone(x: np.ndarray, y: np.ndarray, penalty: float, weight: np.ndarray | None = None) -> tuple[Any, Any]:
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    return scaler, model.fit(scaler.transform(x), y, weight)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("classes", [2, 3])
def test_each_fold_is_a_fit_to_its_rows_by_scikit_learn_and_judged_on_the_others(
    tmp_path: Path, float64: None, classes: int, reduction: str
) -> None:
    x, y = table(classes)
    counts = np.random.default_rng(1).integers(0, 3, ROWS)
    penalties = [0.02, 0.5] if reduction == "mean" else [3.0, 60.0]
    settings = {"l2": {"sweep": penalties}, "replicas": {"folds": 3}, "reduction": reduction, "weight": "w"}
    problem = solved(written(tmp_path, x, y, w=counts), **settings)
    assert problem.dataset.x.data_ptr() == problem.sample(0).x.data_ptr()  # no copy of the examples
    judged = problem.evaluate(0)
    for replica in range(6):
        held = problem.dataset.drawn[replica % 3].numpy() == 0
        own = ~held
        strength = penalties[replica // 3] * (own.sum() if reduction == "mean" else 1)
        scaler, model = alone(x[own], y[own], strength, counts[own])
        expected = model.predict_proba(scaler.transform(x))
        assert probabilities(problem, replica) == pytest.approx(expected, abs=1e-6)
        assert judged["log_loss"][replica] == pytest.approx(log_loss(y[held], expected[held]), abs=1e-6)
        assert judged["accuracy"][replica] == pytest.approx(model.score(scaler.transform(x[held]), y[held]))
        prior = np.bincount(y[own], minlength=classes) / own.sum()
        assert judged["prior_log_loss"][replica] == pytest.approx(-np.log(prior[y[held]]).mean())
        if classes == 2:
            assert judged["auc"][replica] == pytest.approx(roc_auc_score(y[held], expected[held, 1]))


@pytest.mark.parametrize("how", [{"folds": 3}, {"bootstrap": 3}], ids=str)
@pytest.mark.parametrize("classes", [2, 3])
def test_balanced_classes_are_balanced_among_the_rows_of_each_replica_as_by_scikit_learn(
    tmp_path: Path, float64: None, classes: int, how: dict[str, int]
) -> None:
    x, y = table(classes)
    y = np.where(np.arange(ROWS) < 120, 0, y)  # otherwise the classes are almost balanced
    count = np.random.default_rng(1).integers(0, 3, ROWS)
    settings = {"l2": {"sweep": [0.02, 0.5]}, "class_weights": "balanced", "weight": "w"}
    problem = solved(written(tmp_path, x, y, w=count), replicas=how, **settings)
    for replica in range(6):
        times = problem.dataset.drawn[replica % 3].numpy().astype(int)
        rows = np.repeat(np.arange(ROWS), times)
        scaler = StandardScaler().fit(x[rows])
        penalty = [0.02, 0.5][replica // 3] * len(rows)
        model = LogisticRegression(C=1 / penalty, class_weight="balanced", solver="newton-cholesky", tol=1e-12)
        expected = model.fit(scaler.transform(x[rows]), y[rows], count[rows]).predict_proba(scaler.transform(x))
        assert probabilities(problem, replica) == pytest.approx(expected, abs=1e-6)
        held = times == 0
        loss = problem.evaluate(0)["log_loss"][replica]
        assert loss == pytest.approx(log_loss(y[held], expected[held]), abs=1e-6)


def test_the_elastic_net_of_each_fold_is_scikit_learn_s(tmp_path: Path, float64: None) -> None:
    x, y = table(1)
    settings = {"family": "gaussian", "l1": 0.1, "l2": 0.05, "replicas": {"folds": 4}}
    problem = solved(written(tmp_path, x, y), **settings)
    for replica in range(4):
        own = problem.dataset.drawn[replica].numpy() > 0
        scaler = StandardScaler().fit(x[own])
        model = ElasticNet(alpha=0.15, l1_ratio=2 / 3, tol=1e-12, max_iter=100_000).fit(
            scaler.transform(x[own]), y[own]
        )
        linear = problem.model.linear
        found = problem.dataset.x @ linear.weight[replica] + linear.bias[replica]
        assert found.detach().numpy()[:, 0] == pytest.approx(model.predict(scaler.transform(x)), abs=1e-6)


def test_a_resample_is_a_fit_to_the_rows_that_were_drawn(tmp_path: Path, float64: None) -> None:
    x, y = table()
    problem = solved(written(tmp_path, x, y), l2=0.1, replicas={"bootstrap": 3}, seed=7)
    for replica, times in enumerate(problem.dataset.drawn.numpy().astype(int)):
        assert times.sum() == ROWS
        assert times.max() > 1
        rows = np.repeat(np.arange(ROWS), times)
        scaler, model = alone(x[rows], y[rows], 0.1 * ROWS)
        assert probabilities(problem, replica) == pytest.approx(model.predict_proba(scaler.transform(x)), abs=1e-6)
        held, p = times == 0, model.predict_proba(scaler.transform(x))
        assert problem.evaluate(0)["log_loss"][replica] == pytest.approx(log_loss(y[held], p[held]), abs=1e-6)
    again = solved(problem.settings.data, l2=0.1, replicas={"bootstrap": 2}, seed=8).dataset.drawn
    assert torch.equal(again, problem.dataset.drawn[1:])  # replica k of seed s is replica 0 of seed s + k


def test_standard_errors_over_resamples_are_those_of_the_closed_form(tmp_path: Path, float64: None) -> None:
    """Of least squares: White's, as pairs are drawn (Efron & Tibshirani 1993, section 9.5)."""
    x, y = table(1, rows=400)
    problem = solved(written(tmp_path, x, y), family="gaussian", replicas={"bootstrap": 600})
    (said, *_), found = problem.conclusion(), problem.findings()
    assert said.startswith("converged")
    design = np.column_stack([np.ones(400), x])
    fitted = LinearRegression().fit(x, y)
    inverse, score = np.linalg.inv(design.T @ design), design * (y - fitted.predict(x))[:, None]
    errors = np.sqrt(np.diag(inverse @ score.T @ score @ inverse))
    rows = found["coefficients"]["rows"]
    assert [row["name"] for row in rows] == ["intercept", "x0", "x1", "x2"]
    assert [row["error"] for row in rows] == pytest.approx(errors, rel=0.1)
    assert [row["estimate"] for row in rows] == pytest.approx(
        [fitted.intercept_, *fitted.coef_], abs=0.2 * errors.max()
    )
    for row, error in zip(rows, errors, strict=True):
        assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert "95% low" in problem.documents()["coefficients.csv"]


def test_folds_hold_every_class_in_its_proportion_whatever_the_seed(tmp_path: Path, float64: None) -> None:
    x, y = table(3)
    file = written(tmp_path, x, y)
    problem = solved(file, l2=1, replicas={"folds": 7})
    held = problem.dataset.drawn.numpy() == 0
    assert (held.sum(0) == 1).all()
    for label in range(3):
        counts = held[:, y == label].sum(1)
        assert counts.max() - counts.min() <= 1
    assert torch.equal(solved(file, l2=1, replicas={"folds": 7}, seed=5).dataset.drawn, problem.dataset.drawn)
    assert not torch.equal(solved(file, l2=1, replicas={"folds": 7}, split_seed=5).dataset.drawn, problem.dataset.drawn)


@pytest.mark.parametrize("classes", [1, 2])
def test_groups_are_never_torn(tmp_path: Path, float64: None, classes: int) -> None:
    x, y = table(classes)
    group = np.random.default_rng(3).integers(0, 30, ROWS)
    file, family = written(tmp_path, x, y, who=[f"p{g}" for g in group]), "gaussian" if classes == 1 else "logistic"
    for how in ({"folds": 5}, {"bootstrap": 5}):
        problem = solved(file, l2=1, replicas={**how, "groups": "who"}, family=family)
        assert problem.dataset.preprocessing.features == ["x0", "x1", "x2"]
        drawn = problem.dataset.drawn.numpy()
        for g in range(30):
            assert (drawn[:, group == g] == drawn[:, group == g][:, :1]).all()
        assert len({row.tobytes() for row in drawn}) == 5


def test_a_column_says_which_fold_a_row_is_in(tmp_path: Path, float64: None) -> None:
    x, y = table()
    site = np.arange(ROWS) % 4
    problem = solved(written(tmp_path, x, y, site=[f"site {k}" for k in site]), l2=1, replicas={"by": "site"})
    assert ((problem.dataset.drawn.numpy() == 0) == (site == np.arange(4)[:, None])).all()


def test_the_best_value_and_the_strongest_penalty_within_one_standard_error_are_glmnet_s() -> None:
    """cvm and cvsd as glmnet 4.1 has them: sqrt(mean((cvraw - cvm)²) / (N - 1)), for folds of one size."""
    penalties, rng = [10.0, 3.0, 1.0, 0.3, 0.1], np.random.default_rng(0)
    values = (
        np.array([0.9, 0.55, 0.5, 0.48, 0.6])[:, None] + 0.08 * rng.standard_normal((5, 8)) + rng.standard_normal(8)
    )
    cells = [Cell({("l2",): penalty}, range(8 * k, 8 * k + 8)) for k, penalty in enumerate(penalties)]
    said, choice = resampling.chosen(cells, values, "log_loss")
    cvm = values.mean(1)
    cvsd = np.sqrt(((values - cvm[:, None]) ** 2).mean(1) / 7)
    least = cvm.argmin()
    strongest = max(p for p, m in zip(penalties, cvm, strict=True) if m <= cvm[least] + cvsd[least])
    assert strongest > penalties[least]
    assert choice["best"]["settings"] == {"l2": penalties[least]}
    assert choice["best"]["standard_error"] == pytest.approx(cvsd[least])
    assert choice["one_standard_error"]["settings"] == {"l2": strongest}
    assert f"l2={strongest:g}" in said


def test_other_settings_are_not_weighed_against_a_penalty() -> None:
    """The rule is asked among the values that have all else in common with the best."""
    grid = [{("l1",): a, ("optimizer", "lr"): b} for a in (0.1, 1.0) for b in (0.5, 1.0)]
    cells = [Cell(values, range(2 * k, 2 * k + 2)) for k, values in enumerate(grid)]
    values = np.array([[1.0, 3.0], [1.1, 3.1], [9.0, 11.0], [1.2, 3.2]])
    _, choice = resampling.chosen(cells, values, "log_loss")
    assert choice["one_standard_error"]["settings"] == {"l1": 0.1, "optimizer.lr": 0.5}


@pytest.mark.parametrize(
    ("classes", "reduction", "name"), [(1, "mean", "l1"), (2, "sum", "l1"), (2, "mean", "l2"), (3, "sum", "l2")]
)
def test_a_path_falls_from_where_nothing_is_left_of_the_weights(
    tmp_path: Path, float64: None, classes: int, reduction: str, name: str
) -> None:
    x, y = table(classes)
    settings = {"reduction": reduction, "family": "gaussian" if classes == 1 else "logistic", name: {"path": 7}}
    problem = solved(written(tmp_path, x, y), **settings)
    path = [cell.values[(name,)] for cell in problem.cells]
    assert np.diff(np.log(path)) == pytest.approx(np.log(1e-3 if name == "l1" else 1e-6) / 6, abs=1e-4)
    size = problem.model.linear.weight.detach().abs().amax((1, 2))
    assert size[0] <= 1e-3 if name == "l2" else size[0] < 1e-6
    assert size[1] > 0
    if name == "l1":
        less = solved(problem.settings.data, **settings | {name: 0.99 * path[0]}).model.linear.weight
        assert less.detach().abs().max() > 1e-4


def test_the_slope_that_a_path_starts_from_is_that_of_the_weighted_rows() -> None:
    x, y = table(1)
    weight = np.random.default_rng(0).uniform(0, 3, len(y))
    parts = [torch.from_numpy(part) for part in (x, y)]
    dataset = Dataset(*parts, *parts, 1)._replace(sample_weight=torch.from_numpy(weight))
    for intercept in (True, False):
        level = np.average(y, weights=weight) if intercept else 0.0
        expected = np.abs((weight * (y - level)) @ x / len(y)).max()
        assert resampling.steepest(NUMERIC["gaussian"], dataset, intercept) == pytest.approx(expected)


def made(**settings: Any) -> Logistic:
    x, y = (torch.from_numpy(part) for part in table(rows=600))
    settings = {"data": "made.csv", "updates": 1, "optimizer": {"name": "Newton"}, **settings}
    told = Settings.model_validate(settings)
    dataset = Dataset(x / 5, y.double(), x / 5, y.double(), 2)
    return Logistic(told, resampling.resampled(dataset, told.replicas, told.seeds[: int(told.replicas)], 0, True))


@pytest.mark.usefixtures("either_library")
@pytest.mark.parametrize("many", [False, True], ids=["kept", "worked out again"])
@pytest.mark.parametrize("how", [{"folds": 3}, {"bootstrap": 3}], ids=str)
def test_curvature_that_is_lent_leads_to_the_same_optimum(
    monkeypatch: pytest.MonkeyPatch, float64: None, how: dict[str, int], many: bool
) -> None:
    settings: dict[str, Any] = {"l2": {"sweep": [3.0, 1.0, 0.3, 0.1, 0.03, 0.01]}, "replicas": how}

    def trained() -> tuple[Logistic, torch.Tensor, dict[str, torch.Tensor]]:
        problem = made(**settings)
        update = next(updates(problem, make_optimizer(problem, "Newton", max_iter=60, tolerance=1e-13)))
        return problem, problem.model.linear.weight.detach(), dict(update.metrics)

    exact, expected, metrics = trained()
    monkeypatch.setattr(likelihood, "LENT", 0)
    monkeypatch.setattr(likelihood, "KEPT", 0 if many else likelihood.KEPT)
    monkeypatch.setattr(likelihood, "SCORES", 18 * 150)
    found, weight, again = trained()
    torch.testing.assert_close(weight, expected, atol=1e-6, rtol=1e-6)
    for name, value in metrics.items():
        torch.testing.assert_close(again[name], value, rtol=1e-10, atol=0)
    lent, whose = found.objective(found.sample(0)).curvature().lenders
    assert len(lent) < 18
    assert sorted(set(whose)) == list(range(len(lent)))
    matrix, plain = (problem.objective(problem.sample(0)).curvature().matrix() for problem in (found, exact))
    assert np.linalg.norm(matrix - plain, axis=(1, 2)).max() < 0.3 * np.linalg.norm(plain, axis=(1, 2)).min()


@pytest.mark.parametrize("problem", ["classifier", "logistic"])
def test_folds_prepare_their_features_as_runs_on_their_rows_alone(tmp_path: Path, float64: None, problem: str) -> None:
    """Means, deviations, medians and what a formula measures: none of them knows of the rows that judge."""
    x, y = table(rows=90)
    x[::7, 1] = np.nan
    x[:, 0] = np.exp(x[:, 0])  # so that the median is none of the mean
    given = {"problem": problem, "optimizer": {"name": "SGD", "lr": 0.5}, "missing_values": "median_and_indicator"}
    given |= {"updates": 5, "dtype": "float64", "seed": 3, "l2": 0.1, "formula": "y ~ poly(x0, 2) + x1 + x2"}
    given |= {"hidden": [4]} if problem == "classifier" else {}

    def trained(file: str, **more: Any) -> Any:
        built = load_config(given | {"data": file} | more).build()
        for _ in itertools.islice(updates(built.problem, built.optimizer), 5):
            pass
        return built.problem

    def part(name: str, rows: np.ndarray) -> str:
        (tmp_path / name).mkdir()
        return written(tmp_path / name, x[rows], y[rows])

    folds = trained(part("all", y > -1), test_fraction=0, replicas={"folds": 3}, l2={"sweep": [0.3, 0.1]})
    own = folds.dataset.drawn[1].numpy() > 0
    alone = trained(part("own", own), test_data=part("held", ~own), seed=4)
    for many, one in zip(folds.model.parameters(), alone.model.parameters(), strict=True):
        torch.testing.assert_close(many[4], one[0], rtol=1e-9, atol=1e-9)
    for name, value in alone.evaluate(0).items():
        assert folds.evaluate(0)[name][4] == pytest.approx(value[0].item(), abs=1e-7)


def test_minibatches_of_a_fold_and_its_validation_part_are_prepared_by_its_rows(tmp_path: Path, float64: None) -> None:
    x, y = table()
    given = {"problem": "classifier", "data": written(tmp_path, x, y), "optimizer": {"name": "SGD", "lr": 0.1}}
    given |= {"validation_fraction": 0.2, "updates": 1, "replicas": {"folds": 3}, "batch_size": 16, "dtype": "float64"}
    problem = load_config(given).build().problem
    plain = load_config(given | {"standardise": False}).build().problem
    for replica in range(3):
        rows = plain.dataset.drawn[replica] > 0
        assert torch.equal(rows, problem.dataset.drawn[replica] > 0)
        scaler = StandardScaler().fit(plain.dataset.x[rows].numpy())
        expected = scaler.transform(plain.sample(0).x[replica].numpy())
        assert problem.sample(0).x[replica].numpy() == pytest.approx(expected, abs=1e-12)
        assert problem.dataset.validation[0][replica].numpy() == pytest.approx(
            scaler.transform(plain.dataset.validation[0].numpy()), abs=1e-12
        )


def test_a_category_that_a_fold_does_not_have_moves_nothing_there(tmp_path: Path) -> None:
    x, y = table(rows=60)
    words = np.array(["a", "b"] * 30)
    words[7] = "c"
    given = {"problem": "classifier", "data": written(tmp_path, x, y, words=words), "updates": 1, "test_fraction": 0}
    given |= {"optimizer": {"name": "SGD", "lr": 0.1}, "replicas": {"folds": 3}}
    dataset = load_config(given).build().problem.dataset
    seldom = dataset.preprocessing.columns.index("words=c")
    for replica, times in enumerate(dataset.drawn):
        assert (dataset.x[replica, 7, seldom] != 0) == (times[7] > 0)


def test_medians_of_resamples_are_in_the_units_of_the_file(tmp_path: Path, float64: None) -> None:
    """Of least squares, as scikit-learn finds them."""
    x, y = table(1, rows=60)
    x[::9, 0] = np.nan
    given = {"family": "gaussian", "missing_values": "median_and_indicator", "replicas": {"bootstrap": 3}}
    problem = solved(written(tmp_path, x, y), **given)
    problem.conclusion()
    found = []
    for times in problem.dataset.drawn.numpy().astype(int):
        rows = np.repeat(x, times, axis=0)
        filled = np.where(np.isnan(rows), np.nanmedian(rows, 0), rows)
        model = LinearRegression().fit(np.column_stack([filled, np.isnan(rows[:, 0])]), np.repeat(y, times))
        found.append([model.intercept_, *model.coef_])
    rows = problem.findings()["coefficients"]["rows"]
    assert [row["estimate"] for row in rows] == pytest.approx(np.mean(found, 0), rel=1e-6)
    assert [row["error"] for row in rows] == pytest.approx(np.std(found, 0, ddof=1), rel=1e-5)


@pytest.mark.parametrize("folds", [None, 3])
def test_without_an_intercept_features_are_scaled_and_not_moved(
    tmp_path: Path, float64: None, folds: int | None
) -> None:
    x, y = table()
    file = written(tmp_path, x, y)
    problem = solved(file, l2=0.05, intercept=False, **({"replicas": {"folds": folds}} if folds else {}))
    raw = solved(file, l2=0.05, standardise=False).dataset.x.numpy()  # in the same order
    for replica in range(folds or 1):
        own = problem.dataset.drawn[replica].numpy() > 0 if folds else np.full(len(raw), True)
        labels = problem.dataset.y.numpy()
        scaler = StandardScaler(with_mean=False).fit(raw[own])
        model = LogisticRegression(C=1 / (0.05 * own.sum()), fit_intercept=False, tol=1e-12, max_iter=1000)
        model.fit(scaler.transform(raw[own]), labels[own])
        expected = model.predict_proba(scaler.transform(raw))
        assert probabilities(problem, replica) == pytest.approx(expected, abs=1e-6)


def test_a_run_says_its_choice_goes_on_and_is_not_predicted_with(tmp_path: Path) -> None:
    x, y = table()
    config = {"problem": "logistic", "data": written(tmp_path, x, y), "optimizer": {"name": "Newton"}, "updates": 2}
    config |= {"l2": {"path": 5}, "replicas": {"folds": 3}}
    run = rlgrad.train(config, out=tmp_path / "run")
    path = [cell["settings"]["l2"] for cell in run.summary["sweep"]]
    assert path == sorted(path, reverse=True)
    assert len(path) == 5
    assert all(len(cell["evaluation.log_loss"]["per_replica"]) == 3 for cell in run.summary["sweep"])
    assert run.summary["choice"]["best"]["settings"]["l2"] in path
    assert run.summary["choice"]["best"]["mean"] == pytest.approx(
        min(cell["evaluation.log_loss"]["mean"] for cell in run.summary["sweep"]), rel=1e-5
    )
    assert any("over 3 folds" in sentence for sentence in run.summary["conclusion"])
    assert load_config(tmp_path / "run" / "config.yaml").settings.l2.sweep == tuple(path)
    assert rlgrad.resume(tmp_path / "run", config=config).summary["status"] == "completed"
    with pytest.raises(UsageError, match="--replicas 1"):
        rlgrad.load(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["facts"]["replicas"] == "3 folds of 180 rows"


def test_a_path_is_swept_by_the_command_too(tmp_path: Path) -> None:
    x, y = table()
    config = {"problem": "logistic", "data": written(tmp_path, x, y), "optimizer": {"name": "Newton"}, "updates": 2}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    words = ["--l2", "{path: 4}", "--replicas", "{folds: 3}"]
    swept = with_sweeps(tmp_path / "config.yaml", words)
    told = load_config(config | {"l2": {"path": 4}, "replicas": {"folds": 3}}).resolve()
    assert swept.settings.model_dump() == told.model_dump()
    assert len(swept.settings.cells) == 4
    with pytest.raises(UsageError, match="nothing is swept"):
        with_sweeps(tmp_path / "config.yaml", words[2:])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two ways": ({"replicas": {"folds": 3, "bootstrap": 3}}, "give a number, folds, by or bootstrap"),
    "nothing": ({"replicas": {"groups": "g"}}, "give a number, folds, by or bootstrap"),
    "one fold": ({"replicas": {"folds": 1}}, "replicas.folds: input should be greater than or equal to 2"),
    "more folds than rows": ({"replicas": {"folds": 500}}, "replicas.folds: these examples cannot be split like this"),
    "fewer values than folds": ({"replicas": {"folds": 3, "by": "g"}, "test_fraction": 0}, "g has 5 different values"),
    "one value": ({"replicas": {"by": "one"}, "test_fraction": 0}, "replicas.by: one has the same value in all rows"),
    "no such column": ({"replicas": {"folds": 3, "by": "h"}, "test_fraction": 0}, "replicas: .*has no column 'h'"),
    "the label": ({"replicas": {"by": "y"}, "test_fraction": 0, "label": "y"}, "replicas: .*is also the label"),
    "groups in both parts": ({"replicas": {"folds": 3, "groups": "g"}}, "test_fraction: rows of one group"),
    "groups in the validation part": ({"replicas": {"folds": 3, "groups": "g"}, "test_fraction": 0, "validation_fraction": 0.2},
                                      "validation_fraction: rows of one group"),
    "bundled": ({"replicas": {"folds": 3, "groups": "g"}, "data": "iris", "test_fraction": 0}, "replicas: it is only for data"),
    "a path of one": ({"l2": {"path": 1}}, "l2.path: input should be greater"),
    "a path of a rate": ({"optimizer": {"name": "Newton", "lr": {"path": 3}}}, "optimizer"),
    "too many": ({"l2": {"path": 400}, "replicas": {"bootstrap": 300}}, "400 values of a sweep times 300"),
    "a sweep of replicas": ({"replicas": {"sweep": [1, 2]}}, "replicas.sweep"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    x, y = table()
    file = written(tmp_path, x, y, g=np.arange(ROWS) % 5, one=np.ones(ROWS))
    config = {"problem": "logistic", "data": file, "optimizer": {"name": "Newton"}, "updates": 1}
    more, said = REFUSED[name]
    with pytest.raises(UsageError, match=said):
        load_config(config | more).build()


ALONE = "none has the label 2 and a weight above 0: take {}, or leave out the rows with this label"
UNLEARNED: dict[str, tuple[dict[str, Any], str]] = {
    "a class in one fold": ({"replicas": {"by": "site"}}, "replica 1 learns from, " + ALONE.format("other folds")),
    "a class in one group": ({"replicas": {"folds": 3, "groups": "site"}}, ALONE.format("other folds")),
    "a class in one row": ({"replicas": {"bootstrap": 9}, "label": "rare"}, ALONE.format("another seed")),
    "a class of weight 0": ({"replicas": {"folds": 3}, "weight": "one"}, "replica 0 learns from, " + ALONE.format("other folds")),
    "a class to balance": ({"replicas": {"by": "site"}, "intercept": False, "class_weights": "balanced"}, ALONE.format("other folds")),
    "no weight": ({"replicas": {"by": "site"}, "weight": "here", "label": "half"}, "replica 2 learns from, all have weight 0: take other folds"),
    "no weight of numbers": ({"replicas": {"by": "site"}, "weight": "here", "family": "gaussian"}, "replica 2 learns from, all have"),
    "no counts": ({"replicas": {"by": "site"}, "label": "here", "family": "poisson"}, "replica 2 learns from, all counts are 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNLEARNED)
def test_a_replica_that_cannot_learn_from_its_rows_is_named(tmp_path: Path, name: str) -> None:
    """A class without rows has no optimum: scikit-learn fits only the others."""
    site = np.arange(ROWS) % 3
    y = np.where(site == 1, 1 + np.arange(ROWS) // 3 % 2, np.arange(ROWS) // 3 % 2)  # the label 2 is only at site 1
    rare = np.where(np.arange(ROWS) == 7, 2, y % 2)
    columns = {"site": site, "rare": rare, "half": y % 2, "one": (y < 2) * 1, "here": (site == 2) * 1}
    file, (more, said) = written(tmp_path, table()[0], y, **columns), UNLEARNED[name]
    given = {"columns": ["x0"], "label": "y", "l2": 1, "updates": 1, "test_fraction": 0, "seed": 0}
    with pytest.raises(UsageError, match=said):
        load_config({"problem": "logistic", "data": file, "optimizer": {"name": "Newton"}} | given | more).build()


def test_without_an_intercept_a_class_without_rows_has_an_optimum(tmp_path: Path, float64: None) -> None:
    x, y = table(3)
    problem = solved(written(tmp_path, x, y, site=y == 2), l2=1, replicas={"by": "site"}, intercept=False)
    assert problem.conclusion()[0].startswith("converged")


def test_a_missing_group_is_named(tmp_path: Path) -> None:
    x, y = table(rows=20)
    file = written(tmp_path, x, y, g=["a", "b", "", "c"] * 5)
    config = {"problem": "logistic", "data": file, "optimizer": {"name": "Newton"}, "updates": 1, "test_fraction": 0}
    with pytest.raises(UsageError, match=r"table.csv:4: column 4 \(`?g`?\).*missing"):
        load_config(config, {"replicas": {"folds": 3, "groups": "g"}}).build()


def test_deviations_of_each_fold_are_numpy_s() -> None:
    x, _ = table()
    x[:, 2] = 0.1  # whose squares are rounded
    x[0, 2] = 8.0
    drawn = (np.arange(ROWS) % 3 != np.arange(3)[:, None]).astype(float)
    found = resampling.deviations(torch.from_numpy(drawn), torch.from_numpy(x)).numpy()
    for k in range(3):
        expected = x[drawn[k] > 0].std(0)
        expected[expected < 1e-9] = 1
        assert found[k] == pytest.approx(expected, rel=1e-9)
    assert math.isclose(found[0, 2], 1)

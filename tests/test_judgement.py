"""Figures of classifiers are held against scikit-learn's, intervals against what they promise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize
from scipy.stats import chi2, norm
from sklearn import dummy, metrics
from statsmodels.stats.proportion import proportion_confint

import rlgrad
from rlgrad.reports.reading import read_run
from rlgrad.reports.report import report
from rlgrad.run.records import read_records
from rlgrad.supervised import figures, judgement
from rlgrad.supervised.judgement import judge, markdown, wilson


def drawn(classes: int, examples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a model that is known, and its probabilities; some of them are ties."""
    p = rng.dirichlet(np.ones(classes), examples)
    p[::7] = p[0]
    return (rng.random((examples, 1)) > p.cumsum(1)).sum(1).clip(max=classes - 1), p


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_figures_are_scikit_learn_s(classes: int) -> None:
    rng = np.random.default_rng(classes)
    y, p = drawn(classes, 200, rng)
    frequency = np.bincount(y) / len(y)
    found = judge(y, p, frequency, range(classes))
    value = {name: each["value"] for name, each in found["figures"].items()}
    score = p[:, 1] if classes == 2 else p
    one_hot = y if classes == 2 else np.eye(classes)[y]
    assert value["accuracy"] == pytest.approx(metrics.accuracy_score(y, p.argmax(1)))
    assert value["log_loss"] == pytest.approx(metrics.log_loss(y, p))
    assert value["brier"] == pytest.approx(metrics.brier_score_loss(y, score, scale_by_half=classes == 2))
    assert value["auc"] == pytest.approx(metrics.roc_auc_score(y, score, multi_class="ovr"))
    assert value["average_precision"] == pytest.approx(metrics.average_precision_score(one_hot, score))
    assert found["confusion"]["counts"] == metrics.confusion_matrix(y, p.argmax(1)).tolist()
    constant = {name: each["constant"] for name, each in found["figures"].items()}
    always = np.tile(frequency, (len(y), 1))
    assert constant["accuracy"] == pytest.approx(frequency.max())
    assert constant["log_loss"] == pytest.approx(metrics.log_loss(y, always))
    assert constant["auc"] == pytest.approx(0.5)
    assert constant["calibration_error"] == pytest.approx(0, abs=1e-12)
    for name, each in found["figures"].items():
        low, high = each["ci95"]
        assert low <= each["value"] <= high, name
        assert low < high, name


def test_the_calibration_error_is_that_of_its_definition() -> None:
    p1, y = np.array([0.05, 0.05, 0.55, 0.55, 0.58, 1.0]), np.array([0, 1, 1, 1, 0, 1])
    found = judge(y, np.stack([1 - p1, p1], 1), np.array([0.5, 0.5]), [0, 1])["figures"]["calibration_error"]
    assert found["value"] == pytest.approx((2 * abs(0.05 - 1 / 2) + 3 * abs(0.56 - 2 / 3) + 0) / 6)


@pytest.mark.parametrize(("successes", "trials"), [(0, 9), (9, 9), (50, 57), (1, 1)])
def test_wilson_s_interval_is_statsmodels(successes: int, trials: int) -> None:
    assert wilson(successes, trials) == pytest.approx(proportion_confint(successes, trials, method="wilson"))


@pytest.mark.parametrize("area", [1.0, 0.93, 0.5, 0.0])
def test_the_interval_of_an_area_is_where_hanley_and_mcneil_s_deviation_has_it(area: float) -> None:
    """By their own formula (1982), which Newcombe's is where both classes have as many examples."""
    n, z = 30, norm.ppf(0.975)

    def beyond(t: float) -> float:
        q1, q2 = t / (2 - t), 2 * t * t / (1 + t)
        return abs(t - area) - z * np.sqrt((t * (1 - t) + (n - 1) * (q1 + q2 - 2 * t * t)) / n**2)

    low = brentq(beyond, 1e-9, area - 1e-9) if area > 0 else 0.0
    high = brentq(beyond, area + 1e-9, 1 - 1e-9) if area < 1 else 1.0
    assert judgement.interval_of_probability(area, n, n) == pytest.approx((low, high), abs=1e-6)


@pytest.mark.parametrize("sharp", [1, 3])
def test_the_interval_of_the_calibration_error_has_all_that_is_near_enough(sharp: float) -> None:
    """Its ends by a general optimizer, over the frequencies of the bins."""
    rng = np.random.default_rng(0)
    p1 = 1 / (1 + np.exp(-rng.normal(0, 2, 400)))
    y = rng.random(400) < p1
    p1 = p1**sharp / (p1**sharp + (1 - p1) ** sharp)
    bins = [(p1[some], y[some]) for k in range(10) if (some := (p1 * 10).astype(int) == k).any()]
    apart = np.array([abs(y.mean() - p.mean()) for p, y in bins])
    variance = np.array([max((p * (1 - p)).mean(), y.mean() * (1 - y.mean())) / len(p) for p, y in bins])
    share = np.array([len(p) / 400 for p, _ in bins])
    near = {"type": "ineq", "fun": lambda x: chi2.ppf(0.95, len(bins)) - ((x - apart) ** 2 / variance).sum()}
    ends = []
    for way, start in ((1, apart), (-1, apart)):
        found = minimize(
            lambda x, way=way: way * share @ np.abs(x), start, constraints=near, bounds=[(0, None)] * len(bins)
        )
        ends.append(share @ np.abs(found.x))
    _, (low, high) = judgement.calibration_error(p1, y)
    assert (low, high) == pytest.approx(ends, abs=1e-4)
    assert (low == 0) == (sharp == 1)


@pytest.mark.parametrize("classes", [2, 3])
def test_where_no_mistake_is_made_there_is_still_doubt(classes: int) -> None:
    y = np.arange(30) % classes
    p = 0.1 + 0.7 * np.eye(classes)[y]
    found = judge(y, p / p.sum(1, keepdims=True), np.ones(classes) / classes, range(classes))
    low, high = found["figures"]["auc"]["ci95"]
    assert 0.7 < low < 0.95
    assert high == found["figures"]["auc"]["value"] == 1
    assert found["figures"]["average_precision"]["ci95"] == [None, None]
    assert "| average precision | 1 |  |" in markdown(found)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_test_set_of_one_class_gives_what_it_can(classes: int) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(classes), 30)
    found = judge(np.ones(30, int), p, np.ones(classes) / classes, ["no", "yes", "perhaps"][:classes])["figures"]
    for name in ("auc", "average_precision"):
        assert found[name] == {"value": None, "reason": "all examples of the test set are of one class, yes"}
    assert found["log_loss"]["value"] == pytest.approx(-np.log(p[:, 1]).mean())
    assert None not in found["accuracy"]["ci95"]


def test_a_class_that_does_not_occur_is_left_out_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    y, p = drawn(3, 100, rng)
    y[y == 2] = 0
    expected = [metrics.roc_auc_score(y == k, p[:, k]) for k in (0, 1)]
    assert judge(y, p, np.ones(3) / 3, [0, 1, 2])["figures"]["auc"]["value"] == pytest.approx(np.mean(expected))


def test_a_tie_counts_as_the_first_class() -> None:
    half = np.full((4, 2), 0.5)
    assert judge(np.array([0, 0, 0, 1]), half, half[0], [0, 1])["figures"]["accuracy"]["value"] == 0.75


def test_samples_are_as_many_whether_drawn_together_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    together = np.concatenate(list(judgement.resampled(50, 1)))
    monkeypatch.setattr(judgement, "NUMBERS", 49)
    monkeypatch.setattr(judgement, "SAMPLES", (1000, 1000))
    one_by_one = list(judgement.resampled(50, 1))
    assert len(one_by_one) == 1000
    assert (np.concatenate(one_by_one) == together).all()
    assert (together.sum(1) == 50).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_intervals_of_a_large_test_set_come_from_a_part_of_it(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    y, p = drawn(classes, 4000, np.random.default_rng(0))
    whole = judgement.bootstrapped(y, p)
    monkeypatch.setattr(judgement, "ENOUGH", 1000 * classes)
    for name, (low, high) in judgement.bootstrapped(y, p).items():
        assert np.ptp(whole[name]) == pytest.approx(high - low, rel=0.25)
        assert whole[name][0] == pytest.approx(low, abs=(high - low) / 4)


@pytest.mark.parametrize("classes", [2, 3])
def test_intervals_hold_the_truth_about_as_often_as_they_say(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgement, "SAMPLES", (150, 150))
    rng = np.random.default_rng(7)
    y, p = drawn(classes, 100_000, rng)
    truth = {name: float(values[0]) for name, values in judgement.figures(y, p, np.ones((1, len(y)))).items()}
    truth["calibration_error"] = 0.0  # the model is right about its probabilities
    held = dict.fromkeys(truth, 0)
    for _ in range(120):
        some = rng.integers(len(y), size=150)
        found = judge(y[some], p[some], np.ones(classes) / classes, range(classes))["figures"]
        for name, each in found.items():
            held[name] += each["ci95"][0] <= truth[name] <= each["ci95"][1]
    assert all(106 <= count <= 120 for count in held.values()), held


def trained(folder: Path, features: int, test: str | None = None, **settings: Any) -> rlgrad.Run:
    """On a table of two classes, which overlap."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, features))
    y = np.where(x[:, 0] + rng.logistic(size=200) > 0, "yes", "no")
    rows = [",".join([*(f"{v:.6f}" for v in row), label]) for row, label in zip(x, y, strict=True)]
    head = ",".join([f"f{k}" for k in range(features)] + ["label"])
    (folder / "data.csv").write_text("\n".join([head, *rows, ""]))
    held = {}
    if test:
        (folder / "test.csv").write_text("\n".join([head, *(row for row in rows[:60] if row.endswith(test)), ""]))
        held = {"test_data": str(folder / "test.csv")}
    config = {"problem": "logistic", "data": str(folder / "data.csv"), "optimizer": {"name": "Newton"}, "updates": 2}
    return rlgrad.train(config | held | settings, out=folder / "run")


def test_the_constant_is_the_same_everywhere_and_is_of_frequencies_without_weights(tmp_path: Path) -> None:
    run = trained(tmp_path, 2, class_weights={"yes": 9})
    y, test_y = (part.numpy()[:, None] for part in (run.problem.dataset.y, run.problem.dataset.test_y))
    constant = dummy.DummyClassifier(strategy="prior").fit(y, y[:, 0])
    expected = {
        "log_loss": metrics.log_loss(test_y, constant.predict_proba(test_y)),
        "accuracy": constant.score(test_y, test_y),
    }
    for name, value in expected.items():
        assert run.summary["judgement"]["figures"][name]["constant"] == pytest.approx(value, rel=1e-5)
        assert run.summary[f"evaluation.prior_{name}"]["mean"] == pytest.approx(value, rel=1e-5)


def test_a_run_judges_its_classifier(tmp_path: Path) -> None:
    run = trained(tmp_path, 2, pictures_every_updates=1)
    found, saved = run.summary["judgement"], rlgrad.load(tmp_path / "run")
    x, y = run.problem.dataset.test_x, run.problem.dataset.test_y.numpy()
    p = saved.model(x[None]).probs[0].numpy()
    assert found["figures"]["auc"]["value"] == pytest.approx(metrics.roc_auc_score(y, p))
    assert found["figures"]["log_loss"]["value"] == pytest.approx(run.summary["evaluation.log_loss"]["mean"], rel=1e-5)
    assert found["figures"]["log_loss"]["constant"] == pytest.approx(
        run.summary["evaluation.prior_log_loss"]["mean"], rel=1e-5
    )
    assert found["confusion"]["labels"] == ["no", "yes"]
    fallout, recall, _ = metrics.roc_curve(y, p, drop_intermediate=False)
    assert found["roc"]["yes"] == {"fallout": pytest.approx(fallout), "recall": pytest.approx(recall)}
    assert "accuracy" in run.summary["conclusion"][-1]
    folder = tmp_path / "run"
    assert "| average precision |" in (folder / "judgement.md").read_text()
    names = {"calibration", "roc", "boundary", "coefficients"}
    assert {path.stem for path in folder.glob("*.svg")} == names
    (events,) = folder.glob("events*")
    with events.open("rb") as file:
        content = b"".join(read_records(file))
    assert all(f"pictures/{name}".encode() in content for name in names)
    assert report([read_run(folder)]).count("<figure") >= len(names) + 3


def test_the_boundary_is_where_the_trained_classifier_has_it(tmp_path: Path) -> None:
    run = trained(tmp_path, 2)
    plane, saved = run.summary["judgement"]["plane"], rlgrad.load(tmp_path / "run")
    (left, below), (right, above) = plane["low"], plane["high"]
    grid = np.meshgrid(np.linspace(left, right, 60), np.linspace(below, above, 60))
    chosen = saved.predict(np.stack(grid, -1).reshape(-1, 2)).reshape(60, 60)
    assert (np.array(["no", "yes"])[np.array(plane["chosen"])] == chosen).mean() > 0.999  # but for rounding on the line
    raw = rlgrad.load(tmp_path / "run").predict_proba(np.array(plane["points"])[:, :2])
    assert run.problem._probabilities(run.problem.dataset.test_x)[: len(raw)] == pytest.approx(raw, abs=1e-5)


def test_a_run_with_small_classes_says_where_it_has_no_interval(tmp_path: Path) -> None:
    rows = "".join(f"{k * 37 % 64},{'abcdefgh'[k % 8]}\n" for k in range(64))
    (tmp_path / "t.csv").write_text("x,y\n" + rows)
    given = {"problem": "logistic", "data": str(tmp_path / "t.csv"), "updates": 2, "optimizer": {"name": "Newton"}}
    rlgrad.train(given | {"test_fraction": 0.25}, out=tmp_path / "run")
    said = json.loads((tmp_path / "run" / "summary.json").read_text())["conclusion"]
    assert any("auc" in sentence and "no interval" in sentence for sentence in said), said


def test_a_run_with_a_test_set_of_one_class_says_what_it_cannot_give(tmp_path: Path) -> None:
    run = trained(tmp_path, 3, test="yes")
    assert "no auc, as all examples of the test set are of one class, yes" in run.summary["conclusion"][-1]
    assert not (tmp_path / "run" / "roc.svg").exists()
    assert "average precision | all examples of the test set are" in (tmp_path / "run" / "judgement.md").read_text()
    assert "On the test set" in report([read_run(tmp_path / "run")])


def test_of_two_equally_probable_classes_an_evaluation_takes_the_first(tmp_path: Path) -> None:
    """Also of two classes that are equally frequent, beside a classifier."""
    run = trained(tmp_path, 1, optimizer={"name": "SGD", "lr": 1e-30}, updates=1, intercept=False)
    dataset = run.problem.dataset
    run.problem.dataset = dataset._replace(
        y=torch.tensor([0.0, 1.0]), test_x=torch.zeros(4, 1), test_y=torch.tensor([0.0, 0, 0, 1])
    )
    found = run.problem.evaluate(0)
    assert found["accuracy"].tolist() == found["prior_accuracy"].tolist() == [0.75]


def test_pictures_show_the_numbers_of_the_judgement() -> None:
    bins = [
        {"predicted": 0.2, "observed": 0.3, "ci95": [0.1, 0.6]},
        {"predicted": 0.8, "observed": 0.7, "ci95": [0.5, 0.75]},
    ]
    (bars,) = figures.calibration(bins).axes[0].containers
    np.testing.assert_allclose(bars.lines[2][0].get_segments(), [[[0.2, 0.1], [0.2, 0.6]], [[0.8, 0.5], [0.8, 0.75]]])
    curve = figures.roc({"yes": {"fallout": [0, 0.1, 1], "recall": [0, 0.7, 1]}}).axes[0].lines[1]
    np.testing.assert_array_equal(curve.get_xydata(), [[0, 0], [0.1, 0.7], [1, 1]])
    points = [[0.0, 0.0, 0], [1.0, 2.0, 1], [0.5, 1.0, 1]]
    plane = {"low": [0, 0], "high": [1, 2], "chosen": [[0, 1], [0, 1]], "points": points, "labels": ["no", "yes"]}
    no, yes = figures.boundary(plane | {"names": ["a", "b"]}).axes[0].lines
    np.testing.assert_array_equal([*no.get_xydata(), *yes.get_xydata()], np.array(points)[:, :2])
    rows = [
        {"name": f"x{k}", "label": "", "z": (-1) ** k * k, "error": 2.0, "low": -3.92, "high": 3.92} for k in range(60)
    ]
    axes = figures.coefficients(rows).axes[0]
    ends = np.array(axes.containers[0].lines[2][0].get_segments())
    np.testing.assert_allclose(ends[:, 1, 0] - ends[:, 0, 0], 2 * 1.96)
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"x{k}" for k in range(20, 60)]  # the largest

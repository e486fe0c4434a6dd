"""Pages, pictures and tables that are made of runs."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from scipy import stats

from rlgrad.cli import main
from rlgrad.errors import UsageError
from rlgrad.reports import listing
from rlgrad.reports.exporting import model_card
from rlgrad.reports.figures import curves, swept
from rlgrad.reports.loading import load
from rlgrad.reports.playing import random_play, returns_by_chance
from rlgrad.reports.reading import Curve, Recorded, by_cell, read_run
from rlgrad.reports.report import Seen, differing, drawn, improvement, lead, report
from rlgrad.reports.slices import LINE, PLANE, cut, orthonormal
from rlgrad.run import train
from rlgrad.run.resuming import recorded_config
from rlgrad.run.statistics import number, probability_of_improvement, summarize
from rlgrad.supervised.judgement import interval_of_probability
from rlgrad.usage import shipped
from tests.environments import Countdown
from tests.run.support import AGENT, CLASSIFIER, SURFACE


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "runs"
    train(AGENT, out=folder / "agent")
    train(AGENT, out=folder / "other", seed=7, replicas=3)
    train(CLASSIFIER, out=folder / "classifier")
    train(SURFACE, out=folder / "surface")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of which only the words are looked at: their pictures take most of the time."""
    monkeypatch.setattr("rlgrad.reports.report.svg", lambda _: "<svg/>")


def test_a_run_is_read_as_it_was_logged(runs: Path) -> None:
    run = read_run(runs / "agent")
    lines = [json.loads(line) for line in (runs / "agent" / "metrics.jsonl").read_text().splitlines()]
    curve = run.curve("objective/value")
    assert curve.x.tolist() == [line["step"] for line in lines]
    assert np.array_equal(curve.values, [line["objective/value"] for line in lines])
    assert run.curve("evaluation/return", "update").x.tolist() == [2, 4, 6]
    expected = [summarize(line["objective/value"]) for line in lines]
    assert curve.mean.tolist() == [each["mean"] for each in expected]
    seconds = run.curve("objective/value", "seconds").x
    assert (np.diff(seconds) > 0).all()
    assert seconds[-1] <= run.summary["wall_seconds"] + 1e-3


def test_a_sweep_is_read_as_a_run_for_each_cell() -> None:
    """A replica that is set aside stays a gap; the step is the mean work of the cell's own replicas."""
    settings = {"replicas": 2, "optimizer": {"name": "SGD", "lr": {"sweep": [0.1, 0.2, 0.3]}}}
    values = {"episode/env_steps": [10, 20, 30, 40, 50, 60], "objective/value": [1, 2, None, 4, 5, 6]}
    each = by_cell(Recorded(Path("run"), settings, {}, {}, [{"step": 35, "update": 1} | values]))
    curves = [cell.curve("objective/value") for cell in each]
    assert [curve.x.tolist() for curve in curves] == [[15], [35], [55]]
    np.testing.assert_array_equal([curve.values for curve in curves], [[[1, 2]], [[np.nan, 4]], [[5, 6]]])
    assert [cell.settings["optimizer"]["lr"] for cell in each] == [0.1, 0.2, 0.3]


def test_the_figure_of_a_sweep_shows_each_final_result_with_its_interval() -> None:
    settings = {"replicas": 3, "optimizer": {"name": "SGD", "lr": {"sweep": [0.1, 0.3]}}}
    logged = [{"step": k, "update": k, "objective/value": [k * n * n for n in range(6)]} for k in (1, 2)]
    figure = swept(by_cell(Recorded(Path("run"), settings, {}, {}, logged)), "objective/value")
    (bars,) = figure.axes[0].containers
    final = [summarize(logged[-1]["objective/value"][:3]), summarize(logged[-1]["objective/value"][3:])]
    np.testing.assert_allclose(bars.lines[0].get_xydata(), [[0.1, final[0]["mean"]], [0.3, final[1]["mean"]]])
    ends = np.array(bars.lines[2][0].get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, [each["ci95"] for each in final])


@pytest.mark.usefixtures("undrawn")
def test_starting_points_have_no_interval_in_a_report(runs: Path) -> None:
    """Their run is read without its summary, too: it may be going on."""
    agent, points = read_run(runs / "agent"), read_run(runs / "surface")
    own = {key: value for key, value in points.settings.items() if key != "problem"}  # as those of `follow`
    for run in (points, replace(points, summary={}), replace(points, summary={}, settings=own)):
        assert np.isnan(run.curve("evaluation/value").interval).all()
    for shown in ([points], [points, points]):
        assert "95% interval of" not in (page := report(shown))
        assert "Probability of improvement" not in page
    assert np.isfinite(agent.curve("objective/value").interval).any()
    assert "95% interval of" in report([agent])
    assert "Probability of improvement" in report([agent, agent])


def test_a_report_says_first_what_was_run(runs: Path) -> None:
    for name, said in (
        ("agent", "reinforce on CartPole-v1: "), ("classifier", "logistic on "), ("surface", "surface on ")
    ):  # fmt: skip
        assert lead(read_run(runs / name)).startswith(said), name


def test_runs_of_version_0_1_are_read(runs: Path, tmp_path: Path) -> None:
    """Their `step` was the number of the update."""
    old = shutil.copytree(runs / "agent", tmp_path / "old")
    lines = [json.loads(line) for line in (old / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["step"] = line.pop("update") - 1
    (old / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for axis in ("step", "update"):
        expected, found = (read_run(path).curve("objective/value", axis).x for path in (runs / "agent", old))
        assert found == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("name", ["agent", "classifier", "surface"])
def test_a_page_needs_nothing_but_itself(runs: Path, tmp_path: Path, name: str) -> None:
    assert main(["report", str(runs / name), "--to", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r'(src|href)="(?!https://|#|data:)', page)
    assert "<script" not in page
    assert page.count('aria-label="') >= 6  # every picture says what it shows
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))  # no picture takes its parts from another
    summary = read_run(runs / name).summary
    of, final = summary["measures"], summary["objective"]["mean"]
    assert f"<td>objective ({of})</td><td>{number(final)}</td>" in page


def test_what_a_run_says_is_text_and_never_markup(runs: Path, tmp_path: Path) -> None:
    forged = shutil.copytree(runs / "surface", tmp_path / "forged")
    summary = json.loads((forged / "summary.json").read_text()) | {"conclusion": ["<img src=x onerror=alert(1)>"]}
    (forged / "summary.json").write_text(json.dumps(summary))
    assert main(["report", str(forged)]) == 0
    assert "<img src=x" not in (forged / "report.html").read_text()


def test_the_name_of_a_line_is_where_the_curve_is_far_away(runs: Path) -> None:
    run = read_run(runs / "agent")
    first, *_, last = run.curve("objective/value").mean
    figure = curves([run], "objective/value", lines={"near its beginning": first, "near its end": last})
    assert {name.get_text(): name.get_ha() for name in figure.axes[0].texts} == {
        "near its beginning": "right",
        "near its end": "left",
    }


@pytest.mark.usefixtures("undrawn")
def test_several_runs_are_compared(runs: Path, tmp_path: Path) -> None:
    both = [str(runs / "agent"), str(runs / "other")]
    assert main(["report", *both, "--to", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    a, b = (read_run(path).curve("evaluation/return").values[-1] for path in both)
    expected = stats.mannwhitneyu(b, a).statistic / (len(a) * len(b))
    assert f"<td>other better than agent</td><td>{expected:.2f}</td>" in page
    assert "<td>seed</td><td>0</td><td>7</td>" in page  # where they differ


def test_unlike_runs_share_the_charts_of_what_they_both_measure(runs: Path) -> None:
    each = [read_run(runs / name) for name in ("agent", "other", "classifier", "surface")]
    charts = {name: [run.name for run in of] for _, name, of in drawn(each)}
    assert charts["return"] == ["agent", "other"]
    assert charts["log loss"] == ["classifier"]
    assert sorted(run for name, of in charts.items() if name.startswith("objective") for run in of) == sorted(
        run.name for run in each
    )
    a, b = {"problem": "x", "environment": "Ring", "lr": 1, "own": 3}, {"problem": "y", "data": "iris", "lr": 2}
    rows = [
        ["data", "", "iris", ""],
        ["environment", "Ring", "", "Ring"],
        ["lr", "1", "2", "1"],
        ["problem", "x", "y", "x"],
    ]
    assert list(differing([a, b, a])) == rows
    assert list(differing([{"s": None}, {"s": True}, {"s": (3, 4)}])) == [
        ["s", "null", "true", "[3, 4]"]
    ]  # as in a config
    assert list(differing([{"problem": "x"}, {"problem": "x", "schedule.name": "Z"}])) == [["schedule.name", "", "Z"]]


def test_values_decide_the_height_of_a_chart_not_their_band(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(runs / "agent")
    two = Curve(np.arange(3.0), np.array([[0.0, 1.0]] * 3))
    assert two.interval[0] == pytest.approx(stats.t.interval(0.95, 1, 0.5, 0.5))  # -5.9 to 6.9
    monkeypatch.setattr(type(run), "curve", lambda *_: two)
    assert curves([run], "evaluation/return").axes[0].get_ylim() == pytest.approx((-0.5, 1.5))


@pytest.mark.parametrize("measure", ["log_loss", "deviance", "squared_error", "cost"])
def test_a_run_with_smaller_losses_is_the_better_one(runs: Path, measure: str) -> None:
    run = read_run(runs / "agent")
    better, worse = (
        replace(
            run,
            environment={"judged": ["cost", "minimize"]},
            rows=[{"step": 1, "update": 1, f"evaluation/{measure}": x}],
        )
        for x in ([1, 2], [3, 4])
    )
    assert "<td>1.00</td>" in "".join(improvement([worse, better], f"evaluation/{measure}"))


@pytest.mark.usefixtures("undrawn")
def test_a_report_says_what_random_actions_earn(runs: Path, tmp_path: Path) -> None:
    """In CartPole some 22 (Barto, Sutton & Anderson's cart falls by itself); in a countdown the numbers up to its end."""
    found = returns_by_chance(runs / "agent")
    assert len(found) == 20
    assert 15 < np.mean(found) < 30
    assert len(set(found)) > 5  # each episode has a seed of its own
    assert found == returns_by_chance(runs / "agent")
    page = report([read_run(runs / "agent")], Seen(random=found))
    assert "uniformly random actions, 20 episodes" in page
    assert "counts as solved" in page
    assert "random actions" not in report([read_run(runs / "agent")])
    counted = {"environment": "tests/Countdown-v0", "environment_options": {"fixed": 3}, "updates": 1}
    path = train(AGENT | counted, out=tmp_path / "three").directory
    assert returns_by_chance(path) == [1 + 2 + 3] * 20
    assert len(set(random_play(gymnasium.make("tests/Countdown-v0"), None, 20, 1000))) > 3  # they begin apart
    assert returns_by_chance(path, steps=8) == [6, 6]  # of the third, two steps are left
    cut = gymnasium.make("tests/Countdown-v0", fixed=6, max_episode_steps=2)
    assert list(random_play(cut, None, 2, 1000)) == [1 + 2] * 2  # a time limit ends an episode, too
    assert returns_by_chance(runs / "classifier") == []


@pytest.mark.usefixtures("undrawn")
def test_a_report_shows_a_slice_if_it_is_asked_for(runs: Path, tmp_path: Path, capsys) -> None:
    for flags, count in (([], 0), (["--slice"], 1)):
        to = tmp_path / f"{count}.html"
        assert main(["report", str(runs / "surface"), "--to", str(to), *flags]) == 0
        assert to.read_text().count("The objective around what was found") == count
    assert "along the rest of it" in to.read_text()
    assert main(["report", str(runs / "surface"), str(runs / "agent"), "--slice"]) == 2
    assert "a page about one run" in capsys.readouterr().err


def test_the_probability_of_improvement_is_mann_whitney_s() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 9), rng.integers(1, 5, 7)  # with draws
    expected = stats.mannwhitneyu(x, y).statistic / (9 * 7)
    assert probability_of_improvement(x.tolist(), y.tolist()) == pytest.approx(expected)
    assert probability_of_improvement([1.0], [1.0]) == 0.5


@pytest.mark.parametrize(("m", "n", "shift"), [(5, 5, 0.0), (8, 8, 1.0), (20, 20, 2.0), (4, 16, 0.5)])
def test_its_interval_covers_the_truth_as_often_as_it_says(m: int, n: int, shift: float) -> None:
    rng = np.random.default_rng(1)
    truth = stats.norm.cdf(shift / np.sqrt(2))
    hits = 0
    for _ in range(1000):
        x, y = rng.normal(shift, size=m), rng.normal(size=n)
        low, high = interval_of_probability(probability_of_improvement(x.tolist(), y.tolist()), m, n)
        hits += low <= truth <= high
    assert 0.92 < hits / 1000 < 0.99


def test_its_interval_still_says_something_where_all_are_better() -> None:
    low, high = interval_of_probability(1.0, 5, 5)
    assert high == 1.0
    assert 0.5 < low < 0.9
    assert interval_of_probability(0.0, 5, 5) == pytest.approx((1 - high, 1 - low))


def test_the_slice_of_a_bowl_is_the_bowl(tmp_path: Path) -> None:
    """Of two variables no direction is left out: the plane has the function's curvature, and the path its length."""
    how = {"start": [[1.0, 1.0], [-1.0, 0.5]], "optimizer": {"name": "SGD", "lr": 0.1}, "updates": 20, "replicas": 2}
    config = {"problem": "surface", "function": "x**2 + 3*y**2", "direction": "minimize", **how}
    path = train(config, out=tmp_path / "run").directory
    found, name = cut(path, replica=1)
    assert name == "value of the function"
    x, y, values = found.plane
    x, y = (grid.ravel() for grid in np.meshgrid(x, y))
    basis = np.stack([np.ones_like(x), x, y, x * x / 2, y * y / 2, x * y], 1)
    fit = np.linalg.lstsq(basis, values.ravel(), rcond=None)[0]
    _, _, _, xx, yy, xy = fit
    assert sorted(np.linalg.eigvalsh([[xx, xy], [xy, yy]])) == pytest.approx([2, 6], rel=1e-6)
    points = [np.array([-1.0, 0.5])]
    for _ in range(20):
        points.append(points[-1] - 0.1 * np.array([2, 6]) * points[-1])
    expected = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert np.linalg.norm(np.diff(found.path, axis=0), axis=1) == pytest.approx(expected, rel=1e-6)
    a, b = found.path.T
    on_the_way = np.stack([np.ones_like(a), a, b, a * a / 2, b * b / 2, a * b], 1) @ fit
    assert on_the_way == pytest.approx([x**2 + 3 * y**2 for x, y in points], abs=1e-6)


def test_two_directions_become_a_right_angle() -> None:
    one, two = orthonormal(torch.tensor([3.0, 0.0]), torch.tensor([5.0, 2.0]))
    assert (one.tolist(), two.tolist()) == ([1, 0], [0, 1])


def test_the_slice_of_a_classifier_goes_through_what_it_has_found(runs: Path) -> None:
    found, _ = cut(runs / "classifier", replica=1)
    final = read_run(runs / "classifier").summary["objective"]["per_replica"][1]
    places, values = found.line
    assert np.interp(0, places, values) == pytest.approx(final, rel=0.2)
    assert found.path[-1] == pytest.approx([0, 0], abs=1e-6)


def test_the_slice_of_an_agent_goes_through_its_policy(runs: Path, tmp_path: Path) -> None:
    to = tmp_path / "slice.png"
    found, name = cut(runs / "agent", replica=1)
    assert name == "return"
    places, values = found.line
    final = read_run(runs / "agent").summary["objective"]["per_replica"][1]
    assert places[LINE // 2] == pytest.approx(0, abs=1e-12)
    assert values[LINE // 2] == pytest.approx(final)  # the same random numbers as the run's own
    assert found.plane[2][PLANE // 2, ::4] == pytest.approx(values[::10])  # the line is in the plane
    assert main(["slice", str(runs / "surface"), "--to", str(to)]) == 0
    assert to.read_bytes()[:4] == b"\x89PNG"
    assert main(["slice", str(runs / "agent"), "--replica", "9", "--to", str(to)]) == 2


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_picture_for_a_paper(runs: Path, tmp_path: Path, ending: str) -> None:
    to = tmp_path / f"curves.{ending}"
    assert main(["plot", str(runs / "agent"), str(runs / "other"), "--to", str(to)]) == 0
    assert to.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")


def test_the_list_shows_runs_with_their_results(runs: Path, capsys) -> None:
    assert main(["list", "--in", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = read_run(runs / "other").summary["evaluation.return"]
    (line,) = [line for line in lines if line.startswith("other")]
    assert line.split()[1:3] == ["completed", "6"]
    assert f"return {found['mean']:.4g} ({found['ci95'][0]:.4g} to {found['ci95'][1]:.4g})" in line


def test_lists_begin_with_the_newest_run_and_have_the_newest_versions(tmp_path: Path) -> None:
    for age, name in enumerate(("second", "first", "third")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
        os.utime(tmp_path / name / "config.yaml", (1, (5, 9, 2)[age]))
    assert [line.split()[0] for line in listing.runs(tmp_path)] == ["run", "first", "second", "third"]
    for version in (2, 10, 1):
        gymnasium.register(f"tests/Versions-v{version}", Countdown)
    assert [line for line in listing.environments() if "tests/Versions" in line] == ["tests/Versions-v10"]


def test_configs_environments_and_the_machine_are_listed(capsys) -> None:
    assert main(["list", "configs"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(shipped())
    assert all(line.endswith((".", "?")) for line in lines)  # whole sentences
    assert main(["list", "environments"]) == 0
    assert re.search(r"CartPole-v1 +475 +500", capsys.readouterr().out)
    assert main(["doctor"]) == 0
    assert re.search(r"torch +2\.", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: (path / "metrics.jsonl").unlink(), "no update has been logged yet"),
        (lambda path: (path / "metrics.jsonl").write_text(""), "no update has been logged yet"),
        (lambda path: (path / "metrics.jsonl").write_text('{"step": 1\n'), "cannot be read: metrics.jsonl, line 1"),
        (lambda path: (path / "metrics.jsonl").write_text('["step"]\n'), "not a line of a run's log"),
        (lambda path: (path / "summary.json").write_text("[]"), "summary.json holds no mapping"),
        (lambda path: (path / "config.yaml").write_text("a: [1"), "cannot be read"),
        (lambda path: (path / "config.yaml").unlink(), "no run here"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line(runs: Path, tmp_path: Path, damage, said: str) -> None:
    path = shutil.copytree(runs / "surface", tmp_path / "damaged")
    damage(path)
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        read_run(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_log_opens_as_a_table_by_the_documented_line(runs: Path, library: str) -> None:
    """One row for each update and replica."""
    pytest.importorskip(library)
    text = (Path(__file__).parent.parent / "docs" / "dashboard.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if f"import {library}" in block)
    names: dict[str, Any] = {}
    exec(code.replace("runs/cartpole-1/metrics.jsonl", str(runs / "other" / "metrics.jsonl")), names)
    table, logged = names["table"], read_run(runs / "other").curve("objective/value", "update")
    assert len(table) == logged.values.size
    assert list(table["update"]) == [update for update in logged.x for _ in range(3)]
    assert list(table["replica"]) == [0, 1, 2] * len(logged.x)
    assert list(table["objective/value"]) == logged.values.ravel().tolist()


def test_what_is_measured_on_the_training_examples_is_not_called_held_out(tmp_path: Path) -> None:
    for name, apart in (("test_fraction", False), ("validation_fraction", False), ("test_data", True)):
        rows = "a,y\n" + "".join(f"{k % 7},{'no' if (k * k) % 5 < 2 else 'yes'}\n" for k in range(40))
        (data := tmp_path / "t.csv").write_text(rows)
        config = {"problem": "logistic", "data": str(data), "test_fraction": 0, "replicas": 3, "updates": 2}
        config[name] = {"test_fraction": 0, "validation_fraction": 0.2, "test_data": str(data)}[name]
        config |= {"optimizer": {"name": "Newton"}, "initial_deviation": 0.1}
        trained = train(config, out=tmp_path / name)
        model = load(tmp_path / name)
        watched = "training" if name == "test_fraction" else "held-out"
        assert f"the best of 3 on the {watched} examples" in model.origin
        card = model_card(model, recorded_config(tmp_path / name, False), tmp_path / name, "m.onnx", ["class"])
        value = trained.summary["evaluation.accuracy"]["per_replica"][int(model.origin.split()[1])]
        assert f"{'Held-out accuracy' if apart else 'Accuracy on the training examples'}: {value:.4g}" in card
        page = lead(read_run(tmp_path / name))
        assert ("At its end: held-out accuracy" in page) == apart
        assert ("At its end: accuracy on the training examples" in page) != apart

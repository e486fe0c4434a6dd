"""TensorBoard, arranged and live, as TensorBoard's own reader sees it."""

import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from rlgrad.run import resume, train
from rlgrad.run.directory import dotted
from rlgrad.run.observer import Observer
from rlgrad.run.observers.progress import Display, evaluated
from rlgrad.run.state import State
from rlgrad.run.statistics import summarize
from tests.run.support import AGENT, CLASSIFIER, POINT, SURFACE, assert_same, crashing, events, rows


class Spy(Observer):
    """Reads the events while the run goes on."""

    def __init__(self, at: int):
        self.at = at

    def seen(self, run, update, record) -> None:
        if update.step + 1 == self.at:
            next(each for each in run.observers if type(each).__name__ == "Log").flush()
            self.found = events(run.directory)


def hparams(found, name: str) -> plugin_data_pb2.HParamsPluginData:
    content = found.SummaryMetadata(f"_hparams_/{name}").plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def layout(found) -> dict[str, layout_pb2.Chart]:
    (event,) = found.Tensors("custom_scalars__config__")
    content = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {chart.title: chart for chart in content.category[0].chart}


def test_layout_and_settings_are_there_from_the_beginning_on(tmp_path: Path) -> None:
    spy = Spy(3)
    train(AGENT, out=tmp_path / "run", observers=[spy])
    found, charts = spy.found, layout(spy.found)
    assert list(charts) == ["evaluation/return", "objective/value"]
    (series,) = charts["evaluation/return"].margin.series
    names = set(found.Tags()["scalars"])
    assert {series.value, series.lower, series.upper} <= names  # they hold data, while the run goes on
    given = hparams(found, "session_start_info").session_start_info.hparams
    assert given["environment"].string_value == "CartPole-v1"
    assert given["seed"].number_value == 0  # also where it is the default
    assert set(given) <= dotted(AGENT).keys() | {"seed"}  # of some fifty settings those that are told
    metrics = [info.name.tag for info in hparams(found, "experiment").experiment.metric_infos]
    assert set(metrics) <= names
    assert "_hparams_/session_end_info" not in found.summary_metadata
    ended = hparams(events(tmp_path / "run"), "session_end_info").session_end_info
    assert ended.status == api_pb2.STATUS_SUCCESS


def test_the_band_is_the_interval_over_replicas(tmp_path: Path) -> None:
    path = train(AGENT | {"replicas": 4, "updates": 2}, out=tmp_path / "run").directory
    found = events(path)
    for tag in ("evaluation/return", "objective/value"):
        (series,) = layout(found)[tag].margin.series
        last = summarize(rows(path)[-1][tag])
        shown = [found.Scalars(name)[-1].value for name in (series.value, series.lower, series.upper)]
        assert shown == pytest.approx([last["mean"], *last["ci95"]])


@pytest.mark.parametrize("config", [AGENT, CLASSIFIER, SURFACE], ids=["agent", "classifier", "surface"])
def test_a_points_step_is_the_work_of_one_replica(tmp_path: Path, config: dict) -> None:
    run = train(config, out=tmp_path / "run")
    lines, found = rows(run.directory), events(run.directory)
    work = [sum(line[run.problem.work]) / len(line[run.problem.work]) for line in lines]
    assert [line["step"] for line in lines] == [round(each) for each in work]
    assert [point.step for point in found.Scalars("objective/value")] == [round(each) for each in work]
    assert [line["update"] for line in lines] == list(range(1, len(lines) + 1))


def test_a_band_has_both_ends_at_each_of_its_points(tmp_path: Path) -> None:
    """TensorBoard draws none otherwise. Replicas that are all equal have no interval: the band has no width there."""
    config = {
        "problem": "logistic",
        "data": "iris",
        "replicas": 3,
        "updates": 4,
        "optimizer": {"name": "SGD", "lr": 0.1},
    }
    run = train(config, out=tmp_path / "run", evaluation={"every_updates": 2})
    assert run.summary["evaluation.accuracy"]["ci95"] == [None, None]
    found = events(run.directory)
    for chart in layout(found).values():
        (series,) = chart.margin.series
        middle, low, high = (found.Scalars(name) for name in (series.value, series.lower, series.upper))
        assert [p.step for p in middle] == [p.step for p in low] == [p.step for p in high]
        assert [p.value for p in middle] == [p.value for p in low] == [p.value for p in high]


def test_starting_points_have_no_interval(tmp_path: Path) -> None:
    """They are no sample of anything."""
    run = train(SURFACE, out=tmp_path / "run")
    assert run.summary["objective"]["ci95"] == [None, None]
    assert run.summary["objective"]["mean"] is not None
    found = events(run.directory)
    assert not [tag for tag in found.Tags()["scalars"] if "ci95" in tag]
    assert all(not chart.HasField("margin") for chart in layout(found).values())


def test_one_replica_has_a_line_and_no_band(tmp_path: Path) -> None:
    found = events(train(CLASSIFIER, out=tmp_path / "run", replicas=1).directory)
    assert all(not chart.HasField("margin") for chart in layout(found).values())
    assert not [tag for tag in found.Tags()["scalars"] if "ci95" in tag]


def test_the_evaluation_and_the_objective_come_first(tmp_path: Path) -> None:
    groups = {tag.partition("/")[0] for tag in events(train(AGENT, out=tmp_path / "run").directory).Tags()["scalars"]}
    assert sorted(groups)[:2] == ["evaluation", "objective"]


def test_tensorboard_has_nothing_to_complain_about(tmp_path: Path, caplog) -> None:
    path = train(AGENT, out=tmp_path / "run").directory
    with caplog.at_level(logging.WARNING):
        events(path)
    assert not caplog.records


def test_a_resumed_runs_events_follow_in_the_same_order(tmp_path: Path) -> None:
    whole = train(AGENT, out=tmp_path / "whole").directory
    part = train(AGENT | {"updates": 2}, out=tmp_path / "part").directory
    resume(part, extend_to=AGENT["updates"])
    a, b = (events(path) for path in (whole, part))
    # those of the first sitting's end are cut off, so that none is there twice; the longer config is added
    assert [p.step for p in a.Scalars("objective/value")] == [p.step for p in b.Scalars("objective/value")]
    assert list(layout(a)) == list(layout(b))
    assert hparams(b, "session_end_info").session_end_info.status == api_pb2.STATUS_SUCCESS


def pictures(path: Path, tag: str) -> list:
    """As Pillow reads them."""
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed: the extra `play` brings it")
    found = events(path).Images(tag)
    opened = [image.open(io.BytesIO(each.encoded_image_string)) for each in found]
    assert [each.size for each in opened] == [(each.width, each.height) for each in found]
    return opened


def test_a_film_shows_the_policy_while_it_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason="pygame is not installed: the extra `play` brings it")
    monkeypatch.setattr("rlgrad.run.observers.pictures.SHARE", float("inf"))
    plain = train(AGENT | {"updates": 3}, out=tmp_path / "plain").directory
    path = train(AGENT | {"updates": 3, "pictures_every_updates": 2}, out=tmp_path / "run").directory
    first, *_, last = pictures(path, "pictures/film")
    assert first.format == "GIF"
    assert first.n_frames > 2
    assert len(events(path).Images("pictures/film")) == 3  # the first, that after two, and the last
    seen = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    seen.reset()
    assert last.size[::-1] == seen.render().shape[:2]
    assert rows(plain) == rows(path)  # who watches changes nothing


def test_the_film_of_a_sweep_is_of_its_first_value(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("pygame", reason="pygame is not installed: the extra `play` brings it")
    changed = {"updates": 1, "pictures_every_updates": 1, "environment": "Pendulum-v1", "episode_limit": 200}
    gains = {
        "policy": {"hidden": [4], "initial_gain": {"sweep": [0.5, 1.0]}, "initial_deviation": {"sweep": [0.5, 1.0]}}
    }
    path = train(AGENT | changed | gains, out=tmp_path / "run").directory
    assert capsys.readouterr().err == ""
    assert pictures(path, "pictures/film")[0].n_frames > 2


def test_pictures_that_cannot_be_made_cost_a_line_and_no_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = AGENT | {"environment": "tests/Countdown-v0", "updates": 3, "pictures_every_updates": 1}
    assert train(config, out=tmp_path / "run").summary["status"] == "completed"
    said = "there will be no pictures: tests/Countdown-v0 has no pictures to show: its render modes are none\n"
    assert capsys.readouterr().err == said  # once


def test_pictures_take_little_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr("rlgrad.run.observers.pictures.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("rlgrad.run.observers.pictures.SHARE", 1e-3)
    path = train(POINT | {"updates": 9, "pictures_every_updates": 1}, out=tmp_path / "run").directory
    assert len(events(path).Images("pictures/path")) == 2  # at its beginning and at its end


def test_a_surface_logs_its_point_and_draws_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlgrad.run.observers.pictures.SHARE", float("inf"))
    config = {"problem": "surface", "function": "x**2 + 2*y**2", "direction": "minimize", "start": [[1.0, 2.0]]}
    config |= {"updates": 6, "optimizer": {"name": "SGD", "lr": 0.1}, "pictures_every_updates": 5}
    path = train(config, out=tmp_path / "run").directory
    x, y = 0.8 ** np.arange(6), 2 * 0.6 ** np.arange(6)  # x goes to x - 0.1 * 2x, y to y - 0.1 * 4y
    assert np.array([row["point/x"] + row["point/y"] for row in rows(path)]) == pytest.approx(np.stack([x, y], 1))
    assert [point.value for point in events(path).Scalars("point/x")] == pytest.approx(x)
    first, _, last = (np.asarray(each.convert("L")) for each in pictures(path, "pictures/path"))
    assert first.shape == last.shape
    assert (first != last).any()
    assert last.min() < 50


def test_of_several_points_no_mean_is_shown(tmp_path: Path) -> None:
    path = train(SURFACE, out=tmp_path / "run").directory
    assert len(rows(path)[0]["point/x"]) == 3
    assert not [tag for tag in events(path).Tags()["scalars"] if "point" in tag]


def test_a_path_goes_on_where_a_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlgrad.run.observers.pictures.SHARE", float("inf"))
    monkeypatch.setattr("rlgrad.problems.surface.LONGEST", 3)  # so that it is thinned
    config = SURFACE | {"pictures_every_updates": 4, "checkpoint": {"every_updates": 1}}
    whole = train(config, out=tmp_path / "whole")
    crashing(5, lambda: train(config, out=tmp_path / "cut"))
    resumed = resume(tmp_path / "cut")
    assert_same(whole.directory, resumed.directory)
    drawn = [
        [each.encoded_image_string for each in events(run.directory).Images("pictures/path")]
        for run in (whole, resumed)
    ]
    assert drawn[0][-1] == drawn[1][-1]
    assert len(resumed.problem.path) <= 3
    assert len(rows(whole.directory)) == 8


def test_a_surface_of_one_variable_is_drawn_and_one_of_three_is_not(tmp_path: Path) -> None:
    for text, count in (("x**2", 1), ("x**2 + y**2 + z**2", 0)):
        config = POINT | {"function": text, "direction": "minimize", "pictures_every_updates": 9, "updates": 2}
        config |= {"start": [[1.0] * (1 if count else 3)]}
        path = train(config, out=tmp_path / str(count)).directory
        assert bool(events(path).Tags()["images"]) == bool(count)


def test_the_time_left_is_at_the_speed_of_this_sitting() -> None:
    """A run that went on at update 50 of 100 has done 10 updates in 10 seconds."""
    display = Display()
    display.first, display.length = 50, 100
    run: Any = SimpleNamespace(state=State(done=60), settings=SimpleNamespace(updates=100), now=20.0, began=10.0)
    assert display.left(run) == "0:00:40 left"


@pytest.mark.parametrize(
    ("config", "metric", "values", "best"),
    [
        (AGENT, "return", [-3.0, 0.0, -1.0], 1),  # a mean of 0 is a number too
        (CLASSIFIER, "log_loss", [0.3, 0.2, 0.4], 1),
        (CLASSIFIER, "log_loss", [0.0, 0.2, 0.4], 0),
    ],
)
def test_the_progress_names_the_best_value_of_a_sweep(
    config: Any, metric: str, values: list[float], best: int, tmp_path: Path
) -> None:
    class Watcher(Observer):
        def conclusion(self, run: Any) -> list[str]:
            run.state.evaluation = {metric: values}
            return [evaluated(run)]

    rates = [0.01, 0.02, 0.03]
    swept = {"optimizer": {**config["optimizer"], "lr": {"sweep": rates}}, "replicas": 1, "updates": 1}
    run = train(config | swept, out=tmp_path / "run", observers=[Watcher()])
    (said,) = [line for line in run.summary["conclusion"] if "the best" in line]
    assert f"{metric.replace('_', ' ')} {values[best]:g}" in said
    assert said.endswith(f"the best, with optimizer.lr={rates[best]:g}")

"""TensorBoard, arranged and live, as TensorBoard's own reader sees it."""

import logging
from pathlib import Path

import pytest
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from rlgrad.run import resume, train
from rlgrad.run.directory import dotted
from rlgrad.run.observer import Observer
from rlgrad.run.statistics import summarize
from tests.run.support import AGENT, CLASSIFIER, SURFACE, events, rows


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

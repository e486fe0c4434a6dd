"""Where the time of a run went."""

import json
from pathlib import Path

import pytest

from rlgrad.agents import rollouts
from rlgrad.run import train
from rlgrad.run.observers.log import Log
from tests.run.support import AGENT


def test_a_profile_says_where_the_time_went_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before = rollouts.step, rollouts.Player.act, Log.seen
    plain = train(AGENT, out=tmp_path / "plain", updates=8)
    assert capsys.readouterr().out == ""
    run = train(AGENT, out=tmp_path / "run", updates=8, profile=True)
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].split() == ["where", "the", "time", "went", "seconds", "part", "calls"]
    found = {line[:24].strip(): line[24:].split() for line in lines[1:]}
    assert {"environment", "policy", "objective", "optimizer", "log", "checkpoint", "everything else"} <= set(found)
    assert found["objective"][2] == "8"
    assert sum(float(part.rstrip("%")) for _, part, *_ in found.values()) == pytest.approx(100, abs=1)
    assert 0 < sum(float(seconds) for seconds, *_ in found.values()) < 2 * run.summary["wall_seconds"] + 5
    named = {event.get("name") for event in json.loads((run.directory / "trace.json").read_text())["traceEvents"]}
    assert {"environment", "policy", "objective", "optimizer"} <= named
    assert (rollouts.step, rollouts.Player.act, Log.seen) == before
    assert "sample" not in vars(run.problem)
    assert run.summary["objective"] == plain.summary["objective"]  # watching changes nothing


def test_a_run_that_is_too_short_for_a_trace_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = train(AGENT, out=tmp_path / "run", updates=3, profile=True)
    assert "no trace.json: the trace begins at update 4, and there were 3" in capsys.readouterr().err
    assert not (run.directory / "trace.json").exists()

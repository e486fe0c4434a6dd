"""A sweep as a run: what is said, written and drawn of each of its values."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rlgrad.cli import main
from rlgrad.config import load_config, with_sweeps
from rlgrad.errors import UsageError
from rlgrad.reports.loading import evaluate, load
from rlgrad.run import resume, train
from rlgrad.run.statistics import summarize
from tests.run.support import AGENT, assert_same, crashing, events, rows

BOWL = {
    "problem": "surface",
    "function": "x**2",
    "box": {"x": [-1, 1]},
    "direction": "minimize",
    "updates": 6,
    "replicas": 2,
}
SWEPT: dict[str, Any] = {"optimizer.lr": {"sweep": [0.0001, 0.3]}, "replicas": 3}


def test_each_value_has_the_summary_of_a_run_alone(tmp_path: Path) -> None:
    config = load_config(AGENT, SWEPT)
    train(config, out=tmp_path / "all")
    whole = json.loads((tmp_path / "all" / "summary.json").read_text())
    assert (whole["replicas"], whole["by_chance"], whole["objective"]["ci95"]) == (6, False, [None, None])
    again = evaluate(config, tmp_path / "all", None, 0)
    for number, settings in enumerate(config.settings.each()):
        train(own := config.with_settings(settings), out=tmp_path / str(number))
        of_it = f"{config.settings.cells[number].name}: return"
        assert again[of_it] == evaluate(own, tmp_path / str(number), None, 0)["return"]
        alone, cell = json.loads((tmp_path / str(number) / "summary.json").read_text()), whole["sweep"][number]
        assert cell["settings"] == {"optimizer.lr": [0.0001, 0.3][number]}
        for key in ("objective", "evaluation.return", "evaluation.length", "first_solved", "env_steps"):
            assert cell[key] == alone[key]
    assert whole["sweep"][0]["evaluation.return"]["ci95"] != [None, None]


def test_a_value_is_solved_when_its_own_replicas_are(tmp_path: Path) -> None:
    class Told:
        solved = "return", 10.0

    from rlgrad.run.state import State

    state, cells = State(work=[10.0, 20.0, 30.0, 50.0]), load_config(AGENT, SWEPT | {"replicas": 2}).settings.cells
    for returns, expected in (([12.0, 9.0, 11.0, 8.0], []), ([12.0, 9.0, 11.0, 10.0], [1]), ([12.0] * 4, [1, 0])):
        state.evaluation = {"return": returns}
        state.judge(Told(), cells)  # type: ignore[arg-type]
        assert list(state.solved) == expected
    assert (state.solved[1]["env_steps"], state.solved[0]["env_steps"]) == (40, 15)
    assert state.first_solved is not None


def test_each_value_has_its_points_and_intervals_in_tensorboard(tmp_path: Path) -> None:
    train(load_config(AGENT, SWEPT), out=tmp_path / "run")
    found, last = events(tmp_path / "run"), rows(tmp_path / "run")[-1]
    for number, rate in enumerate(("0.0001", "0.3")):
        expected = summarize(last["evaluation/return"][3 * number : 3 * number + 3])
        place = f"sweep/evaluation/return/optimizer.lr={rate}"
        assert found.Scalars(f"{place}/mean")[-1].value == pytest.approx(expected["mean"])
        assert found.Scalars(f"replicas/{place}/ci95_low")[-1].value == pytest.approx(expected["ci95"][0], rel=1e-5)
    rates = [rate * 0.9**5 for rate in (0.0001, 0.3)]
    assert last["update/learning_rate"] == pytest.approx([rates[0]] * 3 + [rates[1]] * 3)
    assert b"| optimizer.lr=0.3 |" in found.Tensors("sweep")[-1].tensor_proto.string_val[0]


@pytest.mark.parametrize(
    "schedule", [{"name": "LinearLR", "total_iters": 6}, {"name": "ReduceLROnPlateau", "patience": 0, "factor": 0.5}]
)
def test_a_sweep_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path, schedule: dict[str, Any]) -> None:
    config = AGENT | {"schedule": schedule, "checkpoint": {"every_updates": 1}}
    train(load_config(config, SWEPT), out=tmp_path / "whole")
    crashing(3, lambda: train(load_config(config, SWEPT), out=tmp_path / "killed"))
    resume(tmp_path / "killed")
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_a_value_that_stands_still_gets_a_lower_rate_and_the_others_keep_theirs(tmp_path: Path) -> None:
    schedule = {"name": "ReduceLROnPlateau", "patience": 1, "factor": 0.5, "threshold": 0.01}
    config = BOWL | {"optimizer": {"name": "SGD", "lr": {"sweep": [0.0001, 0.1]}}, "schedule": schedule}
    train(config, out=tmp_path / "run")
    rates = [row["update/learning_rate"] for row in rows(tmp_path / "run")]
    assert rates[-1] == [0.0001 / 4] * 2 + [0.1] * 2  # no better in updates 2 and 3, nor in 4 and 5


def test_the_command_prints_a_table_and_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--optimizer.lr", "0.001", "0.1", "--policy.hidden", "3", "4", "--replicas", "2", "--updates", "2"]
    more = ["--episodes", "2", "--evaluation.episodes", "2", "--out", str(tmp_path / "run")]
    assert main(["sweep", "--config", "cartpole", *words, *more]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if line.startswith("0.")] == ["0.001", "0.1"]
    assert (tmp_path / "run" / "sweep.png").stat().st_size > 10_000
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()][::2] == [
        ["optimizer.lr=0.001:", "return"], ["optimizer.lr=0.1:", "return"]
    ]  # fmt: skip
    model = load(tmp_path / "run", replica=2)
    assert model.settings.optimizer.arguments == {"lr": 0.1}
    assert "replica 2 of" in model.origin
    assert "(optimizer.lr=0.1)" in model.origin
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "optimizer.lr=0.001" in page
    assert "<h1>run: 2 settings compared</h1>" in page
    assert page.count("rlgrad reproduce") == 1  # it is one run
    capsys.readouterr()
    assert main(["list", "--in", str(tmp_path)]) == 0
    assert re.search(r"return \S+ to \S+ with 2 settings", capsys.readouterr().out)


def test_several_values_are_a_sweep_unless_the_setting_is_a_list() -> None:
    words = ["--policy.hidden", "3", "4", "--discount", "0.9", "1"]
    settings = with_sweeps("cartpole", words).settings
    assert (settings.policy.hidden, settings.grid) == ((3, 4), {("discount",): (0.9, 1.0)})  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="nothing is swept"):
        with_sweeps("cartpole", ["--discount", "0.9"])
    for name, *values in (("episodes", "2", "4"), ("policy.hidden", "[3]", "[4]")):
        with pytest.raises(UsageError, match=f"--{name}: .*all replicas of a run share it"):
            with_sweeps("cartpole", [f"--{name}", *values])

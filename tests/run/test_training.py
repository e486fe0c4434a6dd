"""A run: its directory, its summary, its end; interrupted, resumed, refused."""

import json
import math
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import pytest
import torch
import yaml
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import TimeLimit
from safetensors.torch import load_file
from scipy import stats

import rlgrad
from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.errors import RunError, UsageError
from rlgrad.networks import MLP
from rlgrad.run import resume, train
from rlgrad.run.state import State
from rlgrad.streams import Purpose, streams
from rlgrad.usage import SHIPPED
from tests.run.support import AGENT, CLASSIFIER, assert_same, crashing, events, rows, summary


def test_a_run_directory_holds_what_it_promises(tmp_path: Path) -> None:
    run = train(AGENT, out=tmp_path / "run", seed=3)
    names = {path.name for path in run.directory.iterdir()}
    assert {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "model.safetensors",
        "summary.json",
    } < names
    assert len(names) == 7
    assert any(name.startswith("events.out.tfevents") for name in names)
    written = yaml.safe_load((run.directory / "config.yaml").read_text())
    assert written["seed"] == 3
    assert written["episode_limit"] == 100_000  # as resolved, defaults included
    environment = json.loads((run.directory / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["seed"] == 3
    model = load_file(run.directory / "model.safetensors")
    assert all(torch.equal(model[name], tensor) for name, tensor in run.problem.model.state_dict().items())
    assert all(len(tensor) == 2 for tensor in model.values())


def test_a_run_says_first_whose_form_of_the_environment_plays(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for environment, form in (
        (AGENT["environment"], "our own"),
        ("tests/Countdown-v0", "Gymnasium's, copy after copy"),
    ):
        run = train(AGENT | {"environment": environment}, out=tmp_path / environment, quiet=False)
        printed = capsys.readouterr().out.splitlines()
        first = printed[0]
        assert first.startswith(f"{environment} is played by: {form}")
        recorded = json.loads((run.directory / "environment.json").read_text())["facts"]
        assert [f"{topic}: {fact}" for topic, fact in recorded.items()] == printed[: len(recorded)]
    recorded = run.directory / "environment.json"
    recorded.write_text(recorded.read_text().replace("Gymnasium's, copy after copy", "our own vectorized form"))
    resume(run.directory)
    now = "is played by: our own vectorized form -> Gymnasium's, copy after copy"
    assert now in capsys.readouterr().err


def test_the_summary_of_an_agent(tmp_path: Path) -> None:
    run = train(AGENT, out=tmp_path / "run")
    found = summary(run.directory)
    assert found == run.summary
    assert (found["status"], found["direction"], found["updates"]) == ("completed", "maximize", 6)
    assert (found["seed"], found["replicas"], found["first_solved"]) == (0, 2, None)
    assert found["wall_seconds"] > 0
    for key in ("objective", "evaluation.return", "evaluation.length"):
        statistics = found[key]
        assert set(statistics) == {"mean", "iqm", "ci95", "per_replica"}
        assert statistics["mean"] == pytest.approx(sum(statistics["per_replica"]) / 2)
        if len(set(statistics["per_replica"])) == 1:
            assert statistics["ci95"] == [None, None]
        else:
            expected = stats.t.interval(0.95, 1, statistics["mean"], stats.sem(statistics["per_replica"]))
            assert statistics["ci95"] == pytest.approx(expected)
    lengths = [row["episode/length"] for row in rows(run.directory)]  # of 4 episodes in each update
    assert found["env_steps"] == round(sum(4 * sum(each) for each in lengths) / 2)
    assert rows(run.directory)[-1]["episode/env_steps"] == [4 * sum(each) for each in zip(*lengths, strict=True)]
    played = run.problem.sample(6)  # the episodes that would come next, by the parameters that are saved
    assert found["objective"]["per_replica"] == pytest.approx(played.reward.sum(1).mean(1).tolist())


def test_the_summary_of_a_classifier(tmp_path: Path) -> None:
    found = train(CLASSIFIER, out=tmp_path / "run", replicas=1).summary
    assert found["direction"] == "minimize"
    for key in ("evaluation.accuracy", "evaluation.log_loss", "evaluation.prior_log_loss"):
        assert found[key]["ci95"] == [None, None]  # one replica says nothing about the spread
        assert found[key]["mean"] == found[key]["iqm"] == found[key]["per_replica"][0]
    assert found["evaluation.log_loss"]["mean"] < found["evaluation.prior_log_loss"]["mean"]


def test_first_solved_and_stopping_when_solved(tmp_path: Path) -> None:
    settings = {"updates": 40, "evaluation": {"every_updates": 1, "episodes": 20}, "stop_when_solved": True}
    run = train("cartpole", out=tmp_path / "run", replicas=2, **settings)
    found = run.summary
    assert found["status"] == "completed"
    assert found["updates"] < 40
    assert min(found["evaluation.return"]["per_replica"]) >= 475
    assert found["first_solved"]["env_steps"] == found["env_steps"]
    assert found["first_solved"]["seconds"] > 0
    earlier = [row for row in rows(run.directory)[:-1] if "evaluation/return" in row]
    assert all(min(row["evaluation/return"]) < 475 for row in earlier)
    assert resume(run.directory).summary["updates"] == found["updates"]  # it is over


def test_a_run_made_longer_was_not_solved_at_its_old_end(tmp_path: Path) -> None:
    """A run that was always so long has no evaluation there."""
    played = "gymnasium.envs.classic_control:CartPoleEnv"
    gymnasium.register("training/Easy-v0", played, reward_threshold=60, max_episode_steps=100)
    often: Any = {"environment": "training/Easy-v0", "optimizer": {"lr": {"sweep": [0.05, 0.04]}}, "replicas": 1}
    often |= {"evaluation": {"every_updates": 1, "episodes": 5}, "stop_when_solved": True}
    solved = train("cartpole", out=tmp_path / "often", **often).summary["updates"]
    seldom = often | {"evaluation": {"every_updates": solved + 2, "episodes": 5}}
    part = train("cartpole", out=tmp_path / "part", updates=solved, **seldom)
    assert part.summary["first_solved"]
    longer = resume(part.directory, extend_to=solved + 3).summary
    whole = train("cartpole", out=tmp_path / "whole", updates=solved + 3, **seldom).summary
    assert longer["updates"] == whole["updates"] > solved
    for a, b in zip([longer, *longer["sweep"]], [whole, *whole["sweep"]], strict=True):
        assert (a["first_solved"] or {}).get("env_steps") == (b["first_solved"] or {}).get("env_steps")


def test_solved_is_when_all_replicas_have_reached_the_threshold_for_the_first_time() -> None:
    """It need not be passed; the replicas that are set aside do not count; and a later fall does not matter."""
    problem: Any = SimpleNamespace(solved=("return", 475.0))
    state = State(done=7, work=[100.0, 300.0, 1.0], set_aside={2: 1})
    for values in ([475.0, 474.9, 999.0], [500.0, 475.0, 0.0]):
        assert state.first_solved is None
        state.evaluation = {"return": values, "length": [0.0] * 3}
        state.judge(problem)
    assert state.first_solved is not None
    assert state.first_solved["env_steps"] == 200
    first, state.work = dict(state.first_solved), [1000.0] * 3
    for values in ([0.0] * 3, [500.0] * 3):
        state.evaluation = {"return": values}
        state.judge(problem)
    assert state.first_solved == first
    settings = load_config(AGENT).settings  # 6 updates
    assert [State(done=done).over(settings) for done in (5, 6)] == [False, True]
    early = State(done=1, first_solved=first)
    assert early.over(settings.model_copy(update={"stop_when_solved": True}))
    assert not early.over(settings)


def test_evaluate_plays_other_episodes_for_each_seed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Countdowns from one to six; the mean of 30 of them is hardly ever the same twice."""
    config = AGENT | {"environment": "tests/Countdown-v0", "updates": 2, "evaluation": {"episodes": 30}}
    path = train(config, out=tmp_path / "run").directory
    said = {}
    for seed in ("1", "2", None):
        assert main(["evaluate", str(path), *(["--episode-seed", seed] if seed else [])]) == 0
        said[seed] = capsys.readouterr().out
    assert said[None] == said["1"] != said["2"]
    assert main(["evaluate", str(path), "--episode-seed", "-1"]) == 2


def test_what_tensorboard_reads(tmp_path: Path) -> None:
    path = train(AGENT, out=tmp_path / "run").directory
    found = events(path)
    lines = rows(path)
    steps = [sum(line["episode/env_steps"]) / 2 for line in lines]
    for tag, place in {
        "objective/value": "objective/value",
        "gradient/norm": "update/gradient/norm",
        "update/size": "update/size",
        "policy/entropy": "policy/entropy",
        "episode/length": "update/episode/length",
        "episode/return": "update/episode/return",
    }.items():
        points = found.Scalars(place)
        assert [point.step for point in points] == pytest.approx(steps, abs=0.5)
        assert [point.value for point in points] == pytest.approx([sum(line[tag]) / 2 for line in lines])
    rates = [point.value for point in found.Scalars("update/learning_rate")]
    assert rates == pytest.approx([0.05 * 0.9**n for n in range(6)])
    for name in ("evaluation/return/mean", *(f"replicas/evaluation/return/{end}" for end in ("ci95_low", "ci95_high"))):
        assert [point.step for point in found.Scalars(name)] == [lines[n]["step"] for n in (1, 3, 5)]
    assert [point.value for point in found.Scalars("update/number")] == list(range(1, 7))
    assert {"speed/work_per_second", "speed/updates_per_second"} <= set(found.Tags()["scalars"])
    assert b"CartPole-v1" in found.Tensors("config")[0].tensor_proto.string_val[0]
    assert b"maximized" in found.Tensors("direction")[0].tensor_proto.string_val[0]
    assert "objective itself" in found.SummaryMetadata("objective/value").summary_description
    assert [path for path in tmp_path.rglob("events.out.*") if path.parent != tmp_path / "run"] == []


def test_every_logged_tag_is_defined_on_its_page() -> None:
    from rlgrad.run.tags import page

    assert (Path(rlgrad.__file__).parent.parent / "docs" / "tags.md").read_text() == page()


@pytest.mark.parametrize("config", [AGENT, CLASSIFIER], ids=["agent", "classifier"])
def test_every_logged_tag_has_a_sentence(tmp_path: Path, config: dict) -> None:
    found = events(train(config, out=tmp_path / "run").directory)
    for tag in found.Tags()["scalars"]:
        assert found.SummaryMetadata(tag).summary_description, tag


def test_an_interrupted_run_is_saved_and_goes_on(tmp_path: Path) -> None:
    """By the command as it is; `test_signals.py` has all signals and kinds of output."""
    command = [sys.executable, "-m", "rlgrad", "train", "--config", "cartpole", "--out", str(tmp_path / "run")]
    command += ["--replicas", "1", "--episodes", "4", "--updates", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size > 0):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "rlgrad train --resume" in out
    found = summary(tmp_path / "run")
    assert found["status"] == "interrupted"
    assert found["updates"] == len(rows(tmp_path / "run"))
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("updates: 100000", f"updates: {found['updates'] + 2}"))
    assert resume(tmp_path / "run").summary["updates"] == found["updates"] + 2


def test_a_directory_that_holds_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train(AGENT, out=tmp_path / "run", updates=1)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(UsageError, match="not empty; continue it with --resume"):
        train(AGENT, out=tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make the run directory"):
        train(AGENT, out=tmp_path / "file")


def test_runs_are_numbered_and_never_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlgrad.run.directory import claim

    monkeypatch.chdir(tmp_path)
    claimed: list[Path] = []
    threads = [threading.Thread(target=lambda: claimed.append(claim("name", None))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, claimed)) == [f"runs/name-{n}" for n in range(1, 9)]


def test_a_wrong_sign_goes_the_wrong_way_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = SHIPPED / "breast_cancer.yaml"
    command = ["train", "--config", str(config), "--updates", "20", "--replicas", "1", "--wrong-sign"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert (
        "WRONG SIGN, ON PURPOSE: the objective is to be minimized, and this run ascends it" in capsys.readouterr().out
    )
    found = summary(tmp_path / "run")
    assert found["wrong_sign"]
    assert found["direction"] == "minimize"
    assert found["objective"]["mean"] > 10 * math.log(2)  # where it started
    # going against the cost is, to the bit, what going against the score is
    other = train(
        SHIPPED / "breast_cancer_ascent.yaml", updates=20, replicas=1, wrong_sign=True, out=tmp_path / "other"
    )
    assert other.summary["objective"]["mean"] == -found["objective"]["mean"]


def test_a_run_that_diverges_fails_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = CLASSIFIER | {"optimizer": {"name": "SGD", "lr": 1e38}, "schedule": None}
    with pytest.raises(RunError, match="is not finite"):
        train(config, out=tmp_path / "run")
    found = summary(tmp_path / "run")
    assert found["status"] == "failed"
    assert "not finite" in found["error"]
    for row in rows(tmp_path / "run"):
        assert json.dumps(row, allow_nan=False)
    arguments = ["train", "--config", "breast_cancer", "--optimizer.lr", "1e38", "--schedule", "null"]
    assert main([*arguments, "--out", str(tmp_path / "other")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_prints_lines_a_table_and_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--replicas", "2", "--episodes", "4", "--updates", "20", "--out", str(tmp_path / "my run")]
    assert main(["train", "--config", "cartpole", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "update 2/20  objective ↑" in printed
    assert "env steps/s" in printed
    assert "completed after 20 updates" in printed
    assert f"tensorboard --logdir {tmp_path}" in printed
    assert f"rlgrad evaluate '{tmp_path / 'my run'}'" in printed
    assert main(["evaluate", str(tmp_path / "my run")]) == 0
    assert "return" in capsys.readouterr().out


def test_the_compiler_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from rlgrad.cli import main; "
        f"main(['train', '--config', 'cartpole', '--quiet', '--replicas', '1', '--updates', '2', '--out', {str(tmp_path / 'run')!r}]); "
        "sys.exit('torch._dynamo.config' in sys.modules or 'sympy' in sys.modules or 'sklearn' in sys.modules or 'scipy.stats' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_stand_in_gives_way_to_the_compiler() -> None:
    code = (
        "import torch; from rlgrad.startup import import_torch; import_torch(); "
        "p = torch.nn.Parameter(torch.ones(2)); o = torch.optim.Adam([p]); p.sum().backward(); o.step(); "
        "f = torch.compile(lambda x: x.sin(), backend='eager'); assert torch.equal(f(p), p.sin()); "
        "import torch._dynamo.config, sys; assert sys.modules['torch._dynamo'].__file__; o.step()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("again", [{}, {"environment": "Acrobot-v1", "policy": {"hidden": [5]}}])
def test_environment_and_policy_may_be_given_as_settings(tmp_path: Path, again: dict[str, object]) -> None:
    short = {"updates": 1, "episode_limit": 600, "episodes": 2, "evaluation": {"episodes": 1}}
    run = train(AGENT | short, out=tmp_path / "run", environment="Acrobot-v1", policy={"hidden": [5]}, replicas=1)
    written = yaml.safe_load((run.directory / "config.yaml").read_text())
    assert (written["environment"], written["policy"]["hidden"], written["given"]) == ("Acrobot-v1", [5], {})
    assert resume(run.directory, **again).summary["status"] == "completed"
    with pytest.raises(UsageError, match=r"policy.hidden"):
        resume(run.directory, policy={"hidden": [6]})


def test_an_environment_and_a_policy_may_be_given_as_objects(tmp_path: Path) -> None:
    def network() -> torch.nn.Module:
        return MLP(4, 2, [3], streams(0, 2, Purpose.INITIAL))

    given = {"environment": lambda: TimeLimit(CartPoleEnv(), 40)}
    settings = {"updates": 4, "checkpoint": {"every_updates": 2}}
    whole = train(AGENT, out=tmp_path / "whole", policy=network(), **given, **settings)
    crashing(2, lambda: train(AGENT, out=tmp_path / "broken", policy=network(), **given, **settings))
    with pytest.raises(UsageError, match="made in Python: give it again"):
        resume(tmp_path / "broken", **given)
    resume(tmp_path / "broken", policy=network(), **given)
    assert_same(whole.directory, tmp_path / "broken")


def test_a_working_directory_that_is_gone_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="the working directory does not exist any more"):
        train(AGENT, out=tmp_path / "run")

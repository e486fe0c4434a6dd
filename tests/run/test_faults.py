"""What goes wrong while a run goes on: a line that says what, and nothing lost."""

import contextlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rlgrad import load
from rlgrad.cli import main
from rlgrad.errors import RunError
from rlgrad.run import checkpoint, resume, train
from rlgrad.run.faults import attempt, limited
from rlgrad.run.statistics import summarize
from tests.environments import Countdown
from tests.run.support import AGENT, POINT, SURFACE, assert_same, crashing, events, forked, rows, summary

WORKERS: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def no_worker_is_left():
    yield
    for each in WORKERS:
        each.kill()
        each.wait()
    WORKERS.clear()


class Faulty(Countdown):
    """Works for some steps, and then does what `fault` says. Its worker is a process that repeats what it is told."""

    def __init__(self, fault: str, after: int = 40):
        super().__init__(fixed=4)
        self.fault, self.steps_left = fault, after
        if fault.startswith("worker"):
            self.worker = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            WORKERS.append(self.worker)

    def step(self, action):
        observation, reward, *rest = super().step(action)
        self.steps_left -= 1
        if self.fault.startswith("worker"):
            if self.steps_left < 0:
                self.worker.send_signal(signal.SIGKILL if self.fault == "worker dies" else signal.SIGSTOP)
            self.worker.stdin.write(b"step\n")
            self.worker.stdin.flush()
            if self.worker.stdout.readline() != b"step\n":
                raise EOFError("the worker has died")
        if self.steps_left < 0:
            if self.fault == "raises":
                raise KeyError("no such\nmove")
            if self.fault == "hangs":
                while True:
                    time.sleep(1)
            if self.fault == "swallows":
                print("stuck", file=sys.stderr, flush=True)
                for _ in range(60):  # no process outlives a test that fails
                    with contextlib.suppress(Exception):
                        time.sleep(1)
            if self.fault == "shape":
                observation = np.zeros((2, 3), np.float32)
            if self.fault == "nan reward":
                reward = math.nan
            if self.fault == "nan observation":
                observation = observation * math.nan
            if self.fault == "reward of another shape":
                reward = np.zeros(2)
            if self.fault == "nothing":
                return None
        return observation, reward, *rest


gymnasium.register("tests/Faulty-v0", Faulty)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raises", r"the environment raised KeyError at step \d+: 'no such\\nmove'"),
        ("nan reward", r"the environment returned a reward that is not finite \(replica \d, episode \d, step \d+\)"),
        ("nan observation", r"the environment returned an observation that is not finite \(replica \d, "),
        ("shape", r"the environment returned an observation that does not fit: it is an array \(2, 3\) of float32, "),
        (
            "reward of another shape",
            r"the environment does not follow Gymnasium's interface: the reward is an array of ",
        ),
        ("nothing", r"the environment does not follow Gymnasium's interface: step returns None "),
        ("worker dies", r"the environment raised (BrokenPipeError|EOFError|ConnectionResetError) at step \d+"),
        ("worker hangs", r"it takes longer than 2 s, the `update_seconds_limit`; does the environment hang\?"),
        ("hangs", r"it takes longer than 2 s, the `update_seconds_limit`"),
    ],
)
def test_an_environment_that_goes_wrong_is_one_line(tmp_path: Path, fault: str, said: str) -> None:
    config = AGENT | {"environment": "tests/Faulty-v0", "environment_options": {"fault": fault}, "episodes": 2}
    config |= {
        "update_seconds_limit": 2.0 if "hangs" in fault else 600.0,  # an update takes a hundredth of a second
        "checkpoint": {"every_updates": 1},
        "evaluation": {"every_updates": 100},
        "updates": 99,
    }
    with pytest.raises(RunError, match=rf"update \d+: {said}.*; the last checkpoint is whole") as caught:
        train(config, out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    found = summary(tmp_path / "run")
    assert found["status"] == "failed"
    assert found["error"] in str(caught.value)
    assert checkpoint.read(tmp_path / "run" / "checkpoint.pt")["state"]["done"] == len(rows(tmp_path / "run")) > 0


def test_an_environment_that_hangs_before_the_first_update_is_ended(tmp_path: Path) -> None:
    class Asleep(Countdown):
        def reset(self, **given: Any) -> Any:
            time.sleep(1000)

    config = {name: value for name, value in AGENT.items() if name != "environment"} | {"update_seconds_limit": 0.5}
    with pytest.raises(RunError, match=r"it takes longer than 0.5 s, the `update_seconds_limit`"):
        train(config, out=tmp_path / "run", environment=Asleep)


def test_a_silence_that_is_too_long_is_told_again_to_whoever_swallows_it() -> None:
    before = signal.getsignal(signal.SIGALRM)

    def deaf() -> None:
        with limited(0.05):
            with contextlib.suppress(RunError):
                time.sleep(5)
            time.sleep(5)

    with pytest.raises(RunError, match=r"it takes longer than 0.05 s, the `update_seconds_limit`"):
        deaf()
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)  # and it rings no more


LEAPS = SURFACE | {  # descent on x^4 from 9 leaps further at every step, and from 0.3 and 1 it does not
    "function": "x**4",
    "direction": "minimize",
    "start": [[0.3], [9.0], [1.0]],
    "box": {"x": [-2, 2]},
    "optimizer": {"name": "SGD", "lr": 0.05, "momentum": 0.5},
    "on_divergence": "set_aside",
    "evaluation": {"every_updates": 2},
    "checkpoint": {"every_updates": 1},
}


def test_a_replica_that_diverges_is_set_aside_and_the_others_do_not_notice(tmp_path: Path, capsys) -> None:
    path = train(LEAPS, out=tmp_path / "run").directory
    assert "replica 1 is not finite: it is set aside, 2 go on" in capsys.readouterr().err
    found = summary(path)
    assert found["status"] == "completed"
    (step,) = found["set_aside"].values()
    assert list(found["set_aside"]) == ["1"]
    alone = train(LEAPS | {"start": [[0.3], [1.0]], "replicas": 2}, out=tmp_path / "alone").directory
    for row, other in zip(rows(path), rows(alone), strict=True):
        for tag, values in row.items():
            if isinstance(values, list):
                assert [values[0], values[2]] == other[tag], tag
                assert (values[1] is None) == (row["update"] > step), tag
    for key in ("objective", "evaluation.value"):
        first, middle, last = found[key]["per_replica"]
        assert middle is None
        assert found[key] == summarize([first, last], by_chance=False) | {"per_replica": [first, None, last]}
    weights = load_file(path / "model.safetensors")["point"]
    assert weights.isfinite().all()
    means = {point.step: point.value for point in events(path).Scalars("objective/value")}
    for row in rows(path)[step:]:
        first, _, last = row["objective/value"]
        assert means[row["step"]] == pytest.approx((first + last) / 2)


def test_a_run_with_a_replica_set_aside_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = train(LEAPS, out=tmp_path / "whole").directory
    for step in range(8):
        crashing(step, lambda: train(LEAPS, out=tmp_path / "broken") if step == 0 else resume(tmp_path / "broken"))  # noqa: B023
    resume(tmp_path / "broken")
    assert_same(whole, tmp_path / "broken")


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of replica 1 is not finite in update 2, nor after it."""
    from rlgrad.problems.reinforce import Reinforce
    from rlgrad.problems.surface import SurfaceProblem

    for problem in (Reinforce, SurfaceProblem):

        def sample(self, step, original=problem.sample):
            self.bad = step >= 2
            return original(self, step)

        def objective(self, batch, original=problem.objective):
            estimate = original(self, batch)
            poison = torch.ones_like(estimate.value)
            poison[1:2] = math.inf if self.bad else 1.0
            return estimate._replace(value=estimate.value * poison)

        monkeypatch.setattr(problem, "sample", sample)
        monkeypatch.setattr(problem, "objective", objective)


@pytest.mark.parametrize("name", ["SGD", "Adam", "LBFGS", "Muon", "Adafactor"])
def test_no_optimizer_lets_a_replica_feel_that_another_diverges(tmp_path: Path, poisoned, name: str) -> None:
    starts = [[0.5, 0.5], [-0.5, 1.0], [0.2, 0.1]]
    config = SURFACE | {"on_divergence": "set_aside", "optimizer": {"name": name, "lr": 1e-3}, "start": starts}
    run = train(config, out=tmp_path / "run")
    assert run.summary["set_aside"] == {"1": 2}
    shorter = train(config, out=tmp_path / "shorter", updates=2)
    alone = [train(config, out=tmp_path / str(k), start=[starts[k]], replicas=1) for k in (0, 2)]
    points = [each.problem.model().detach() for each in (run, shorter, *alone)]
    assert torch.equal(points[0], torch.stack([points[2][0], points[1][1], points[3][0]]))


def test_an_agent_that_diverges_is_set_aside(tmp_path: Path, poisoned) -> None:
    config = AGENT | {"on_divergence": "set_aside", "diagnose_every_updates": 1}
    path = train(config, out=tmp_path / "run").directory
    assert summary(path)["set_aside"] == {"1": 2}
    alone = train(config | {"replicas": 1}, out=tmp_path / "alone").directory
    assert [row["episode/return"][0] for row in rows(path)] == [row["episode/return"][0] for row in rows(alone)]
    assert all(row["episode/return"][1] is None for row in rows(path)[2:])
    assert rows(path)[5]["objective/achieved_change"][0] is not None
    assert all(tensor.isfinite().all() for tensor in load_file(path / "model.safetensors").values())


def test_what_was_set_aside_counts_in_no_statistic_afterwards_either(tmp_path: Path, capsys) -> None:
    """All replicas of the second value diverge at once."""
    config = {"problem": "logistic", "data": "breast_cancer", "batch_size": 8, "updates": 3, "replicas": 2}
    config |= {"on_divergence": "set_aside", "optimizer": {"name": "SGD", "lr": {"sweep": [0.1, 1e38]}}}
    path = train(config, out=tmp_path / "run").directory
    assert list(summary(path)["set_aside"]) == ["2", "3"]
    capsys.readouterr()
    assert main(["evaluate", str(path)]) == 0
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    first, second = (cell["evaluation.log_loss"] for cell in summary(path)["sweep"])
    assert second["mean"] is None
    assert "optimizer.lr=1e+38: log_loss" in printed
    assert any(line.startswith(f"optimizer.lr=0.1: log_loss         {first['mean']:.4g}  95%") for line in printed)
    assert "best of 2" in load(path).origin
    assert main(["report", str(path)]) == 0


def test_where_every_replica_diverges_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="replica 0 is not finite, and no other replica is left"):
        train(LEAPS | {"start": [[9.0], [9.0], [9.0]]}, out=tmp_path / "run")


def into_a_closed_pipe(output: Path, *arguments: str) -> int:
    """The exit status of `rlgrad ... | true`. output: where its standard error goes."""
    reading, writing = os.pipe()

    def work() -> int:
        os.dup2(writing, 1)
        os.close(reading)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = open(output, "w")  # noqa: SIM115
        return main([*arguments])

    child = forked(work)
    os.close(writing)
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_closed_pipe_ends_the_run_as_an_interruption_does(tmp_path: Path) -> None:
    """`rlgrad train ... | head -1`."""
    config, output = tmp_path / "config.yaml", tmp_path / "output"
    config.write_text(json.dumps(POINT | {"updates": 200}))
    status = into_a_closed_pipe(output, "train", "--config", str(config), "--out", str(tmp_path / "run"))
    assert status == 128 + signal.SIGPIPE
    assert output.read_text() == "standard output cannot be written to: the run ends here\n"
    assert summary(tmp_path / "run")["status"] == "interrupted"
    assert checkpoint.exists(tmp_path / "run")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_a_second_interrupt_leaves_at_once(tmp_path: Path) -> None:
    """While an update goes on that would never end."""
    config = AGENT | {"environment": "tests/Faulty-v0", "environment_options": {"fault": "swallows"}, "updates": 99}
    config |= {"checkpoint": {"every_updates": 1}}
    path, output = tmp_path / "run", tmp_path / "output"

    def work() -> int:
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        return main(["train", "--config", str(tmp_path / "config.yaml"), "--out", str(path), "--quiet"])

    output.touch()
    child = forked(work, output)
    wait_for(lambda: "stuck" in output.read_text())
    os.kill(child, signal.SIGINT)
    wait_for(lambda: "again to leave at once" in output.read_text())
    os.kill(child, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert "Traceback" not in output.read_text()
    assert not (path / "summary.json").exists()


def test_commands_into_a_closed_pipe_are_silent(tmp_path: Path) -> None:
    assert into_a_closed_pipe(tmp_path / "output", "schema") == 128 + signal.SIGPIPE
    assert (tmp_path / "output").read_text() == ""


def test_the_limit_leaves_no_module_half_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import is not the update's work: the time begins anew after it."""
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.25)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert attempt(lambda: importlib.import_module("slow_to_import").whole, 0.1)
    del sys.modules["slow_to_import"]
    with pytest.raises(RunError, match=r"takes longer than 0\.1 s"):
        attempt(lambda: (importlib.import_module("slow_to_import"), time.sleep(30)), 0.1)
    assert sys.modules.pop("slow_to_import").whole

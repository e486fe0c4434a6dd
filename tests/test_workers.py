"""Processes that step environments beside the one that learns: the same bits, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import yaml

from rlgrad import RunError, UsageError, train
from rlgrad.agents import experience
from rlgrad.config import load_config
from rlgrad.run import resume
from tests.environments import Odd

for name in ("Odd", "Faulty", "normalised"):
    gymnasium.register(f"workers/{name}-v0", f"tests.environments:{name}")

CONFIG: dict[str, Any] = {
    "problem": "reinforce", "environment": "workers/Odd-v0", "episodes": 3, "replicas": 2, "updates": 3,
    "optimizer": {"name": "SGD", "lr": 0.1}, "evaluation": {"every_updates": 2, "episodes": 2},
}  # fmt: skip
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
CRITIC = {"baseline": "critic", "segment": 7}


def rows(run: Any) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "speed" not in key} for line in lines]


def facts(config: dict[str, Any], **objects: Any) -> Mapping[str, str]:
    problem = load_config(config, {}, objects=objects).build().problem
    with closing(problem):
        return problem.facts


def children(of: int) -> set[int]:
    """The processes of a process."""
    tasks = Path(f"/proc/{of}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def alive(pid: int) -> bool:
    """Whether a process is there, and more than what nobody has asked about yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Any:
    before = children(os.getpid()), set(os.listdir("/dev/shm")), len(os.listdir("/proc/self/fd"))
    yield
    assert (children(os.getpid()), set(os.listdir("/dev/shm")), len(os.listdir("/proc/self/fd"))) == before


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"environment": "workers/normalised-v0", **CRITIC},
        {"action_repeat": 2, "environment": "workers/normalised-v0", "episodes": 2},  # one copy has no worker
    ],
)
def test_any_number_of_workers_leads_to_the_same_bits(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = [rows(train(CONFIG | changes | {"workers": n}, out=tmp_path / str(n))) for n in (0, 2)]
    assert found[0] == found[1]


def test_a_worker_starts_without_torch() -> None:
    """Which would take it two seconds, and 200 MB each."""
    asked = "import sys, rlgrad.environments.processes; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=ENVIRON)
    assert found.stdout == "False\n"


@pytest.mark.parametrize("given", [{"workers": 0}, {"workers": 1}, {}])
def test_a_run_goes_on_with_other_workers(tmp_path: Path, given: dict[str, int]) -> None:
    changes = {"environment_options": {"wear": 0}, **CRITIC}
    whole = rows(train(CONFIG | changes | {"workers": 0}, out=tmp_path / "whole"))
    train(CONFIG | changes | {"updates": 2, "workers": 2}, out=tmp_path / "half")
    half = resume(tmp_path / "half", extend_to=3, **given)
    assert [row["objective/value"] for row in rows(half)] == [row["objective/value"] for row in whole]
    assert yaml.safe_load((tmp_path / "half" / "config.yaml").read_text())["workers"] == given.get("workers", 2)


@pytest.mark.parametrize("how", ["raises", "leaves", "exits"])
def test_an_error_in_a_worker_reads_as_without(tmp_path: Path, how: str) -> None:
    said = []
    for workers in (0, 2):
        options = {"how": how, "spared": os.getpid() if workers else 0}
        changes = {"environment": "workers/Faulty-v0", "environment_options": options, "workers": workers}
        with pytest.raises(RunError) as caught:
            train(CONFIG | changes | {"replicas": 1, "baseline": "none"}, out=tmp_path / str(workers))
        said.append(str(caught.value).partition(": ")[2])
    assert said[1] == said[0].replace("episode 0", "episode 1")  # the first of the three copies is not in a worker


def test_a_worker_that_is_killed_is_named(tmp_path: Path) -> None:
    changes = {
        "environment": "workers/Faulty-v0",
        "environment_options": {"how": "dies", "spared": os.getpid()},
        "workers": 1,
    }
    with pytest.raises(RunError, match=r"a worker.* has ended: killed by SIGKILL"):
        train(CONFIG | changes, out=tmp_path / "run")
    assert json.loads((tmp_path / "run/summary.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("seconds", "said"), [(1e-6, "none: a step of all 6 copies is too short"), (1.0, "3, in addition")]
)
def test_auto_is_worth_it(seconds: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experience, "pace", lambda *_: seconds)
    monkeypatch.setattr(experience, "cores", lambda: 4)
    assert facts(CONFIG)["workers"].startswith(said)
    assert "workers" not in facts(CONFIG | {"environment": "CartPole-v1"})
    assert facts(CONFIG | {"environment": "CartPole-v1", "workers": 2})["workers"].startswith(
        "none: all copies play at"
    )


def test_a_worker_that_hangs_is_ended(tmp_path: Path) -> None:
    changes = {
        "environment": "workers/Faulty-v0",
        "environment_options": {"how": "hangs", "spared": os.getpid()},
        "workers": 1,
    }
    with pytest.raises(RunError, match="update_seconds_limit"):
        train(CONFIG | changes | {"update_seconds_limit": 2}, out=tmp_path / "run")


def test_what_no_other_process_can_make_needs_no_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = type("Mine", (Odd,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "Mine", mine, raising=False)
    for factory in (mine, lambda: Odd()):
        with pytest.raises(UsageError, match=r"workers: no other process can make .*; or set workers: 0"):
            train(CONFIG | {"workers": 1}, environment=factory, out=tmp_path / "run")
        assert "no other process can make" in facts(CONFIG, environment=factory)["workers"]


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGKILL", -9)])
def test_workers_end_with_their_run(tmp_path: Path, number: str, code: int) -> None:
    """Signals to all that belong together, as Ctrl-C and schedulers send them; and a kill of the parent alone."""
    (tmp_path / "mine.py").write_text('import gymnasium\ngymnasium.register("mine/Odd", "tests.environments:Odd")')
    told = CONFIG | {"updates": 10**6, "imports": ["mine"], "environment": "mine/Odd"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(told))
    run = subprocess.Popen(
        [sys.executable, "-m", "rlgrad", "train", "--config", "c.yaml", "--workers=2", "--out=run", "--allow-imports"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env=ENVIRON,
    )  # fmt: skip
    try:
        while len(workers := children(run.pid)) < 2 or not (tmp_path / "run/metrics.jsonl").exists():
            assert run.poll() is None, run.communicate()
            time.sleep(0.02)
        for pid in workers if number != "SIGKILL" else ():
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        os.kill(run.pid, getattr(signal, number))
        said = run.communicate()[0]  # which ends when the workers have let go of it, too
    finally:
        run.kill()
    assert run.returncode == code
    assert "Traceback" not in said
    assert number == "SIGKILL" or (tmp_path / "run/checkpoint.pt").exists()
    while any(alive(pid) for pid in workers):  # they let go of what they print to a moment before they are gone
        time.sleep(0.02)

"""Two processes, under torchrun, against one. `checks/test_distributed.py` does so with everything that they share."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch.distributed import TCPStore

from rlgrad.agents.segments import joined, part
from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.problems.reinforce import Reinforce
from tests.ranked import work, work_through
from tests.run.support import forked

RANKED = Path(__file__).with_name("ranked.py")
ROWS = {"problem": "logistic", "data": "iris", "dtype": "float64", "updates": 4, "replicas": 2, "l2": 0.01,
        "initial_deviation": 0.3, "batch_size": 25}  # fmt: skip
SGD = {"name": "SGD", "lr": 0.1}
CART = {"problem": "reinforce", "environment": "CartPole-v1", "updates": 3, "replicas": 2, "episodes": 5, "seed": 3,
        "optimizer": {"name": "Adam", "lr": 0.01}, "policy": {"hidden": [8]}, "evaluation": {"episodes": 3},
        "diagnose_every_updates": 2}  # fmt: skip
JOBS = {
    "rows": ROWS | {"optimizer": {"name": "Adam", "lr": 0.1}},
    "segments": CART | {"segment": 10, "baseline": "critic", "critic": {"hidden": [4]}, "replicas": 1},
    "passes": CART | {"segment": 10, "problem": "ppo", "replicas": 1, "epochs": 2, "minibatches": 2, "updates": 2},
    "alone": CART
    | {
        "segment": 10,
        "baseline": "critic",
        "replicas": 1,
        "updates": 2,
        "critic": {"hidden": [4], "epochs": 2, "optimizer": {"name": "SGD", "lr": 0.1}},
    },
    "replicas": CART | {"segment": 10, "problem": "ppo", "kl_stop": 0.001, "normalise_observations": True},
}


def torchrun(ranks: int, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), *map(str, words)]
    env = os.environ | {"PYTHONPATH": str(RANKED.parent.parent)}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=200)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_alike(one: Path, other: Path, tolerance: float = 1e-8) -> None:
    """The same parameters, buffers and log, but for rounding."""
    weights, others = (load_file(run / "model.safetensors") for run in (one, other))
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        np.testing.assert_allclose(others[name], value, tolerance, tolerance, err_msg=f"{one} {name}")
    assert len(metrics(one)) == len(metrics(other)) > 0
    for line, again in zip(metrics(one), metrics(other), strict=True):
        assert line.keys() == again.keys()
        for tag, value in line.items():
            expected, found = (np.array(each, float) for each in (value, again[tag]))
            np.testing.assert_allclose(found, expected, tolerance, tolerance, err_msg=f"{one} {tag} {line['update']}")


REFUSED = {
    "piece": (
        {"problem": "surface", "function": "bowl", "updates": 1, "optimizer": SGD},
        "have a share of a problem that",
    ),
    "few": (
        CART | {"episodes": 1, "replicas": 1, "baseline": "none"},
        "cannot each have a share of 1 episodes or rows in an update",
    ),
    "others": (
        ROWS | {"optimizer": SGD, "seed": None},
        "would train something else than the first: config.seed: 0 -> 1",
    ),
    "jobs.json": (ROWS | {"optimizer": SGD}, "cannot make the run directory"),
}


def assert_together_as_alone(folder: Path, jobs: dict[str, dict[str, Any]], pair: Callable[[Path], None]) -> None:
    """What two processes train is what one does; and both say what they refuse. pair: makes them do the jobs there."""
    refused = {name: config for name, (config, _) in REFUSED.items()}
    together = {f"{name}-2": config for name, config in jobs.items()} | refused
    (folder / "jobs.json").write_text(json.dumps(together))
    for name, config in jobs.items():
        work(config, folder / name)
    pair(folder)
    for name in jobs:
        assert_alike(folder / name, folder / f"{name}-2")
    for name, (_, message) in REFUSED.items():
        said = (folder / f"{name}.txt").read_text().splitlines()
        assert len(said) == 2  # of both processes
        assert all(message in line for line in said), said
        assert not (folder / name).is_dir()


def pair_of_torchrun(folder: Path) -> None:
    found = torchrun(2, RANKED, "jobs.json", cwd=folder)
    assert found.returncode == 0, found.stderr


def pair_of_forks(folder: Path) -> None:
    """Two copies of this process, told what torchrun tells its own: they need not import torch."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def work(rank: int) -> None:
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        os.chdir(folder)
        work_through("jobs.json")

    ranks = [forked(functools.partial(work, rank), folder / "output") for rank in (0, 1)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]
    assert ends == [0, 0], (folder / "output").read_text()


def test_two_processes_train_as_one_does(tmp_path: Path, float64: None) -> None:
    assert_together_as_alone(tmp_path, JOBS, pair_of_forks)
    one, two = (metrics(tmp_path / run)[0]["objective/value"] for run in ("replicas", "replicas-2"))
    assert one == two  # the first batch is the same to the bit


def test_segments_that_replicas_played_apart_go_on_together_and_apart_again(float64: None) -> None:
    settings = load_config(CART | {"segment": 10, "baseline": "critic"}).settings
    each = [Reinforce(settings, own=slice(0, 1)), Reinforce(settings, own=slice(1, 2))]
    for step in range(5):
        for one in each:
            one.sample(step)
    all_of = Reinforce(settings)
    all_of.load_state_dict(joined([one.state_dict() for one in each]))
    for number, one in enumerate(each):
        one.load_state_dict(part(all_of.state_dict(), slice(5 * number, 5 * number + 5)))
    together, apart = all_of.sample(5), [one.sample(5) for one in each]
    for name in ("observation", "action", "reward", "alive", "terminated"):
        found = np.concatenate([getattr(batch, name).numpy() for batch in apart])
        np.testing.assert_array_equal(found, getattr(together, name).numpy(), err_msg=name)
    for one in (all_of, *each):
        one.close()


def test_restarts_need_a_directory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    assert main(["train", "--config", "cartpole"]) == 2
    assert "--out DIR is missing" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_RANK", "1")  # what all processes of a machine find, the first says
    assert main(["train", "--config", "cartpole"]) == 2
    assert capsys.readouterr().err == ""

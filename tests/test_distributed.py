"""Several processes, under torchrun, against one."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from rlgrad import resume, train
from rlgrad.cli import main
from tests.ranked import work

RANKED = Path(__file__).with_name("ranked.py")
ROWS = {"problem": "logistic", "data": "iris", "dtype": "float64", "updates": 4, "replicas": 2, "l2": 0.01,
        "initial_deviation": 0.3, "batch_size": 25}  # fmt: skip
NO_INTERCEPT = {"intercept": False}  # of three classes those have a direction in which nothing changes
SGD = {"name": "SGD", "lr": 0.1}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "rows": {"optimizer": {"name": "Adam", "lr": 0.1}, "max_gradient_norm": 0.5},
    "uneven": {"optimizer": SGD, "batch_size": 37, "order": "file", "objective": "log_likelihood", "reduction": "sum"},
    "autograd": {"optimizer": SGD, "gradient": "autograd", **NO_INTERCEPT},
    "lbfgs": {"optimizer": {"name": "LBFGS", "line_search_fn": "strong_wolfe"}, "batch_size": None},
    "newton": {
        "optimizer": {"name": "Newton", "max_iter": 2},
        "batch_size": None,
        "curvature_examples": 30,
        **NO_INTERCEPT,
    },
    "newton_autograd": {"optimizer": {"name": "Newton", "max_iter": 1}, "gradient": "autograd", **NO_INTERCEPT},
    "newton_cg": {"optimizer": {"name": "Newton", "solver": "cg", "max_iter": 2}, "data": "wine"},
    "elastic_net": {"optimizer": {"name": "Newton"}, "l1": 0.01, "batch_size": None},
    "rates": {"optimizer": {"name": "Adam", "lr": {"sweep": [0.03, 0.1]}}, "replicas": 1},
    "divergence": {"optimizer": {"name": "NaturalGradient", "line_search": True}, "data": "breast_cancer"},
}
CART = {"problem": "reinforce", "environment": "CartPole-v1", "updates": 3, "replicas": 2, "episodes": 5, "seed": 3,
        "optimizer": {"name": "Adam", "lr": 0.01}, "policy": {"hidden": [8]}, "evaluation": {"episodes": 3},
        "diagnose_every_updates": 2}  # fmt: skip
CRITIC = {"baseline": "critic", "critic": {"hidden": [8]}}
ALONE = {"optimizer": {"name": "Adam", "lr": 0.01}, "epochs": 2, "minibatches": 3}
TRPO = {"name": "NaturalGradient", "line_search": True}
AGENTS: dict[str, dict[str, Any]] = {
    "none": {"baseline": "none", "discount": 0.9, "max_gradient_norm": 0.5},
    "batch_mean": {"baseline": "batch_mean", "standardise_advantages": True, "entropy_bonus": {"coefficient": 0.1}},
    "leave_one_out": {"baseline": "leave_one_out", "optimizer": {"name": "LBFGS"}, "action_repeat": 2},
    "running_mean": {"baseline": "running_mean", "normalise_observations": True, "normalise_returns": True},
    "optimal_constant": {"baseline": "optimal_constant", "environment": "Pendulum-v1", "episodes": 3},
    "optimal_per_parameter": {"baseline": "optimal_per_parameter", "environment": "rlgrad/Ring-v0"},
    "copies": {"simulator": "gymnasium", "baseline": "critic", "normalise_observations": True},
    "workers": {"simulator": "gymnasium", "workers": 1, "wrappers": [{"name": "NormalizeObservation"}]},
    "steps": {**CRITIC, "batch_steps": 150, "simulator": "gymnasium", "gae_lambda": 0.9, "time_limit": "bootstrap"},
    "segments": {**CRITIC, "segment": 40, "gae_lambda": 0.9, "normalise_returns": True},
    "segments_of_copies": {**CRITIC, "segment": 40, "simulator": "gymnasium", "episodes": 3},
    "natural": {"baseline": "critic", "critic": {"hidden": [8], **ALONE}, "optimizer": TRPO},
    "ppo": {"problem": "ppo", "segment": 32, "epochs": 2, "minibatches": 3, "kl_stop": 0.01},
    "pictures": {"environment": None},  # of `ranked`
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
    "few": (CART | {"episodes": 1, "baseline": "none"}, "cannot each have a share of 1 episodes or rows in an update"),
    "others": (
        ROWS | {"optimizer": SGD, "seed": None},
        "is to train something else than the first: config.seed: 0 -> 1",
    ),
    "jobs.json": (ROWS | {"optimizer": SGD}, "cannot make the run directory"),
}


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_several_processes_train_as_one_does(tmp_path: Path, double: None) -> None:
    jobs = {name: ROWS | more for name, more in CLASSIFIERS.items()} | {
        name: CART | more for name, more in AGENTS.items()
    }
    together = {f"{name}-2": config for name, config in jobs.items()}
    refused = {name: config for name, (config, _) in REFUSED.items()}
    (tmp_path / "jobs.json").write_text(json.dumps(together | refused))
    found = torchrun(2, RANKED, "jobs.json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    for name, config in jobs.items():
        work(config, tmp_path / name)
        assert_alike(tmp_path / name, tmp_path / f"{name}-2")
    for run in ("segments_of_copies", "segments_of_copies-2"):
        resume(tmp_path / run, extend_to=5)  # by one process
    assert_alike(tmp_path / "segments_of_copies", tmp_path / "segments_of_copies-2")
    for name, (_, message) in REFUSED.items():
        said = (tmp_path / f"{name}.txt").read_text().splitlines()
        assert len(said) == 2  # of both processes
        assert all(message in line for line in said), said
        assert not (tmp_path / name).is_dir()


def test_where_a_process_is_killed_the_others_end_and_all_go_on_from_the_checkpoint(tmp_path: Path) -> None:
    config = CART | {"environment": "tests.ranked:Deadly", "imports": ["tests.ranked"], "workers": 0, "updates": 6}
    (tmp_path / "deadly.yaml").write_text(yaml.safe_dump(config | {"checkpoint": {"every_updates": 1}}))
    train_py = RANKED.parent.parent / "scripts" / "train.py"
    words = ["--config", "deadly.yaml", "--allow-imports", "--quiet", "--out", "again"]
    found = torchrun(2, "--max-restarts", "1", train_py, *words, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    (said,) = [line for line in found.stderr.splitlines() if "rlgrad:" in line]
    assert re.fullmatch(r".* again: update [12]: another of the 2 processes has ended, or hangs; .*", said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        train(tmp_path / "deadly.yaml", out=tmp_path / "whole", allow_imports=True)
    assert_alike(tmp_path / "whole", tmp_path / "again", 1e-4)  # in single precision


def test_restarts_need_a_directory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    assert main(["train", "--config", "cartpole"]) == 2
    assert "--out DIR is missing" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_RANK", "1")  # what all processes of a machine find, the first says
    assert main(["train", "--config", "cartpole"]) == 2
    assert capsys.readouterr().err == ""

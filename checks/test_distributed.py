"""Several processes under torchrun give the results of one: all kinds of gradients, baselines and environments."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlgrad import resume, train
from tests.conftest import float64, one_core, one_thread  # noqa: F401
from tests.test_distributed import (
    CART,
    RANKED,
    ROWS,
    SGD,
    assert_alike,
    assert_together_as_alone,
    pair_of_torchrun,
    torchrun,
)

NO_INTERCEPT = {"intercept": False}  # the intercepts of three classes have a direction in which nothing changes
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
CRITIC = {"baseline": "critic", "critic": {"hidden": [8]}}
ALONE = {"optimizer": {"name": "Adam", "lr": 0.01}, "epochs": 2, "minibatches": 3}
TRPO = {"name": "NaturalGradient", "line_search": True}
AGENTS: dict[str, dict[str, Any]] = {
    "none": {"baseline": "none", "discount": 0.9, "max_gradient_norm": 0.5},
    "batch_mean": {"baseline": "batch_mean", "standardise_advantages": True, "entropy_bonus": {"coefficient": 0.1}},
    "leave_one_out": {"baseline": "leave_one_out", "optimizer": {"name": "LBFGS", "max_iter": 3}, "action_repeat": 2},
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


def test_several_processes_train_as_one_does(tmp_path: Path, float64: None) -> None:  # noqa: F811
    jobs = {name: ROWS | more for name, more in CLASSIFIERS.items()}
    jobs |= {name: CART | {"replicas": 3} | more for name, more in AGENTS.items()}  # the ranks divide the episodes
    jobs |= {f"{name}_of_replicas": CART | more for name, more in AGENTS.items()}  # the ranks divide the replicas
    assert_together_as_alone(tmp_path, jobs, pair_of_torchrun)
    for name in ("segments_of_copies", "segments_of_copies_of_replicas"):
        for run in (name, f"{name}-2"):
            resume(tmp_path / run, extend_to=5)  # by one process
        assert_alike(tmp_path / name, tmp_path / f"{name}-2")


def test_where_a_process_is_killed_the_others_end_and_all_go_on_from_the_checkpoint(tmp_path: Path) -> None:
    config = CART | {
        "environment": "tests.ranked:Deadly",
        "imports": ["tests.ranked"],
        "workers": 0,
        "updates": 6,
        "segment": 7,
    }
    config |= CRITIC
    (tmp_path / "deadly.yaml").write_text(yaml.safe_dump(config | {"checkpoint": {"every_updates": 1}}))
    train_py = RANKED.parent.parent / "scripts" / "train.py"
    words = ["--config", "deadly.yaml", "--allow-imports", "--quiet", "--out", "again"]
    found = torchrun(2, "--max-restarts", "1", "--monitor-interval", "5", train_py, *words, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    (said,) = [line for line in found.stderr.splitlines() if "rlgrad:" in line]
    assert re.fullmatch(r".* again: update [12]: another of the 2 processes has ended, or hangs; .*", said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        train(tmp_path / "deadly.yaml", out=tmp_path / "whole", allow_imports=True)
    assert_alike(tmp_path / "whole", tmp_path / "again", 1e-4)  # in single precision

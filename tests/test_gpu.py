"""On a GPU: the parameters and the log of the CPU but for rounding, of all that several processes can share, and of
surfaces; the same bits when it goes on; and several ranks."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from torch.distributed import HashStore

from checks.test_distributed import AGENTS, CLASSIFIERS
from rlgrad import distributed, load, ranks, resume
from rlgrad.cli import main
from rlgrad.run import checkpoint
from tests.ranked import Blinking, work
from tests.test_distributed import CART, RANKED, ROWS, assert_alike, torchrun

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")

GPU = {"device": "cuda"}
NETWORK = {k: v for k, v in ROWS.items() if k != "initial_deviation"} | {"problem": "classifier", "hidden": [5]}
NETWORKS: dict[str, dict[str, Any]] = {
    "network": {"optimizer": {"name": "Adam", "lr": 0.01}, "keep": {"best": True, "every_updates": 2}},
    "network_newton": {"optimizer": {"name": "Newton", "max_iter": 1}, "data": "breast_cancer", "updates": 1},
}
OTHERS: dict[str, dict[str, Any]] = {
    "folds": {"replicas": {"folds": 3}, "optimizer": {"name": "Newton"}, "batch_size": None},
    "proximal": {"optimizer": {"name": "Proximal", "lr": {"sweep": [0.1, 0.2]}, "momentum": 0.5}, "l1": 0.01},
    "stopping": {"optimizer": {"name": "SGD", "lr": 0.1}, "validation_fraction": 0.2, "updates": 30,
                 "early_stopping": {"patience": 1}, "evaluation": {"every_updates": 1}},
    "poisson": {"family": "poisson", "optimizer": {"name": "Newton"}},
    "gaussian": {"family": "gaussian", "optimizer": {"name": "NaturalGradient", "kl": None}},
}  # fmt: skip
BOTH = {"optimizer": {"name": "Adam", "lr": {"sweep": [0.01, 0.03]}}, "discount": {"sweep": [0.9, 1.0]}}
SWEPT = {"swept": BOTH | {"reward_scale": {"sweep": [0.5, 2.0]}, "baseline": "critic"}}
SURFACE = {"problem": "surface", "function": "(x - 1)**2 + cosh(y)", "direction": "minimize", "replicas": 3,
           "updates": 5, "box": {"x": [-1, 1], "y": [-1, 1]}, "pictures_every_updates": 2}  # fmt: skip
KINDS = {
    **{name: ROWS | own for name, own in (CLASSIFIERS | OTHERS).items()},
    **{name: NETWORK | own for name, own in NETWORKS.items()},
    **{name: CART | own for name, own in (AGENTS | SWEPT).items()},
    **{name: SURFACE | {"optimizer": {"name": name, "lr": 0.1}} for name in ("SGD", "LBFGS", "Newton")},
}


def config_of(name: str, folder: Path) -> dict[str, Any]:
    """The config of a kind, with a table of counts where it is to learn numbers."""
    config = KINDS[name]
    if "family" not in config:
        return config
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 3))
    lines = [f"{a},{b},{c},{rng.poisson(np.exp(0.5 * a - b / 3))}" for a, b, c in x]
    (folder / "counts.csv").write_text("\n".join(["a,b,c,count", *lines]))
    return config | {"data": str(folder / "counts.csv"), "batch_size": 25}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", KINDS)
def test_it_trains_as_on_the_cpu(tmp_path: Path, name: str) -> None:
    config = config_of(name, tmp_path)
    work(config, tmp_path / "cpu")
    work(config | GPU, tmp_path / "gpu")
    assert_alike(tmp_path / "cpu", tmp_path / "gpu", 1e-7)


@pytest.mark.parametrize("name", ["critic", "pictures", "steps", "rows", "network", "network_newton"])
def test_a_run_goes_on_to_the_same_bits_there_and_is_evaluated_on_the_cpu(tmp_path: Path, name: str) -> None:
    kinds = {**KINDS, "critic": CART | {"baseline": "critic", "normalise_observations": True}}
    config = {**kinds[name], **GPU, "updates": 2}
    work(config | {"updates": 4}, tmp_path / "whole")
    work(config, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    given: Any = {"environment": Blinking} if name == "pictures" else {}
    resume(tmp_path / "run", extend_to=4, **given)
    resume(tmp_path / "moved", extend_to=4, device="cpu", **given)
    whole, again, moved = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "run", "moved"))
    for key, value in whole.items():
        np.testing.assert_array_equal(again[key], value)
        np.testing.assert_allclose(moved[key], value, 1e-3, 1e-3)
    assert yaml.safe_load((tmp_path / "moved" / "config.yaml").read_text())["device"] == "cpu"
    saved = checkpoint.load(tmp_path / "run") or {}
    assert all(tensor.device.type == "cpu" for tensor in saved["model"].values())
    if not given:
        assert load(tmp_path / "run")
        assert main(["evaluate", str(tmp_path / "run")]) == 0


def test_what_is_on_gpus_goes_by_nccl_and_all_else_by_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.cuda.set_device(0)
    kind = distributed.backend("cuda")
    assert kind == "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(kind, store=HashStore(), rank=0, world_size=1)
    try:
        monkeypatch.setattr(ranks.here, "size", 2)  # else nothing is sent
        for device in ("cuda", "cpu"):
            truth, number = torch.tensor([True, False], device=device), torch.rand(3, device=device)
            found = distributed.summed(truth, number, number.double())
            assert [each.device.type for each in found] == [device] * 3
            assert (found[0] == truth).all()
            assert (found[1] == number).all()
        assert distributed.anyone([2, 15]) == [2, 15]
        distributed.begin_alike(torch.nn.Linear(2, 2, device="cuda"))
        monkeypatch.setattr(ranks.here, "size", 1)
    finally:
        torch.distributed.destroy_process_group()


def test_ranks_that_share_a_gpu_train_as_one_process(tmp_path: Path) -> None:
    jobs = {name: KINDS[name] | GPU for name in ("rows", "newton", "segments", "natural", "ppo", "pictures")}
    jobs |= {f"{name}_of_3": KINDS[name] | {"replicas": 3} | GPU for name in ("segments", "natural", "pictures")}
    (tmp_path / "jobs.json").write_text(json.dumps({f"{name}-2": config for name, config in jobs.items()}))
    found = torchrun(1 + torch.cuda.device_count(), RANKED, "jobs.json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    torch.set_default_dtype(torch.float64)
    try:
        for name, config in jobs.items():
            work(config, tmp_path / name)
            assert_alike(tmp_path / name, tmp_path / f"{name}-2", 1e-7)
    finally:
        torch.set_default_dtype(torch.float32)

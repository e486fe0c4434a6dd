"""A run on a device that is not the CPU: everything is made there, and it learns what it learns on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from rlgrad import distributed, resume
from rlgrad.cli import main
from rlgrad.errors import UsageError
from rlgrad.run import checkpoint, guest
from tests.devices import DEVICE, pretended
from tests.ranked import work
from tests.test_distributed import CART, ROWS, assert_alike

KINDS: dict[str, dict[str, Any]] = {
    "critic": CART | {"baseline": "critic", "normalise_returns": True, "normalise_observations": True, "updates": 1,
                      "entropy_bonus": {"coefficient": {"sweep": [0.0, 0.1]}}, "replicas": 1},
    "natural": CART | {"environment": None, "episodes": 3, "optimizer": {"name": "NaturalGradient", "line_search": True},
                       "updates": 1},
    "ppo": CART | {"problem": "ppo", "segment": 16, "environment": "Pendulum-v1", "baseline": "critic", "epochs": 1,
                   "minibatches": 2, "updates": 1},
    "newton": ROWS | {"optimizer": {"name": "Newton", "max_iter": 2}, "updates": 1},
    "network": {name: value for name, value in ROWS.items() if name != "initial_deviation"}
    | {"problem": "classifier", "hidden": [3], "optimizer": {"name": "Adam", "lr": 0.1}},
    "surface": {"problem": "surface", "function": "bowl", "updates": 2, "optimizer": {"name": "Newton"}},
}  # fmt: skip


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is none, as a machine may have none."""
    at = guest.on
    monkeypatch.setattr(distributed, "place", lambda wanted: torch.device("cpu") if wanted == "cpu" else DEVICE)
    monkeypatch.setattr(guest, "on", lambda device: at(device) if device.type == "cpu" else pretended())


@pytest.mark.usefixtures("float64", "gpu")
@pytest.mark.parametrize("name", KINDS)
def test_it_trains_as_on_the_cpu(tmp_path: Path, name: str) -> None:
    work(KINDS[name], tmp_path / "cpu")
    work(KINDS[name] | {"device": "cuda"}, tmp_path / "gpu")
    assert_alike(tmp_path / "cpu", tmp_path / "gpu")


@pytest.mark.usefixtures("gpu")
def test_a_run_goes_on_on_another_device(tmp_path: Path) -> None:
    config = KINDS["network"] | {"updates": 2}
    work(config | {"updates": 3}, tmp_path / "whole")
    work(config | {"device": "cuda"}, tmp_path / "run")
    saved = checkpoint.load(tmp_path / "run") or {}
    assert {type(each) for each in [*saved["model"].values(), *saved["optimizer"]["state"][0].values()]} == {
        torch.Tensor
    }
    resume(tmp_path / "run", extend_to=3, device="cpu")
    whole, moved = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "run"))
    for key, value in whole.items():
        np.testing.assert_array_equal(moved[key], value)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["device"] == "cpu"
    with pytest.raises(UsageError, match="--device: it is cpu, cuda or cuda:N"):
        resume(tmp_path / "run", extend_to=4, device="gpu")


def test_a_gpu_that_is_not_there_is_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["train", "--config", "cartpole", "--device", "cuda"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"device: cuda is not available: torch {torch.__version__} sees no GPU; use --device cpu")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert main(["train", "--config", "cartpole", "--device", "cuda:2"]) == 2
    assert "device: cuda:2 is not available" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "gpus", "places", "backend"),
    [
        ("cuda", 2, ["cuda:0", "cuda:1"], "cpu:gloo,cuda:nccl"),
        ("cuda", 1, ["cuda:0", "cuda:0"], "gloo"),
        ("cuda:1", 2, ["cuda:1", "cuda:1"], "gloo"),
        ("cpu", 2, ["cpu", "cpu"], "gloo"),
    ],
)
def test_each_rank_has_a_gpu_of_its_own_as_far_as_there_are_enough(
    monkeypatch: pytest.MonkeyPatch, wanted: str, gpus: int, places: list[str], backend: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for rank, expected in enumerate(places):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert str(distributed.place(wanted)) == expected
    assert distributed.backend(wanted) == backend

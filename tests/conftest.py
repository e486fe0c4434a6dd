import os
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlgrad.run import guest
from rlgrad.supervised import likelihood
from tests.environments import Anything, Countdown, TwoStep

gymnasium.register("tests/TwoStep-v0", TwoStep)
gymnasium.register("tests/Countdown-v0", Countdown)
gymnasium.register("tests/Limited-v0", Countdown, max_episode_steps=3)
TWO = spaces.Discrete(2)
for name, observation, action in (
    ("Texts", spaces.Text(5), TWO),
    ("Levers", TWO, spaces.Box(0, 9, (2,), np.int64)),
    ("Discrete", spaces.Discrete(5), spaces.Discrete(3, start=-1)),
    ("MultiDiscrete", spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([3, 2, 4], start=[1, 0, -2])),
    ("Table", spaces.MultiBinary(4), spaces.MultiDiscrete([[3, 2], [4, 2]])),
    ("MultiBinary", spaces.Box(-1, 1, (2, 3), np.float64), spaces.MultiBinary(5)),
    ("Switches", TWO, spaces.MultiBinary([2, 3])),
    ("Box", spaces.Dict(a=spaces.Box(0, 1, (2, 2)), b=spaces.Discrete(3)), spaces.Box(-1, 3, (2, 2), np.float64)),
    ("Fixed", TWO, spaces.Box(np.array([-1.0, 2.0, 1.0]), np.array([3.0, 2.0, 5.0]), dtype=np.float64)),
    ("Far", spaces.Box(1e9, 1e9 + 2, (3,), np.float64), TWO),
    ("Open", spaces.Tuple((TWO, spaces.Box(-np.inf, np.inf, (3,)))), spaces.Box(-np.inf, np.inf, (3,), np.float32)),
    ("Image", spaces.Box(0, 255, (10, 12, 3), np.uint8), TWO),
    ("Bytes", spaces.Box(0, 255, (6,), np.uint8), TWO),
):
    gymnasium.register(f"tests/{name}-v0", Anything, kwargs={"observation": observation, "action": action})


@pytest.fixture(params=["cpu", "none"], ids=["numpy", "torch"])
def either_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likelihoods are computed by numpy, as on the CPU; then by torch, as on a GPU."""
    monkeypatch.setattr(likelihood, "NUMPY", request.param)


@pytest.fixture(scope="session", autouse=True)
def no_power_cut() -> Iterator[None]:
    """What a test writes need not outlive the machine: to wait for the disk would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> None:
    guest.set_threads(1, dict.fromkeys(guest.numpy_libraries(), 1))


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test hangs on a clock: workers are there where a test asks for them."""
    monkeypatch.setattr("rlgrad.agents.experience.cores", lambda: 1)


@pytest.fixture
def float64():
    """Double precision for the models and data of a test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)

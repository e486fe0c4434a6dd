import gymnasium
import pytest
import torch

from tests.environments import Countdown, TwoStep

gymnasium.register("tests/TwoStep-v0", TwoStep)
gymnasium.register("tests/Countdown-v0", Countdown)
gymnasium.register("tests/Limited-v0", Countdown, max_episode_steps=3)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def float64():
    """Double precision for the models and data of a test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)

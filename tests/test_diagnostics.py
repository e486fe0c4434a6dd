"""What one batch tells of its gradient."""

import numpy as np
import pytest
import torch

from rlgrad.agents.diagnostics import MOST, effective_number, explained_variance, quality_of_gradient
from rlgrad.agents.gradient import Terms, by_halves, policy_gradient
from rlgrad.config import load_config
from rlgrad.replicas import flatten


def test_two_halves_tell_signal_from_noise() -> None:
    """Numerator and denominator are unbiased, each by itself: their means over many batches are the truth."""
    generator = torch.Generator().manual_seed(0)
    signal, noise, batches = torch.tensor([3.0, -1.0, 0.5]), 2.0, 200_000
    g, h = (signal + noise * 2**0.5 * torch.randn(batches, 3, generator=generator) for _ in range(2))
    found = quality_of_gradient(g, h)
    assert found["gradient/deviation"].square().mean() == pytest.approx(3 * noise**2, rel=0.01)
    assert (g * h).sum(1).mean() == pytest.approx(float(signal.square().sum()), rel=0.05)
    ratio = found["gradient/signal_to_noise"] * found["gradient/deviation"].square()
    torch.testing.assert_close(ratio, (g * h).sum(1).clamp(min=0), rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1.0, 1e12])
def test_halves_that_agree_have_a_bounded_ratio(size: float) -> None:
    g = size * torch.tensor([[1.0, 2.0, -3.0]])
    found = quality_of_gradient(g, g.clone())["gradient/signal_to_noise"]
    assert found.item() == (0.0 if size == 0 else pytest.approx(MOST))
    almost = quality_of_gradient(g, g * (1 + 1e-6))["gradient/signal_to_noise"]
    assert 0 <= almost.item() <= MOST * 1.0001


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_what_is_told_of_a_gradient_and_a_baseline_has_no_unit(size: float) -> None:
    g, h, target, guess = np.random.default_rng(0).normal(size=(4, 5))
    cosine = g @ h / np.sqrt((g @ g) * (h @ h))
    both = (torch.tensor(size * x, dtype=torch.float32)[None] for x in (g, h))
    assert quality_of_gradient(*both)["gradient/half_cosine"].item() == pytest.approx(cosine, rel=1e-5)
    batch = [torch.tensor(size * x, dtype=torch.float32).reshape(1, 5, 1) for x in (guess, target)]
    found = explained_variance(*batch, torch.ones(1, 5, 1, dtype=torch.bool))
    assert found.item() == pytest.approx(1 - (target - guess).var() / target.var(), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 1e-12, 0.1, 1e6])
def test_targets_that_do_not_differ_have_no_variance_to_explain(value: float) -> None:
    target = torch.full((1, 7, 1), value)
    guess = target + torch.linspace(-1, 1, 7).reshape(1, 7, 1)
    assert -MOST <= explained_variance(guess, target, torch.ones(1, 7, 1, dtype=torch.bool)).item() < -10


def test_the_gradient_of_all_is_the_mean_of_its_halves_by_their_episodes() -> None:
    told = {"problem": "reinforce", "environment": "CartPole-v1", "episodes": 5, "updates": 1}
    problem = load_config(told | {"optimizer": {"name": "SGD", "lr": 1.0}}).build().problem
    batch = problem.sample(0)
    credit = torch.randn(batch.alive.shape, generator=torch.Generator().manual_seed(0)) * batch.alive
    g, h = by_halves(problem.model, batch, credit)
    whole = flatten(policy_gradient(problem.model, batch, Terms(credit)).gradient)
    torch.testing.assert_close((2 * g + 3 * h) / 5, whole, rtol=1e-4, atol=1e-4)


def test_how_many_episodes_still_count() -> None:
    """The first has become 1.5 · 1.5 · 0.8 times as probable as the second: (w + 1)² / (w² + 1)."""
    log_ratio = torch.tensor([[[1.5, 1.0], [1.5, 1.0], [0.8, 1.0]]]).log()
    assert effective_number(log_ratio).item() == pytest.approx(2.8**2 / (1.8**2 + 1))

"""Policies of every kind: their densities, their draws, and what they leave to the environment."""

import itertools
import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import integrate, stats
from torch import Tensor, nn

from rlgrad import updates
from rlgrad.agents.normalisers import Normaliser
from rlgrad.agents.policies import GaussianPolicy, Policy, outputs, policy_for
from rlgrad.config import load_config
from rlgrad.environments.spaces import visible_space
from rlgrad.networks import Convolutions
from rlgrad.streams import Purpose, streams

SPACES = {
    "choice": spaces.Discrete(4, start=2),
    "choices": spaces.MultiDiscrete([2, 3]),
    "switches": spaces.MultiBinary(3),
    "box": spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 1.0], np.float32)),
}


def policy(name: str, **settings: Any) -> Policy:
    return policy_for(SPACES[name], nn.Identity(), 1, **settings)


def act(made: Policy, seen: Tensor, noise: Tensor | None = None) -> Tensor:
    drawn = noise if noise is None else noise.numpy()
    return torch.from_numpy(made.actor()(seen.contiguous().numpy(), drawn))


def numbers(count: int, seed: int = 0) -> Tensor:
    return torch.randn(1, 1, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", ["choice", "choices", "switches"])
def test_probabilities_add_up_to_one_and_are_those_of_the_draws(name: str) -> None:
    made, seen = policy(name), numbers(outputs(SPACES[name]))
    ranges = {"choice": [4], "choices": [2, 3], "switches": [2, 2, 2]}[name]
    actions = torch.tensor(list(itertools.product(*map(range, ranges)))).double()
    actions = actions.squeeze(1) if name == "choice" else actions
    p = made(seen.expand(1, len(actions), -1)).log_prob(actions.unsqueeze(0)).exp()[0]
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    entropy = made(seen).entropy()
    assert float(entropy) == pytest.approx(float(-(p * p.log()).sum()), abs=1e-12)

    count = 20_000
    noise = torch.from_numpy(made.noise(streams(0, 1, Purpose.SAMPLE)[0], count)).unsqueeze(0)
    drawn = act(made, seen.expand(1, count, -1), noise)[0].double()
    matches = (drawn.reshape(count, 1, -1) == actions.reshape(1, len(actions), -1)).all(2)
    found = matches.double().mean(0)
    assert (found - p).abs().max() < 4.5 * math.sqrt(0.25 / count)
    assert torch.equal(act(made, seen)[0, 0].double().reshape(-1), actions[p.argmax()].reshape(-1))
    for action in actions[:: max(1, len(actions) // 4)]:
        sent = made.to_environment(action.reshape(1, *action.shape).long().numpy())[0]
        assert SPACES[name].contains(sent.astype(SPACES[name].dtype))


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("deviation", ["learned", "state_dependent"])
def test_the_density_of_a_squashed_action_is_that_in_the_environment(squash: bool, deviation: str) -> None:
    made = policy("box", squash=squash, deviation=deviation, initial_deviation=0.7)
    seen = numbers(outputs(SPACES["box"], deviation), seed=3) / 3
    mean, log_deviation = (moment[0, 0] for moment in made.mean_and_log_deviation(made.network(seen)))
    if deviation == "learned":
        assert log_deviation.tolist() == pytest.approx([math.log(0.7)] * 2)

    def density(a: float, b: float) -> float:
        u = np.arctanh([(a - 1) / 2, (b - 0.5) / 0.5]) if squash else np.array([(a - 1) / 2, (b - 0.5) / 0.5])
        return float(made(seen).log_prob(torch.tensor(u).reshape(1, 1, 2)).detach().exp())

    if squash:  # it integrates to one over the box
        found, _ = integrate.dblquad(density, 1e-6, 1 - 1e-6, -1 + 1e-6, 3 - 1e-6, epsabs=1e-4)
        assert found == pytest.approx(1, abs=2e-3)
    scale = log_deviation.detach().exp().numpy()
    at = (0.4, 0.7)
    u = [(at[0] - 1) / 2, (at[1] - 0.5) / 0.5]
    slopes = [2.0, 0.5]
    if squash:
        slopes = [2 * (1 - u[0] ** 2), 0.5 * (1 - u[1] ** 2)]
        u = list(np.arctanh(u))
    expected = np.prod(stats.norm.pdf(u, mean.detach().numpy(), scale) / slopes)
    assert density(*at) == pytest.approx(float(expected), rel=1e-6)
    entropy = float(made(seen).entropy())
    assert entropy == pytest.approx(stats.norm.entropy(0, scale).sum() + math.log(2 * 0.5), abs=1e-6)


def test_a_tanh_far_out_has_a_finite_density() -> None:
    made = policy("box", squash=True)
    found = made(torch.zeros(1, 1, 2)).log_prob(torch.full((1, 1, 2), 30.0))
    assert found.isfinite().all()


def test_draws_of_a_gaussian_and_the_bounds_of_its_box() -> None:
    for squash in (False, True):
        made = policy("box", squash=squash, initial_deviation=2.0)
        assert isinstance(made, GaussianPolicy)
        count = 20_000
        noise = torch.from_numpy(made.noise(streams(0, 1, Purpose.SAMPLE)[0], count)).unsqueeze(0)
        seen = torch.tensor([0.3, -0.2])
        u = act(made, seen.expand(1, count, 2), noise)[0]
        assert (u.mean(0) - seen).abs().max() < 4.5 * 2 / math.sqrt(count)
        assert (u.std(0) - 2).abs().max() < 0.06
        sent = made.to_environment(u.numpy())
        assert sent.dtype == np.float32
        box = SPACES["box"]
        assert ((sent >= box.low) & (sent <= box.high)).all()
        inside = np.abs(u.numpy()) < 0.9
        unit = np.tanh(u.numpy()) if squash else u.numpy()
        expected = unit * [2, 0.5] + [1, 0.5]
        np.testing.assert_allclose(sent[inside], expected[inside], atol=1e-5)
        assert torch.equal(act(made, seen.reshape(1, 1, 2))[0, 0], seen)


@pytest.mark.parametrize(
    "name", ["Discrete", "MultiDiscrete", "Table", "MultiBinary", "Switches", "Box", "Open", "Image", "Bytes"]
)
@pytest.mark.parametrize("settings", [{}, {"baseline": "critic", "policy": {"hidden": [4], "squash": True}}])
def test_every_space_is_served(name: str, settings: dict[str, Any]) -> None:
    """The environment refuses actions that are not in its space."""
    config = {
        "problem": "reinforce", "environment": f"tests/{name}-v0", "episodes": 3, "updates": 2, "replicas": 2,
        "policy": {"hidden": [4]}, "optimizer": {"name": "SGD", "lr": 0.01}, "evaluation": {"episodes": 2},
    }  # fmt: skip
    problem, optimizer, _ = load_config(config | settings).build()
    before = [p.detach().clone() for p in problem.model.parameters()]
    for update in itertools.islice(updates(problem, optimizer), 2):
        assert update.value.isfinite().all()
    assert all(not torch.equal(a, b) for a, b in zip(before, problem.model.parameters(), strict=True))
    batch = problem.sample(5)
    seen = visible_space(gymnasium.make(f"tests/{name}-v0").observation_space)
    assert batch.observation.shape == (2, 32, 3, *seen.shape)
    assert problem.evaluate(2)["return"].shape == (2,)


def test_convolutions_are_torch_s_and_no_replica_sees_another_s() -> None:
    made = Convolutions((10, 12, 3), streams(0, 2, Purpose.INITIAL))
    images = torch.randint(0, 256, (2, 4, 5, 10, 12, 3), dtype=torch.uint8)
    found = made(images)
    assert found.shape == (2, 4, 5, made.features)
    for replica in range(2):
        x = images[replica].flatten(0, 1).permute(0, 3, 1, 2) / 255
        for weight, bias in zip(made.weights, made.biases, strict=True):
            x = nn.functional.conv2d(x, weight[replica], bias[replica], stride=2, padding=1).relu()
        assert torch.allclose(found[replica].flatten(0, 1), x.flatten(1), atol=1e-6)


def test_a_normaliser_knows_the_moments_of_what_came_before() -> None:
    rng = np.random.default_rng(0)
    made, seen = Normaliser(2, 3), [[], []]
    x = torch.from_numpy(rng.normal(5, 3, (2, 4, 6, 3)))
    assert torch.allclose(made(x), x.clamp(-10, 10), atol=1e-12)
    for steps in (32, 64, 32):
        x = torch.from_numpy(rng.normal([1, -2, 100], [2, 0.5, 30], (2, steps, 5, 3)))
        alive = torch.from_numpy(rng.random((2, steps, 5)) < 0.7)
        made.observe(x, alive)
        made.advance()
        made.advance()  # nothing new
        for replica in range(2):
            seen[replica].append(x[replica][alive[replica]])
            every = torch.cat(seen[replica])
            expected = (x[replica] - every.mean(0)) / every.std(0, correction=0)
            assert torch.allclose(made(x)[replica], expected.clamp(-10, 10), atol=1e-9)


@pytest.mark.parametrize("name", ["choice", "choices", "switches"])
def test_the_divergence_is_the_sum_over_all_actions(name: str) -> None:
    p, q = (policy(name)(numbers(outputs(SPACES[name]), seed)) for seed in (0, 1))
    ranges = {"choice": [4], "choices": [2, 3], "switches": [2, 2, 2]}[name]
    actions = torch.tensor(list(itertools.product(*map(range, ranges)))).double()
    actions = (actions.squeeze(1) if name == "choice" else actions)[:, None, None]
    terms = [p.log_prob(a).exp() * (p.log_prob(a) - q.log_prob(a)) for a in actions]
    torch.testing.assert_close(p.divergence(q), torch.stack(terms).sum(0))
    assert float(p.divergence(q)) > 0
    assert float(p.divergence(p)) == 0


@pytest.mark.parametrize("squash", [False, True])
def test_the_divergence_of_gaussians_is_the_integral(squash: bool) -> None:
    made = policy("box", squash=squash, deviation="state_dependent", initial_deviation=0.7)
    p, q = made(numbers(4) / 3), made(numbers(4, 1) / 3)

    def along(x: float, element: int) -> float:
        u = p.mean.clone()
        u[..., element] = x
        one, other = (
            stats.norm(float(d.mean[..., element]), float(d.log_deviation[..., element].exp())) for d in (p, q)
        )
        return float(one.pdf(x) * (one.logpdf(x) - other.logpdf(x)))

    expected = sum(integrate.quad(along, -15, 15, args=(element,))[0] for element in range(2))
    assert float(p.divergence(q)) == pytest.approx(expected, rel=1e-6)


def test_what_is_detached_has_no_graph_and_the_same_numbers() -> None:
    for name in SPACES:
        count = outputs(SPACES[name])
        made = policy(name)(numbers(count).requires_grad_())
        action = torch.zeros(1, 1, {"choices": 2, "switches": 3, "box": 2}.get(name, 1))
        action = action.squeeze(-1) if name == "choice" else action
        apart = made.detach().log_prob(action)
        assert not apart.requires_grad
        torch.testing.assert_close(apart, made.log_prob(action).detach())

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
from rlgrad.networks import MLP
from rlgrad.streams import Purpose, streams

SPACES = {
    "choice": spaces.Discrete(4, start=2),
    "choices": spaces.MultiDiscrete([2, 3]),
    "switches": spaces.MultiBinary(3),
    "box": spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 3.0], np.float32)),  # reaches 2 and 1.5
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
    mean, scale = seen[0, 0, :2].numpy(), np.full(2, 0.7)  # the network is the identity
    if deviation == "state_dependent":
        scale = 0.7 * np.exp(seen[0, 0, 2:].numpy())

    def unit(a: float, b: float) -> np.ndarray:
        return np.array([(a - 1) / 2, (b - 1.5) / 1.5])

    def density(a: float, b: float) -> float:
        u = np.arctanh(unit(a, b)) if squash else unit(a, b)
        return float(made(seen).log_prob(torch.tensor(u).reshape(1, 1, 2)).detach().exp())

    if squash:  # it integrates to one over the box
        nodes, weights = np.polynomial.legendre.leggauss(200)
        u = torch.from_numpy(np.stack(np.meshgrid(*[np.arctanh(nodes)] * 2), -1).reshape(1, -1, 2))
        over = made(seen.expand(1, len(u[0]), -1)).log_prob(u).detach().exp().numpy().reshape(200, 200)
        assert (weights @ over @ weights) * 2 * 1.5 == pytest.approx(1, abs=1e-4)
    at = (0.4, 1.9)
    if squash:
        expected = stats.norm.pdf(np.arctanh(unit(*at)), mean, scale) / ([2, 1.5] * (1 - unit(*at) ** 2))
    else:
        expected = stats.norm.pdf(at, [1, 1.5] + [2, 1.5] * mean, [2, 1.5] * scale)
    assert density(*at) == pytest.approx(float(np.prod(expected)), rel=1e-6)
    entropy = made(seen).entropy().item()
    assert entropy == pytest.approx(stats.norm.entropy(0, [2, 1.5] * scale).sum(), abs=1e-6)


def test_a_deviation_that_the_network_gives_stays_within_bounds() -> None:
    made = policy("box", deviation="state_dependent")
    seen = torch.tensor([[[0.5, -0.5, 100.0, -100.0]]])
    found = act(made, seen, torch.ones(1, 1, 2))[0, 0]
    torch.testing.assert_close(found, torch.tensor([0.5 + math.exp(3), -0.5 + math.exp(-10)]))
    assert made(seen).log_prob(torch.tensor([[[0.5, -0.5]]])).item() == pytest.approx(
        stats.norm.logpdf(0, 0, [2 * math.exp(3), 1.5 * math.exp(-10)]).sum(), rel=1e-5
    )


@pytest.mark.parametrize("initial", [1e-6, 100.0])
def test_a_deviation_that_the_network_gives_begins_where_it_is_set(initial: float) -> None:
    made = policy("box", deviation="state_dependent", initial_deviation=initial)
    assert made(torch.zeros(1, 1, 4)).log_deviation.exp().flatten().tolist() == pytest.approx([initial] * 2)


def test_where_a_box_has_one_bound_actions_are_in_its_own_unit_and_clipped_there() -> None:
    low, high = np.array([0.0, -np.inf, -np.inf], np.float32), np.array([np.inf, 5.0, np.inf], np.float32)
    made = policy_for(spaces.Box(low, high), nn.Identity(), 1)
    u = np.array([[-2.0, 7.0, -9.0], [3.0, -7.0, 9.0]], np.float32)
    np.testing.assert_array_equal(made.to_environment(u), [[0.0, 5.0, -9.0], [3.0, -7.0, 9.0]])
    density = made(torch.zeros(1, 1, 3)).log_prob(torch.from_numpy(u[None, 1:])).item()
    assert density == pytest.approx(stats.norm.logpdf(u[1]).sum())


def test_noise_is_finite_even_where_the_generator_gives_zero() -> None:
    class Zero:
        def standard_exponential(self, shape: Any, dtype: Any) -> np.ndarray:
            return np.zeros(shape, dtype)

    assert np.isfinite(policy("choice").noise(Zero(), 3)).all()  # type: ignore[arg-type]


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
        assert abs(np.corrcoef(u.T)[0, 1]) < 4.5 / math.sqrt(count)  # each element has noise of its own
        sent = made.to_environment(u.numpy())
        assert sent.dtype == np.float32
        box = SPACES["box"]
        assert ((sent >= box.low) & (sent <= box.high)).all()
        inside = np.abs(u.numpy()) < 0.9
        unit = np.tanh(u.numpy()) if squash else u.numpy()
        expected = unit * [2, 1.5] + [1, 1.5]
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
    if name == "Open":  # it has no bounds to squash between
        settings = settings | {"policy": {"hidden": [4]}}
    problem, optimizer, _ = load_config(config | settings).build()
    before = [p.detach().clone() for p in problem.model.parameters()]
    for update in itertools.islice(updates(problem, optimizer), 2):
        assert update.value.isfinite().all()
    assert all(not torch.equal(a, b) for a, b in zip(before, problem.model.parameters(), strict=True))
    batch = problem.sample(5)
    seen = visible_space(gymnasium.make(f"tests/{name}-v0").observation_space)
    assert batch.observation.shape == (2, 32, 3, *seen.shape)
    assert problem.evaluate(2)["return"].shape == (2,)


def test_a_normaliser_leaves_out_the_mask_behind_what_it_sees() -> None:
    made = Normaliser(1, 2)
    made.observe(torch.tensor([3.0, 5.0, 0.0, 1.0]).expand(1, 4, 2, 4), torch.ones(1, 4, 2, dtype=torch.bool))
    made.advance()
    assert made.seen_mean.tolist() == [[3.0, 5.0]]


def test_a_normaliser_knows_the_moments_of_what_came_before() -> None:
    rng = np.random.default_rng(0)
    made, seen = Normaliser(2, 3), [[], []]
    x = torch.from_numpy(rng.normal(5, 3, (2, 4, 6, 3)))
    assert torch.equal(made(x), x.clamp(-10, 10).float())
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
            assert torch.allclose(made(x)[replica], expected.clamp(-10, 10).float(), atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e8, -1e12])
def test_double_precision_is_kept_until_it_is_normalised(offset: float) -> None:
    """Single precision has steps of 8 at 1e8, and of 65,536 at 1e12."""
    rng = np.random.default_rng(0)
    small = rng.normal(0, 3, (1, 500, 1, 1))
    x, made = torch.from_numpy(offset + small), Normaliser(1, 1)
    made.observe(x, torch.ones(1, 500, 1, dtype=torch.bool))
    made.advance()
    expected = (small - small.mean()) / small.std()
    for found in (made(x).numpy(), made.frozen()(x[0].numpy())[None]):
        assert found.dtype == np.float32
        assert found.ravel() == pytest.approx(expected.ravel(), abs=1e-3)


def test_a_feature_that_never_changes_says_nothing() -> None:
    made = Normaliser(1, 2)
    x = torch.tensor([[[[3.0, 1.0]], [[3.0, 5.0]]]])
    made.observe(x, torch.ones(1, 2, 1, dtype=torch.bool))
    made.advance()
    assert made(x).tolist() == [[[[0.0, -1.0]], [[0.0, 1.0]]]]


def test_a_normaliser_s_digits_do_not_get_lost_far_from_zero() -> None:
    """Ten thousand updates' worth of numbers around a million, in single precision."""
    rng, made = np.random.default_rng(0), Normaliser(1, 1)
    seen = []
    for _ in range(50):
        x = torch.from_numpy(rng.normal(1e6, 2.0, (1, 32, 8, 1)).astype(np.float32))
        made.observe(x, torch.ones(1, 32, 8, dtype=torch.bool))
        made.advance()
        seen.append(x.numpy().ravel())
    mean, deviation = made.mean_and_deviation(torch.zeros(1, 1, 1, dtype=torch.float64))
    every = np.concatenate(seen).astype(float)
    assert mean.item() == pytest.approx(every.mean(), rel=1e-12)
    assert deviation.item() == pytest.approx(every.std(), rel=1e-9)


def test_a_normaliser_of_a_checkpoint_goes_on() -> None:
    """What was observed and does not count yet is kept too."""
    one, other = Normaliser(2, 3), Normaliser(2, 3)
    for _ in range(2):
        one.advance()
        one.observe(torch.randn(2, 4, 5, 3), torch.ones(2, 4, 5, dtype=torch.bool))
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 4, 5, 3)
    for _ in range(2):
        assert torch.equal(one(x), other(x))
        one.advance()
        other.advance()


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

    x, expected = np.linspace(-15, 15, 20_001), 0.0
    for element in range(2):
        one, other = (
            stats.norm(d.mean[..., element].item(), d.log_deviation[..., element].exp().item()) for d in (p, q)
        )
        expected += integrate.trapezoid(one.pdf(x) * (one.logpdf(x) - other.logpdf(x)), x)
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
    squashed = policy("box", squash=True)(numbers(2))
    action = torch.full((1, 1, 2), 0.5)
    torch.testing.assert_close(squashed.detach().log_prob(action), squashed.log_prob(action).detach())


def test_choices_come_in_the_order_of_their_space_each_from_its_own_start() -> None:
    space = spaces.MultiDiscrete([[3, 2], [4, 5]], start=[[1, 0], [-2, 5]])
    made = policy_for(space, nn.Identity(), 1)
    logits = np.zeros((1, 1, 14), np.float32)
    for first, chosen in ((0, 2), (3, 1), (5, 3), (9, 4)):  # of each choice the last one
        logits[0, 0, first + chosen] = 1
    action = made.choose(logits, None)[0]
    assert action.tolist() == [[2, 1, 3, 4]]
    assert made.to_environment(action).tolist() == [[[3, 1], [1, 9]]]


def test_one_observation_has_no_deviation() -> None:
    made = Normaliser(1, 1)
    made.observe(torch.tensor([[[[3.0]]]]), torch.ones(1, 1, 1, dtype=torch.bool))
    made.advance()
    assert made(torch.tensor([[[3.5]]])).tolist() == [[[0.5]]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_at_the_limit_of_the_type_are_none(dtype: Any) -> None:
    """The element is in its own units then, of which one is one."""
    for limit in {np.finfo(np.float32).max, np.finfo(dtype).max}:
        box = spaces.Box(-limit, limit, (1,), dtype)
        made = policy_for(box, MLP(1, 1, (), streams(0, 1, Purpose.INITIAL)), 1)
        assert made.to_environment(np.array([[0.5]])).tolist() == [[0.5]]

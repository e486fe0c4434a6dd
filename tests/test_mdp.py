"""The exact expected return, and the environments that are made of the same tables."""

import itertools
import math

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from rlgrad.config import load
from rlgrad.environments import make
from rlgrad.mdp import MDP, MDPS
from rlgrad.problems.reinforce import Reinforce
from rlgrad.streams import Purpose, streams


def table(mdp: MDP, replicas: int = 1) -> Tensor:
    """Arbitrary probabilities [R, S, A]."""
    generator = torch.Generator().manual_seed(5)
    return torch.rand(replicas, *mdp.reward.shape, generator=generator, dtype=torch.float64).add(0.1).softmax(2)


def enumerated(mdp: MDP, pi: np.ndarray, discount: float, state: int | None = None, t: int = 0) -> float:
    """The expected return, branch by branch."""
    if t == mdp.steps or t == 60:
        return 0.0
    if state is None:
        return sum(p * enumerated(mdp, pi, discount, s) for s, p in enumerate(mdp.initial) if p)
    states, actions = range(pi.shape[0]), range(pi.shape[1])
    return sum(
        pi[state, a]
        * (
            mdp.reward[state, a]
            + discount
            * sum(
                mdp.transition[state, a, n] * enumerated(mdp, pi, discount, n, t + 1)
                for n in states
                if mdp.transition[state, a, n]
            )
        )
        for a in actions
    )


@pytest.mark.parametrize("name", MDPS)
@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_the_expected_return_is_the_sum_over_all_trajectories(name: str, discount: float) -> None:
    mdp = MDPS[name]
    pi = table(mdp, replicas=3)
    found = mdp.expected_return(pi, discount)
    for value, probabilities in zip(found, pi, strict=True):
        assert float(value) == pytest.approx(enumerated(mdp, probabilities.numpy(), discount), abs=1e-12)


def test_without_a_time_limit_it_is_what_longer_and_longer_limits_tend_to() -> None:
    mdp = MDPS["TwoRooms"]._replace(transition=MDPS["TwoRooms"].transition * 0.9, steps=None)
    pi = table(mdp)
    limited = mdp._replace(steps=1000)
    found, expected = (one.expected_return(pi, 0.95) for one in (mdp, limited))
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_saying_the_same_word_twice() -> None:
    p = torch.tensor([0.0, 0.3, 1 / 3, 1.0], dtype=torch.float64, requires_grad=True)
    pi = torch.stack([1 - p, p], 1).unsqueeze(1).expand(-1, 3, -1)
    value = MDPS["Twice"].expected_return(pi)
    assert torch.allclose(value, (1 - p) ** 2 + 2 * p**2)
    (slope,) = torch.autograd.grad(value.sum(), p)
    assert slope.tolist() == pytest.approx([-2.0, -0.2, 0.0, 4.0])


@pytest.mark.parametrize("name", MDPS)
def test_the_environments_follow_the_table(name: str) -> None:
    """Both forms, played with random actions: every transition's frequency is near its probability."""
    mdp, copies, rng = MDPS[name], 4000, np.random.default_rng(1)
    ours = make(f"rlgrad/{name}-v0", 2, copies // 2, options={})
    observation = ours.reset(streams(0, 2, Purpose.SAMPLE))
    alone = gymnasium.make(f"rlgrad/{name}-v0")
    counts = {"ours": np.zeros((*mdp.reward.shape, mdp.reward.shape[0] + 1)), "alone": 0}
    counts["alone"] = counts["ours"].copy()
    assert (observation == mdp.observation[ours.state]).all()
    alive = np.ones(copies, dtype=bool)
    for _ in range(mdp.steps or 2):
        before, action = ours.state.copy(), rng.integers(mdp.reward.shape[1], size=copies)
        observation, reward, terminated, truncated = ours.step(action)
        assert (reward == mdp.reward[before, action]).all()
        following = np.where(terminated, len(mdp.initial), ours.state)
        np.add.at(counts["ours"], (before[alive], action[alive], following[alive]), 1)
        assert (observation == mdp.observation[ours.state])[alive].all()
        alive &= ~(terminated | truncated)
    assert not alive.any()
    for episode in range(copies // 4):
        alone.reset(seed=episode)
        over = False
        while not over:
            state, action = alone.unwrapped.state, int(rng.integers(mdp.reward.shape[1]))
            observation, reward, terminated, truncated, _ = alone.step(action)
            following = len(mdp.initial) if terminated else alone.unwrapped.state
            counts["alone"][state, action, following] += 1
            assert reward == mdp.reward[state, action]
            over = terminated or truncated
    full = np.concatenate([mdp.transition, 1 - mdp.transition.sum(2, keepdims=True)], 2)
    for found in counts.values():
        taken = found.sum(2, keepdims=True)
        deviation = np.sqrt(full * (1 - full) * taken)
        assert (np.abs(found - full * taken) <= 4.5 * deviation + 1e-9).all()


@pytest.mark.parametrize(("baseline", "episodes"), [("none", 1), ("leave_one_out", 10)])
def test_estimates_of_many_replicas_surround_the_exact_gradient(baseline: str, episodes: int) -> None:
    """Hotelling's test at 1e-6: the mean of 4000 independent estimates is where the exact gradient is."""
    replicas = 4000
    config = {
        "problem": "reinforce", "environment": "rlgrad/TwoRooms-v0", "replicas": replicas, "updates": 1,
        "episodes": episodes, "baseline": baseline, "discount": 0.9, "policy": {"hidden": []}, "optimizer": {"name": "SGD", "lr": 1},
    }  # fmt: skip
    problem: Reinforce = load(config).build().problem
    with torch.no_grad():
        for parameter in problem.model.parameters():
            parameter.copy_(torch.linspace(-0.7, 0.5, parameter[0].numel()).reshape(parameter[0].shape))
    parameters = list(problem.model.parameters())
    estimate = problem.objective(problem.sample(0))
    estimate.value.sum().backward()
    found = torch.cat([p.grad.flatten(1) for p in parameters if p.grad is not None], 1).double()

    mdp = MDPS["TwoRooms"]
    observation = torch.tensor(mdp.observation, dtype=torch.float32).expand(replicas, -1, -1)
    value = mdp.expected_return(problem.model(observation).probs, 0.9)
    exact = torch.cat([g[0].flatten() for g in torch.autograd.grad(value.sum(), parameters)]).double()
    spread = float(estimate.value.detach().std()) / math.sqrt(replicas)
    assert abs(float(estimate.value.detach().mean() - value[0].detach())) < 5 * spread

    # logits are shifted by adding to both: two directions in which the policy changes are enough
    basis = torch.linalg.svd(found - found.mean(0), full_matrices=False)[2][:2]
    assert (exact - exact @ basis.T @ basis).abs().max() < 1e-5
    error = (found.mean(0) - exact) @ basis.T
    squared = replicas * error @ torch.linalg.solve(torch.cov((found @ basis.T).T), error)
    assert float(squared) < 2 * math.log(1e6)  # the tail of chi-squared with two degrees of freedom


def test_what_a_replica_is_dealt_does_not_depend_on_the_others() -> None:
    def played(replicas: int) -> Tensor:
        config = {
            "problem": "reinforce", "environment": "rlgrad/TwoRooms-v0", "replicas": replicas, "updates": 1,
            "episodes": 6, "policy": {"hidden": []}, "optimizer": {"name": "SGD", "lr": 1},
        }  # fmt: skip
        batch = load(config).build().problem.sample(3)
        return torch.cat([batch.reward, batch.observation[..., 0], batch.action], 1)

    alone, many = played(1), played(4)
    assert torch.equal(alone[0], many[0])
    assert len({tuple(each.flatten().tolist()) for each in many}) == 4
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(many, 2))

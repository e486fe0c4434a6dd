"""The exact expected return, and the environments that are made of the same tables."""

import itertools
import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from rlgrad.config import load_config
from rlgrad.environments import make
from rlgrad.environments.mdp import MDP, MDPS, LinearQuadratic
from rlgrad.streams import Purpose, streams
from rlgrad.testing.exact import estimates, exact_return, policy_problem


def table(mdp: MDP, replicas: int = 1) -> Tensor:
    """Arbitrary probabilities [R, S, A]."""
    generator = torch.Generator().manual_seed(5)
    return torch.rand(replicas, *mdp.reward.shape, generator=generator, dtype=torch.float64).add(0.1).softmax(2)


def enumerated(mdp: MDP, pi: np.ndarray, discount: float, state: int | None = None, t: int = 0) -> float:
    """The expected return, branch by branch."""
    if t == (mdp.steps or 3):
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


@pytest.mark.parametrize("name", [name for name in MDPS if name != "Ring"])  # it has no end to enumerate to
@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_the_expected_return_is_the_sum_over_all_trajectories(name: str, discount: float) -> None:
    mdp = MDPS[name]
    pi = table(mdp, replicas=3)
    found = mdp.expected_return(pi, discount)
    for value, probabilities in zip(found, pi, strict=True):
        assert float(value) == pytest.approx(enumerated(mdp, probabilities.numpy(), discount), abs=1e-12)


def test_without_a_time_limit_it_is_what_longer_and_longer_limits_tend_to() -> None:
    mdp = MDPS["Ring"]
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
    assert not (mdp.steps and alive.any())
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


UNBIASED: dict[str, dict[str, Any]] = {
    "none": {"baseline": "none", "episodes": 1},
    "whole": {"baseline": "none", "episodes": 4, "returns": "whole"},
    "leave_one_out": {"baseline": "leave_one_out", "episodes": 10},
    "optimal_constant": {"baseline": "optimal_constant", "episodes": 4},
    "critic": {"baseline": "critic", "episodes": 4},
    "segments": {"baseline": "critic", "episodes": 4, "segment": 3, "discount_weighting": False},  # of 3 pulls each
}


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        *(("TwoRooms", variant) for variant in list(UNBIASED)[:-1]),
        *(("Bandit", "none"), ("Bandit", "segments"), ("Ring", "none"), ("Ring", "optimal_constant")),
        *(("LinearQuadratic", "leave_one_out"), ("LinearQuadratic", "optimal_constant")),
    ],
)
def test_estimates_of_many_replicas_surround_the_exact_gradient(name: str, variant: str) -> None:
    """Hotelling's test at 1e-6: the mean of many independent estimates is where the exact gradient is."""
    replicas, discount = 500 if variant == "segments" else 3000, 0.9  # these are played one after the other
    problem = policy_problem(name, replicas, discount, **UNBIASED[variant])
    values, found = estimates(problem)
    value, exact = exact_return(problem, name)
    assert abs(float(values.mean()) - value) < 5 * float(values.std()) / math.sqrt(replicas)

    # logits are shifted by adding to all of them: only directions in which the policy changes count
    _, size, directions = torch.linalg.svd(found - found.mean(0), full_matrices=False)
    basis = directions[size > 1e-4 * size[0]]
    assert (exact - exact @ basis.T @ basis).abs().max() < 1e-4
    error = (found.mean(0) - exact) @ basis.T
    squared = replicas * error @ torch.linalg.solve(torch.cov((found @ basis.T).T), error)
    assert float(squared) < stats.chi2.isf(1e-6, len(basis))


def test_a_linear_quadratic_process_is_what_its_recursion_says() -> None:
    process = LinearQuadratic()
    rng, x = np.random.default_rng(0), np.full(200_000, process.start)
    weight, bias, deviation = -0.6, 0.1, 0.4
    returns = np.zeros_like(x)
    for t in range(process.steps):
        u = weight * x + bias + deviation * rng.standard_normal(len(x))
        returns += 0.9**t * -(x**2 + process.cost * u**2)
        x = process.stay * x + process.push * u + process.noise * rng.standard_normal(len(x))
    expected = process.expected_return(*(torch.tensor([number]) for number in (weight, bias, deviation)), 0.9)
    assert abs(returns.mean() - float(expected)) < 4.5 * returns.std() / math.sqrt(len(x))


def test_both_forms_of_the_linear_quadratic_process_take_the_same_steps() -> None:
    alone = gymnasium.make("rlgrad/LinearQuadratic-v0")
    many = make("rlgrad/LinearQuadratic-v0", 2, 1, options={})
    many.reset(streams(0, 2, Purpose.SAMPLE))
    alone.reset(seed=1)
    for step in range(1, LinearQuadratic().steps + 1):
        before, action = many.x.copy(), np.array([[0.3], [-1.2]], dtype=np.float32)
        _, reward, _, truncated = many.step(action)
        for copy in range(2):
            alone.unwrapped.x = before[copy]
            _, expected, _, over, _ = alone.step(action[copy])
            noise = alone.unwrapped.x - 0.9 * before[copy] - 0.5 * float(action[copy, 0])
            assert abs(noise) < 5 * 0.3
            assert reward[copy] == pytest.approx(expected)
            alone.unwrapped._elapsed_steps = step
            if copy == 0:
                alone._elapsed_steps = step - 1
        assert truncated.all() == (step == LinearQuadratic().steps) == over


def test_what_a_replica_is_dealt_does_not_depend_on_the_others() -> None:
    def played(replicas: int) -> Tensor:
        config = {
            "problem": "reinforce", "environment": "rlgrad/TwoRooms-v0", "replicas": replicas, "updates": 1,
            "episodes": 6, "policy": {"hidden": []}, "optimizer": {"name": "SGD", "lr": 1},
        }  # fmt: skip
        batch = load_config(config).build().problem.sample(3)
        return torch.cat([batch.reward, batch.observation[..., 0], batch.action], 1)

    alone, many = played(1), played(4)
    assert torch.equal(alone[0], many[0])
    assert len({tuple(each.flatten().tolist()) for each in many}) == 4
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(many, 2))


def test_the_expected_cost_is_that_of_the_sums_of_normal_variables() -> None:
    """Every x and u is a number plus independent normal variables, each times a number: nothing else is needed."""
    process, (weight, bias, deviation) = LinearQuadratic(), (-0.7, 0.2, 0.4)
    x, noise = np.zeros(1 + 2 * process.steps), np.eye(1 + 2 * process.steps)  # the first for what is certain
    x[0], expected = process.start, 0.0
    for t in range(process.steps):
        u = weight * x + bias * noise[0] + deviation * noise[1 + 2 * t]
        expected -= 0.9**t * float(x @ x + process.cost * u @ u)
        x = process.stay * x + process.push * u + process.noise * noise[2 + 2 * t]
    told = (torch.tensor([number], dtype=torch.float64) for number in (weight, bias, deviation))
    assert process.expected_return(*told, 0.9).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["Ring-v0", "LinearQuadratic-v0"])
def test_what_chance_draws_does_not_shift_what_the_policy_draws(name: str) -> None:
    environments, drawn = make(f"rlgrad/{name}", 2, 3, options={}), streams(0, 2, Purpose.SAMPLE)
    environments.reset(drawn)
    for _ in range(3):
        environments.step(np.zeros((6, 1)) if "Linear" in name else np.zeros(6, int))
    assert [rng.random() for rng in drawn] == [rng.random() for rng in streams(0, 2, Purpose.SAMPLE)]

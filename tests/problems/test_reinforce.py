import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlgrad import make_optimizer, updates
from rlgrad.agents.diagnostics import effective_number
from rlgrad.agents.policies import CategoricalPolicy
from rlgrad.agents.rollouts import Rollout, masked
from rlgrad.config import load_config
from rlgrad.errors import UsageError
from rlgrad.problems.reinforce import Reinforce
from rlgrad.run.observers.diagnosis import effect
from tests.environments import OBSERVATIONS, REWARDS, TRANSITIONS

SETTINGS = {
    "problem": "reinforce",
    "environment": "tests/TwoStep-v0",
    "updates": 1,
    "policy": {"hidden": [3]},
    "optimizer": {"name": "SGD", "lr": 0.1},
}


def two_step(**settings: object) -> Reinforce:
    problem: Reinforce = load_config(SETTINGS | settings).build().problem
    with torch.no_grad():  # the same parameters, far from uniform, in every replica
        generator = torch.Generator().manual_seed(3)
        for parameter in problem.model.parameters():
            parameter.copy_(torch.randn(parameter.shape[1:], generator=generator, dtype=parameter.dtype))
    return problem


def trajectories() -> list[tuple[list[int], list[int], float]]:
    """All of them from state 0: states, actions, and the probability of the transitions."""
    found = []
    for first in range(2):
        for state in range(3):
            p = float(TRANSITIONS[0, first, state])
            if state == 2:
                found.append(([0], [first], p))
            else:
                found += [([0, state], [first, second], p) for second in range(2)]
    return found


def batch_of(groups: list[tuple[int, ...]]) -> Rollout:
    """One replica for each group of trajectory numbers; after an end stands what must never be used."""
    every = trajectories()
    shape = (len(groups), 2, len(groups[0]))
    observation, reward = torch.full((*shape, 2), torch.nan), torch.full(shape, torch.nan)
    action, alive = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for r, group in enumerate(groups):
        for b, number in enumerate(group):
            for t, (state, chosen) in enumerate(zip(*every[number][:2], strict=True)):
                observation[r, t, b] = torch.from_numpy(OBSERVATIONS[state])
                reward[r, t, b], action[r, t, b], alive[r, t, b] = float(REWARDS[state, chosen]), chosen, True
    return Rollout(
        masked(observation, alive),
        action,
        masked(reward, alive),
        alive,
        ends := alive & ~torch.cat([alive[:, 1:], torch.zeros_like(alive[:, :1])], 1),
        torch.zeros_like(alive),
        ends,
        torch.zeros(len(groups), len(groups[0]), 2),
    )


def probability(problem: Reinforce, groups: list[tuple[int, ...]]) -> Tensor:
    """[G] of each group of independent trajectories under the policy."""
    pi = problem.model(torch.from_numpy(OBSERVATIONS).unsqueeze(0).expand(len(groups), -1, -1)).probs[0]
    every = []
    for states, actions, p in trajectories():
        for state, action in zip(states, actions, strict=True):
            p = p * pi[state, action]
        every.append(p)
    return torch.stack([torch.stack([every[number] for number in group]).prod() for group in groups])


def exact(problem: Reinforce, discount: float) -> tuple[Tensor, list[Tensor]]:
    """Expected return by dynamic programming, and its gradient by autograd, at the first replica's parameters."""
    shape = len(next(problem.model.parameters()))
    pi = problem.model(torch.from_numpy(OBSERVATIONS).unsqueeze(0).expand(shape, -1, -1)).probs[0]
    rewards, transitions = torch.from_numpy(REWARDS), torch.from_numpy(TRANSITIONS)
    last = (pi * rewards).sum(1)  # value of the second step, by state
    value = (pi[0] * (rewards[0] + discount * transitions[0, :, :2] @ last)).sum()
    return value.detach(), [g[0] for g in torch.autograd.grad(value, list(problem.model.policy.parameters()))]


def expected_gradient(problem: Reinforce, groups: list[tuple[int, ...]]) -> tuple[Tensor, list[Tensor]]:
    """The estimator's value and gradient, summed over all batches with their probabilities."""
    p = probability(problem, groups).detach()
    assert torch.allclose(p.sum(), torch.ones(()))
    estimate = problem.objective(batch_of(groups))
    gradients = estimate.gradient[: len(list(problem.model.policy.parameters()))]  # and not the critic's
    return (p * estimate.value).sum(), [torch.tensordot(p, g, 1) for g in gradients]


UNBIASED: list[dict[str, Any]] = [
    {"baseline": "none", "episodes": 1},
    {"baseline": "none", "episodes": 2},
    {"baseline": "none", "episodes": 1, "returns": "whole"},
    {"baseline": "leave_one_out", "episodes": 2},
    {"baseline": "leave_one_out", "episodes": 2, "returns": "whole"},
    {"baseline": "running_mean", "episodes": 1},
    {"baseline": "optimal_constant", "episodes": 2},
    {"baseline": "optimal_constant", "episodes": 2, "returns": "whole"},
    {"baseline": "optimal_per_parameter", "episodes": 2},
    {"baseline": "critic", "episodes": 1},
]


def groups_of(episodes: int) -> list[tuple[int, ...]]:
    return list(itertools.product(range(len(trajectories())), repeat=episodes))


@pytest.mark.parametrize("discount", [1.0, 0.8])
@pytest.mark.parametrize("settings", UNBIASED, ids=lambda settings: "-".join(map(str, settings.values())))
def test_the_expected_estimate_is_the_exact_gradient(float64: None, settings: dict[str, Any], discount: float) -> None:
    groups = groups_of(settings["episodes"])
    problem = two_step(replicas=len(groups), discount=discount, **settings)
    if problem.model.memory:
        problem.model.memory.observe(torch.full((len(groups), 1), 1.7))  # an earlier update
        problem.model.memory.advance()
    value, gradient = expected_gradient(problem, groups)
    true_value, true_gradient = exact(problem, discount)
    assert torch.allclose(value, true_value, rtol=0, atol=1e-10)
    for found, expected in zip(gradient, true_gradient, strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-10)
        assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_the_mean_of_the_batch_makes_the_gradient_too_small(float64: None, discount: float) -> None:
    """By 1 - 1/B, exactly: each return is a part of its own baseline."""
    problem = two_step(replicas=len(groups_of(2)), episodes=2, baseline="batch_mean", discount=discount)
    _, gradient = expected_gradient(problem, groups_of(2))
    for found, expected in zip(gradient, exact(problem, discount)[1], strict=True):
        assert torch.allclose(found, expected / 2, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "settings",
    [
        {"baseline": "leave_one_out", "episodes": 2, "standardise_advantages": True},
        {"baseline": "none", "episodes": 1, "standardise_advantages": "per_episode"},
        {"baseline": "critic", "episodes": 1, "gae_lambda": 0.0},
        {"baseline": "none", "episodes": 1, "discount_weighting": False},
    ],
)
def test_what_is_biased_is_biased(float64: None, settings: dict[str, Any]) -> None:
    problem = two_step(replicas=len(groups_of(settings["episodes"])), discount=0.8, **settings)
    _, gradient = expected_gradient(problem, groups_of(settings["episodes"]))
    true_gradient = exact(problem, 0.8)[1]
    assert max(float((a - b).abs().max()) for a, b in zip(gradient, true_gradient, strict=True)) > 1e-2


def test_the_best_constant_leaves_the_least_variance(float64: None) -> None:
    """Of all constants, over all trajectories: the formula's, whole and for each parameter."""
    problem = two_step(replicas=len(trajectories()), episodes=1, baseline="none", returns="whole")
    batch, p = batch_of(groups_of(1)), probability(problem, groups_of(1)).detach()
    log_prob, returns = problem.model(batch.observation).log_prob(batch.action), batch.reward.sum(1)
    score = per_replica((log_prob * batch.alive).sum(), problem)  # [G, P]
    contribution = returns * score

    def variance(b: Tensor) -> Tensor:
        gradient = contribution - b * score
        return (p @ gradient.square() - (p @ gradient).square()).sum()

    one = (p @ (contribution * score)).sum() / (p @ score.square()).sum()
    each = (p @ (contribution * score)) / (p @ score.square()).clamp(min=1e-12)
    for shift in (-0.1, 0.1):
        assert variance(one) < variance(one + shift)
        assert variance(each) < variance(each + shift)
    assert variance(each) < variance(one) < variance(torch.zeros(()))


def per_replica(value: Tensor, problem: Reinforce) -> Tensor:
    gradients = torch.autograd.grad(value, list(problem.model.policy.parameters()))
    return torch.cat([g.flatten(1) for g in gradients], 1)


def test_the_critic_descends_while_the_policy_ascends(float64: None) -> None:
    parts = load_config(
        SETTINGS | {"baseline": "critic", "replicas": 2, "critic": {"learning_rate": 0.05, "hidden": [3]}}
    ).build()
    problem, optimizer = parts.problem, parts.optimizer
    policy, critic = (list(part.parameters()) for part in (problem.model.policy, problem.model.critic))
    before = [p.detach().clone() for p in (*policy, *critic)]
    batch = problem.sample(0)
    estimate = problem.objective(batch)
    next(iter(updates(problem, optimizer)))
    rates = [0.1] * len(policy) + [-0.05] * len(critic)
    for parameter, old, gradient, rate in zip((*policy, *critic), before, estimate.gradient, rates, strict=True):
        assert torch.allclose(parameter.detach(), old + rate * gradient, atol=1e-12)
    for old, new in zip(before, (*policy, *critic), strict=True):
        assert not torch.equal(old, new)
    assert (problem.objective(batch).metrics["critic/error"] < estimate.metrics["critic/error"]).all()


def test_the_entropy_bonus_follows_its_schedule(float64: None) -> None:
    bonus = {"coefficient": 0.4, "final": 0.1}
    problem = two_step(baseline="none", updates=7, entropy_bonus=bonus)
    plain = two_step(baseline="none", updates=7)
    batch = problem.sample(0)
    entropy = (problem.model(batch.observation).entropy() * batch.alive).sum() / batch.alive.sum()
    of_entropy = torch.autograd.grad(entropy, list(problem.model.parameters()))
    for step, coefficient in ((0, 0.4), (3, 0.25), (6, 0.1), (9, 0.1)):
        found, without = (one.objective(batch._replace(step=step)).gradient for one in (problem, plain))
        for a, b, e in zip(found, without, of_entropy, strict=True):
            assert torch.allclose(a, b + coefficient * e, atol=1e-12)


def test_without_the_weight_of_the_discount_the_estimate_is_biased(float64: None) -> None:
    groups = [(number,) for number in range(len(trajectories()))]
    settings = {"episodes": 1, "baseline": "none", "discount": 0.8, "discount_weighting": False}
    problem = two_step(replicas=len(groups), **settings)
    _, gradient = expected_gradient(problem, groups)
    _, true_gradient = exact(problem, 0.8)
    assert max(float((a - b).abs().max()) for a, b in zip(gradient, true_gradient, strict=True)) > 1e-2


def test_the_value_is_the_mean_return_of_the_batch(float64: None) -> None:
    problem = two_step(episodes=5, replicas=2)
    batch = problem.sample(0)
    estimate = problem.objective(batch)
    for replica in range(2):
        returns = [float(batch.reward[replica, :, b].sum()) for b in range(5)]
        assert float(estimate.value[replica].detach()) == pytest.approx(sum(returns) / 5)
    assert torch.allclose(estimate.metrics["episode/return"], estimate.value.detach())
    assert torch.equal(estimate.metrics["episode/env_steps"], batch.alive.sum((1, 2)).double())


def test_what_comes_after_an_end_never_reaches_the_gradient(float64: None) -> None:
    problem = two_step(episodes=32)
    batch = problem.sample(0)
    assert not batch.alive.all()
    dead = ~batch.alive
    spoiled = batch._replace(
        observation=batch.observation.clone().masked_fill(dead.unsqueeze(-1), 1e6), action=batch.action | dead.long()
    )

    for clean, other in zip(problem.objective(batch).gradient, problem.objective(spoiled).gradient, strict=True):
        assert torch.equal(clean, other)


@pytest.mark.parametrize("optimizer", [{"name": "Adam", "lr": 0.1}, {"name": "LBFGS", "lr": 0.1, "max_iter": 2}])
def test_a_spoiled_replica_leaves_the_others_as_they_are(optimizer: dict) -> None:
    def trained(spoil: float | None) -> list[Tensor]:
        settings = {"environment": "CartPole-v1", "episodes": 4, "replicas": 3, "optimizer": optimizer}
        problem = load_config(SETTINGS | settings).build().problem
        if spoil is not None:
            with torch.no_grad():
                for parameter in problem.model.parameters():
                    parameter[1] = spoil
        name, arguments = optimizer["name"], {k: v for k, v in optimizer.items() if k != "name"}
        for _ in itertools.islice(updates(problem, make_optimizer(problem, name, **arguments)), 10):
            pass
        return [p.detach() for p in problem.model.parameters()]

    untouched = trained(None)
    for spoil in (0.0, 50.0):
        for a, b in zip(untouched, trained(spoil), strict=True):
            assert torch.equal(a[[0, 2]], b[[0, 2]])
            assert not torch.equal(a[1], b[1])


def test_replica_k_of_many_is_the_run_alone_with_seed_plus_k() -> None:
    def trained(seed: int, replicas: int) -> list[Tensor]:
        built = load_config("cartpole", {"seed": seed, "replicas": replicas, "episodes": 4}).build()
        for _ in itertools.islice(updates(built.problem, built.optimizer), 3):
            pass
        return [p.detach() for p in built.problem.model.parameters()]

    many = trained(0, 3)
    for replica in range(3):
        for alone, together in zip(trained(replica, 1), many, strict=True):
            assert torch.allclose(alone[0], together[replica], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"environment": "tests/Texts-v0"}, "no policy can read the observations of tests/Texts-v0: Text"),
        ({"environment": "tests/Levers-v0"}, "no policy can give the actions that tests/Levers-v0 wants, Box"),
        ({"baseline": "leave_one_out", "gae_lambda": 0.9}, "only a critic"),
        ({"segment": 5}, "segment: only a critic can guess what is to come: set baseline: critic, or null"),
        (
            {"segment": 5, "baseline": "critic", "discount": 0.9},
            "discount_weighting: in segments all states count alike",
        ),
        ({"segment": 5, "baseline": "critic", "standardise_advantages": "per_episode"}, "needs whole episodes"),
        (
            {"segment": 5, "baseline": "critic", "environment": "CartPole-v1", "simulator": "vector"},
            "simulator: vector cannot begin an episode again from a seed",
        ),
        ({"simulator": "vector"}, "simulator: tests/TwoStep-v0 brings no vector form of its own"),
        ({"baseline": "critic", "returns": "whole"}, "a critic values what is to come"),
        ({"environment": "CartPole-v11"}, "did you mean CartPole-v1"),
        ({"episodes": 1}, "at least two episodes"),
        ({"environment": "os:CartPole-v1"}, "would import a module"),
    ],
)
def test_what_the_policy_cannot_serve_is_refused_in_a_line(settings: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refusal:
        load_config(SETTINGS | settings).build()
    assert "\n" not in str(refusal.value)


def test_the_quality_of_the_gradient_and_what_the_step_came_to(float64: None) -> None:
    """Over many replicas with the same policy, the estimates from two halves are right on average."""
    settings = {"episodes": 20, "baseline": "none", "replicas": 600, "policy": {"hidden": []}}
    parts = load_config(SETTINGS | settings | {"optimizer": {"name": "SGD", "lr": 0.01}}).build()
    problem: Reinforce = parts.problem
    before = [p.detach().clone() for p in problem.model.parameters()]
    update = next(iter(updates(problem, parts.optimizer)))
    gradient = torch.cat([p.grad.flatten(1) for p in problem.model.parameters()], 1)
    variance = (gradient - gradient.mean(0)).square().sum(1).mean()
    assert float(update.metrics["gradient/deviation"].square().mean()) == pytest.approx(float(variance), rel=0.1)
    found = effect(problem, update, moved(problem, before))
    promised = 0.01 * gradient.square().sum(1)
    assert torch.allclose(found["objective/predicted_change"], promised, atol=1e-12)
    old = CategoricalPolicy(copy.deepcopy(problem.model.policy.network), 2)
    with torch.no_grad():
        for parameter, was in zip(old.parameters(), before, strict=True):
            parameter.copy_(was)
    batch, seen = problem.sample(0), torch.from_numpy(OBSERVATIONS).expand(600, -1, -1)
    divergence = torch.distributions.kl_divergence(old(seen), problem.model(seen)).mean(1)
    mean = found["policy/kl"].mean()
    assert divergence.min() >= 0
    assert (
        0.3 < float(mean / divergence.mean().detach()) < 3
    )  # other weights of the two states, and a sample of actions
    achieved = batch.reward.sum(1).mean(1) - update.value
    assert torch.allclose(found["objective/achieved_change"], achieved)
    error = found["objective/achieved_change"].std() / 600**0.5
    exact_change = torch.stack([exact_value(problem.model, k) - exact_value(old, k) for k in range(600)]).mean()
    assert abs(float(found["objective/achieved_change"].mean() - exact_change)) < 5 * float(error) + 1e-3


def moved(problem: Any, before: list[Tensor]) -> list[Tensor]:
    return [p.detach() - b for p, b in zip(problem.model.parameters(), before, strict=True)]


def exact_value(policy: Any, replica: int) -> Tensor:
    pi = policy(torch.from_numpy(OBSERVATIONS).expand(600, -1, -1)).probs[replica].detach()
    rewards, transitions = torch.from_numpy(REWARDS), torch.from_numpy(TRANSITIONS)
    return (pi[0] * (rewards[0] + transitions[0, :, :2] @ (pi * rewards).sum(1))).sum()


def test_the_objective_of_a_segment_is_what_is_still_to_come(float64: None) -> None:
    """The mean over its steps of the λ-return, and Σ A ∇log π over their number, by the definition."""
    settings = {
        "environment": "CartPole-v1", "baseline": "critic", "segment": 12, "episodes": 3, "replicas": 2,
        "gae_lambda": 0.7, "discount": 0.9, "discount_weighting": False, "critic": {"hidden": [3]},
    }  # fmt: skip
    problem: Reinforce = load_config(SETTINGS | settings).build().problem
    for step in range(2):  # the second has ends in it
        batch = problem.sample(step)
    assert batch.over[:, :-1].any()
    value = problem.model.critic(batch.observation).detach()
    after = problem.model.critic(batch.last_observation).detach()
    estimate = problem.objective(batch)
    policy = list(problem.model.policy.parameters())
    found = estimate.gradient[: len(policy)]
    for replica in range(2):
        log_prob = problem.model(batch.observation).log_prob(batch.action)[replica]
        returns, surrogate = [], torch.zeros(())
        ends = batch.over[replica].nonzero().tolist()
        for b in range(3):
            advantage = 0.0
            for t in reversed(range(12)):
                v, r = float(value[replica, t, b]), float(batch.reward[replica, t, b])
                if batch.over[replica, t, b]:
                    dead = bool((batch.terminated | batch.truncated)[replica, t, b])
                    following = 0.0 if dead else float(after[replica, ends.index([t, b])])
                    advantage = r + 0.9 * following - v
                else:
                    advantage = r + 0.9 * float(value[replica, t + 1, b]) - v + 0.9 * 0.7 * advantage
                returns.append(advantage + v)
                surrogate = surrogate + advantage * log_prob[t, b] / 36
        assert float(estimate.value[replica].detach()) == pytest.approx(sum(returns) / 36)
        expected = torch.autograd.grad(surrogate, policy)
        for a, e in zip(found, expected, strict=True):
            assert torch.allclose(a[replica], e[replica], atol=1e-12)
    finished = problem.experience.segments.finished[0]
    assert (np.isfinite(finished)).any()
    assert estimate.metrics["episode/return"].tolist() == pytest.approx(np.nanmean(finished.reshape(2, 3), 1).tolist())


def test_what_a_step_came_to_in_a_segment_is_told_by_the_same_steps(float64: None) -> None:
    settings = {
        "environment": "CartPole-v1",
        "baseline": "critic",
        "segment": 30,
        "episodes": 8,
        "critic": {"hidden": [3]},
    }
    parts = load_config(SETTINGS | settings | {"optimizer": {"name": "SGD", "lr": 1e-4}}).build()
    before = [p.detach().clone() for p in parts.problem.model.parameters()]
    update = next(iter(updates(parts.problem, parts.optimizer)))
    found = effect(parts.problem, update, moved(parts.problem, before))
    achieved, predicted = found["surrogate/achieved_change"], found["surrogate/predicted_change"]
    assert float(achieved) == pytest.approx(float(predicted), rel=0.01)  # a small step: to first order
    assert 7.9 < float(found["policy/effective_episodes"]) <= 8


def test_the_effective_number_of_episodes() -> None:
    log_ratio = torch.tensor([[[0.0, 0.0, 0.0, 0.0]], [[0.0, 50.0, 0.0, 0.0]], [[0.0, 0.0, -50.0, -50.0]]])
    assert effective_number(log_ratio).tolist() == pytest.approx([4, 1, 2])

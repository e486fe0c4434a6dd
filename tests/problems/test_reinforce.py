import copy
import itertools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rlgrad import load, make_optimizer, train, updates
from rlgrad.agents.diagnostics import effective_number
from rlgrad.agents.normalisers import Normaliser
from rlgrad.agents.policies import CategoricalPolicy
from rlgrad.agents.rollouts import Rollout, masked
from rlgrad.config import load_config
from rlgrad.errors import RunError, UsageError
from rlgrad.loop import parameters_apart
from rlgrad.problems.reinforce import Reinforce
from rlgrad.run.observers.diagnosis import effect
from rlgrad.streams import Purpose
from rlgrad.testing.exact import estimates, policy_problem
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


@pytest.mark.parametrize("baseline", ["optimal_constant", "optimal_per_parameter"])
def test_the_best_constant_leaves_the_least_variance(baseline: str) -> None:
    """Of one pull of a bandit, by the sum over its arms: an estimate from 19 other pulls comes near the best constant,
    and takes off most of what there is without one (the mean of the others leaves a quarter)."""
    _, found = estimates(policy_problem("Bandit", 500, 1.0, baseline=baseline, episodes=20))
    problem = policy_problem("Bandit", 1, 1.0)
    log_p = problem.model(torch.ones(1, 3, 1)).log_prob(torch.arange(3)[None])[0]
    p, reward = log_p.detach().exp().double(), torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    parameters = list(problem.model.policy.parameters())
    scores = [torch.autograd.grad(one, parameters, retain_graph=True) for one in log_p]
    score = torch.stack([torch.cat([part.flatten() for part in one]) for one in scores]).double()  # [arms, P]

    def variance(b: Tensor | float) -> float:
        left = (reward[:, None] - b) * score
        return float((p @ left.square() - (p @ left).square()).sum())

    up, down = p @ (reward[:, None] * score.square()), p @ score.square()
    least = variance(up.sum() / down.sum() if baseline == "optimal_constant" else up / down)
    assert 0.9 * least < 20 * float(found.var(0).sum()) < 0.15 * variance(0.0)


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
        ({"environment": "tests/Levers-v0"}, "no policy supports the actions of tests/Levers-v0, Box"),
        ({"baseline": "leave_one_out", "gae_lambda": 0.9}, "only a critic"),
        ({"segment": 5}, "segment: only a critic can estimate the return still to come: set baseline: critic, or null"),
        (
            {"segment": 5, "baseline": "critic", "discount": 0.9},
            "discount_weighting: a slot plays several episodes, so all states count equally",
        ),
        ({"segment": 5, "baseline": "critic", "standardise_advantages": "per_episode"}, "needs whole episodes"),
        (
            {"segment": 5, "baseline": "critic", "environment": "CartPole-v1", "simulator": "vector"},
            "simulator: vector cannot begin an episode again from a seed",
        ),
        (
            {
                "segment": 5,
                "baseline": "critic",
                "environment": "CartPole-v1",
                "simulator": "vector",
                "action_repeat": 2,
            },
            "action_repeat: the simulator vector may begin a slot's next episode while an action is held",
        ),
        (
            {
                "batch_steps": 100,
                "baseline": "critic",
                "discount_weighting": False,
                "environment": "CartPole-v1",
                "simulator": "vector",
                "action_repeat": 2,
            },
            "action_repeat: the simulator vector may begin a slot's next episode while an action is held",
        ),
        (
            {"environment": "FrozenLake-v1", "environment_options": {"map_name": None}},
            "environment_options: FrozenLake-v1 has another table each time that it is made",
        ),
        (
            {"baseline": "optimal_constant", "standardise_advantages": True},
            "it cannot be used with the baseline optimal_constant",
        ),
        ({"baseline": "optimal_per_parameter", "episodes": 1}, "at least two episodes"),
        ({"time_limit": "bootstrap"}, "estimate the return still to come: set baseline: critic, or end"),
        ({"simulator": "vector"}, "simulator: tests/TwoStep-v0 has no vector form of its own"),
        ({"baseline": "critic", "returns": "whole"}, "a critic estimates the return still to come"),
        ({"environment": "CartPole-v11"}, "did you mean CartPole-v1"),
        ({"episodes": 1}, "at least two episodes"),
        ({"environment": "os:CartPole-v1"}, "would import a module"),
    ],
)
def test_what_the_policy_cannot_serve_is_refused_in_a_line(settings: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refusal:
        load_config(SETTINGS | settings).build()
    assert "\n" not in str(refusal.value)


def test_what_was_promised_leaves_the_critic_out() -> None:
    parts = load_config(SETTINGS | {"baseline": "critic"}).build()
    update = next(iter(updates(parts.problem, parts.optimizer)))
    theirs = parameters_apart(parts.problem.model)
    alone = [torch.ones_like(p) * (p in theirs) for p in parts.problem.model.parameters()]
    assert not effect(parts.problem, update, alone)["objective/predicted_change"].any()
    assert effect(parts.problem, update, [1 - step for step in alone])["objective/predicted_change"].all()


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
    exact_change = (exact_values(problem.model, 600) - exact_values(old, 600)).mean()
    assert abs(float(found["objective/achieved_change"].mean() - exact_change)) < 5 * float(error) + 1e-3


def moved(problem: Any, before: list[Tensor]) -> list[Tensor]:
    return [p.detach() - b for p, b in zip(problem.model.parameters(), before, strict=True)]


def exact_values(policy: Any, replicas: int) -> Tensor:
    """What each replica's policy earns in two steps [R]."""
    pi = policy(torch.from_numpy(OBSERVATIONS).expand(replicas, -1, -1)).probs.detach()
    rewards, transitions = torch.from_numpy(REWARDS), torch.from_numpy(TRANSITIONS)
    afterwards = torch.einsum("an,rn->ra", transitions[0, :, :2], (pi * rewards).sum(2))
    return (pi[:, 0] * (rewards[0] + afterwards)).sum(1)


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


def plain(**settings: object) -> Reinforce:
    """An agent in episodes of one to three steps, some of which a time limit cuts off: `Countdown`, limited."""
    config = SETTINGS | {"environment": "tests/Limited-v0", "replicas": 2, "episodes": 5, "critic": {"hidden": [3]}}
    problem: Reinforce = load_config(config | settings).build().problem
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in problem.model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) / 2)
    return problem


def episodes_of(batch: Rollout, replica: int) -> list[list[float]]:
    """The rewards of each episode."""
    slots = range(batch.alive.shape[2])
    return [batch.reward[replica, batch.alive[replica, :, b], b].tolist() for b in slots]


def to_go(rewards: list[float], discount: float) -> list[float]:
    return [sum(discount**k * r for k, r in enumerate(rewards[t:])) for t in range(len(rewards))]


class ByHand:
    """What one replica's estimate must be, episode after episode and step after step."""

    def __init__(self, problem: Reinforce, batch: Rollout, replica: int, earlier: list[Rollout]):
        settings, model = problem.settings, problem.model
        gamma = settings.discount
        before = [[to_go(each, gamma) for each in episodes_of(one, replica)] for one in earlier]
        steps_before = [g for one in before for each in one for g in each]
        unit = float(np.std(steps_before)) if settings.normalise_returns and steps_before else 1 / settings.reward_scale
        old = [(0.8**age, np.mean([each[0] for each in one])) for age, one in enumerate(reversed(before))]
        running = sum(w * m for w, m in old) / sum(w for w, _ in old) if old else 0.0
        every = episodes_of(batch, replica)
        count, steps = len(every), sum(map(len, every))
        self.value = sum(to_go(each, gamma)[0] for each in every) / count
        self.returns, self.steps = sum(map(sum, every)) / count, steps
        rows = [(b, t) for b, each in enumerate(every) for t in range(len(each))]
        said = model(batch.observation)
        log_prob, entropy = said.log_prob(batch.action)[replica], said.entropy()[replica]
        guess = model.critic(batch.observation)[replica] if model.critic else None
        known = guess.tolist() if guess is not None else None
        self.target, self.advantage = {}, {}
        for b, rewards in enumerate(every):
            n = len(rewards)
            first = float(batch.observation[replica, 0, b, 0])
            cut_off = first > n  # it has counted down to first - n
            seen_last = torch.full((2, 1, 1, 1), first - n)
            ahead = model.critic(seen_last)[replica].item() if model.critic and cut_off else 0.0
            ahead = ahead if settings.time_limit == "bootstrap" else 0.0
            values = [known[t][b] for t in range(n)] + [ahead] if known else []
            for t in range(n):
                g = to_go(rewards, gamma)[0 if settings.returns == "whole" else t]
                match settings.baseline:
                    case "critic":
                        delta = [rewards[k] + gamma * values[k + 1] - values[k] for k in range(n)]
                        a = sum((gamma * settings.gae_lambda) ** (k - t) * delta[k] for k in range(t, n))
                        g = a + values[t]
                    case "running_mean":
                        a = g - running
                    case "leave_one_out" | "batch_mean":
                        others = [e for o, e in enumerate(every) if o != b or settings.baseline == "batch_mean"]
                        at = 0 if settings.returns == "whole" else t
                        a = g - sum(to_go(e, gamma)[at] if at < len(e) else 0.0 for e in others) / len(others)
                    case _:
                        a = g
                self.target[b, t], self.advantage[b, t] = g, a
        used = {row: a / unit for row, a in self.advantage.items()}
        for group in (
            [rows]
            if settings.standardise_advantages is True
            else [[r for r in rows if r[0] == b] for b in range(count)]
        ):
            x = np.array([used[row] for row in group])
            if settings.standardise_advantages:
                x = (x - x.mean()) / x.std() if len(x) > 1 and x.std() > 1e-9 else 0 * x
                used |= dict(zip(group, x, strict=True))
        weighted = settings.discount_weighting and settings.returns == "reward_to_go"
        each = [gamma ** (t * weighted) * used[b, t] * log_prob[t, b] for b, t in rows]
        bonus = sum(entropy[t, b] for b, t in rows) / steps
        coefficient = settings.entropy_bonus.coefficient if settings.entropy_bonus else 0.0
        self.entropy = float(bonus.detach())
        self.surrogate = sum(each) / count + coefficient * bonus
        half = count // 2
        self.halves = [
            sum(x for x, (b, _) in zip(each, rows, strict=True) if b in part) / len(part)
            for part in (range(half), range(half, count))
        ]
        if guess is not None:
            errors = [(guess[t, b] - self.target[b, t]) / unit for b, t in rows]
            self.loss = sum(error.square() for error in errors) / steps / 2
            self.error = float(self.loss.detach()) * unit**2
        baseline = [self.target[row] - self.advantage[row] for row in rows]
        target = [self.target[row] for row in rows]
        self.explained = 1 - np.var(np.subtract(target, baseline)) / np.var(target)


@pytest.mark.parametrize(
    "settings",
    [
        {"baseline": "none", "discount": 0.9},
        {"baseline": "none", "discount": 0.9, "discount_weighting": False},
        {"baseline": "none", "discount": 0.9, "normalise_returns": True},
        {"baseline": "leave_one_out", "discount": 0.9, "returns": "whole"},
        {"baseline": "batch_mean", "discount": 0.9},
        {"baseline": "batch_mean", "returns": "whole"},
        {"baseline": "running_mean", "discount": 0.9},
        {"baseline": "running_mean", "discount": 0.9, "returns": "whole", "normalise_returns": True},
        {"baseline": "leave_one_out", "standardise_advantages": True, "entropy_bonus": {"coefficient": 0.3}},
        {"baseline": "critic", "discount": 0.9, "gae_lambda": 0.7},
        {"baseline": "critic", "discount": 0.9, "gae_lambda": 0.7, "time_limit": "bootstrap"},
        {"baseline": "critic", "discount": 0.9, "time_limit": "bootstrap", "normalise_returns": True},
        {"baseline": "critic", "gae_lambda": 0.0, "standardise_advantages": "per_episode", "discount": 0.9},
        {
            "baseline": "critic",
            "environment": "CartPole-v1",
            "discount": 0.97,
            "gae_lambda": 0.8,
        },  # more than one piece
        {
            "baseline": "none",
            "environment": "CartPole-v1",
            "normalise_returns": True,
            "entropy_bonus": {"coefficient": 0.1},
        },
        {"baseline": "none", "reward_scale": 2.5, "entropy_bonus": {"coefficient": 0.3}},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_an_estimate_is_what_a_loop_over_steps_and_autograd_give(float64: None, settings: dict[str, Any]) -> None:
    """Third of three updates, so that there is something to remember; the parameters stay as they are."""
    problem = plain(**settings)
    *earlier, batch = [problem.sample(step) for step in range(3)]
    found = problem.objective(batch._replace(step=0))
    policy = list(problem.model.policy.parameters())
    for replica in range(2):
        hand = ByHand(problem, batch, replica, earlier)
        assert found.value[replica].item() == pytest.approx(hand.value)
        expected = torch.autograd.grad(hand.surrogate, policy, retain_graph=True)
        for a, e in zip(found.gradient, expected, strict=False):
            torch.testing.assert_close(a[replica], e[replica], rtol=1e-9, atol=1e-12)
        metrics = {
            "episode/return": hand.returns, "episode/length": hand.steps / 5, "episode/env_steps": hand.steps,
            "policy/entropy": hand.entropy,
        }  # fmt: skip
        g, h = (
            torch.cat([x[replica].flatten() for x in torch.autograd.grad(half, policy, retain_graph=True)])
            for half in hand.halves
        )
        metrics["gradient/deviation"] = float((g - h).norm() / 2)
        metrics["gradient/half_cosine"] = float(torch.dot(g, h) / (g.norm() * h.norm()).clamp(min=1e-8))
        if settings["baseline"] != "none":
            metrics["baseline/explained_variance"] = hand.explained
        if problem.model.critic:
            critic = list(problem.model.critic.parameters())
            for a, e in zip(found.gradient[len(policy) :], torch.autograd.grad(hand.loss, critic), strict=True):
                torch.testing.assert_close(a[replica], e[replica], rtol=1e-9, atol=1e-12)
            metrics["critic/error"] = hand.error
        else:
            assert len(found.gradient) == len(policy)
        for name, number in metrics.items():
            assert float(found.metrics[name][replica]) == pytest.approx(number), name
    named = {*metrics, "gradient/signal_to_noise"}
    assert set(found.metrics) == named


@pytest.mark.parametrize("more", [{}, {"normalise_returns": True}, {"segment": 40, "discount_weighting": False}])
def test_the_critic_learns_in_later_evaluations_of_a_batch_too(float64: None, more: dict[str, Any]) -> None:
    """As LBFGS asks for them, at other parameters: the targets stay, and its error is that of its own guesses there."""
    problem = plain(baseline="critic", discount=0.9, gae_lambda=0.7, environment="CartPole-v1", **more)
    problem.sample(0)
    batch = next(iter(problem.passes(problem.sample(1))))
    first, again = (problem.objective(batch).gradient for _ in range(2))
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a, b)
    target, unit = batch.first.weights.target, batch.first.weights.unit
    critic = list(problem.model.critic.parameters())
    with torch.no_grad():
        for parameter in critic:
            parameter.mul_(1.5).add_(0.1)
    wrong = ((problem.model.critic(batch.played.observation) - target) / unit).square()
    loss = (wrong * batch.played.alive).sum((1, 2)) / batch.played.alive.sum((1, 2)) / 2
    found = problem.objective(batch).gradient[-len(critic) :]
    for a, b in zip(found, torch.autograd.grad(loss.sum(), critic), strict=True):
        torch.testing.assert_close(a, b)
        assert b.any()


def tripled(**options: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.wrappers.TransformReward(gymnasium.make("CartPole-v1", **options), lambda reward: 3 * reward)


OWN_CRITIC = {"hidden": [4], "optimizer": {"name": "Adam", "lr": 0.1}, "epochs": 2}


@pytest.mark.parametrize(
    "settings",
    [
        {"entropy_bonus": {"coefficient": 0.3}, "baseline": "leave_one_out"},
        {"baseline": "critic", "segment": 20, "gae_lambda": 0.9, "discount_weighting": False},
        {"baseline": "critic", "critic": OWN_CRITIC, "standardise_advantages": True},
        {"problem": "ppo", "baseline": "critic", "epochs": 2, "minibatches": 2, "entropy_bonus": {"coefficient": 0.3}},
    ],
    ids=["entropy", "segments", "critic", "ppo"],
)
def test_a_reward_scale_trains_as_such_rewards_do_and_the_objective_stays(
    float64: None, settings: dict[str, Any]
) -> None:
    config = {"problem": "reinforce", "environment": "-", "episodes": 3, "discount": 0.9, "policy": {"hidden": [4]}}
    config |= {"updates": 3, "optimizer": {"name": "SGD", "lr": 0.1}, "replicas": 2, **settings}
    trained = []
    for scale, environment in ((3.0, lambda: gymnasium.make("CartPole-v1")), (1.0, tripled)):
        built = load_config(config | {"reward_scale": scale}, objects={"environment": environment}).build()
        told = [
            torch.stack([update.value, update.metrics["episode/return"]])
            for update in itertools.islice(updates(built.problem, built.optimizer), 3)
        ]
        built.problem.close()
        trained.append((list(built.problem.model.parameters()), torch.stack(told)))
    (parameters, told), (others, thrice) = trained
    torch.testing.assert_close(3 * told, thrice, rtol=1e-9, atol=0, equal_nan=True)
    for found, expected in zip(parameters, others, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def bandit(**settings: object) -> Reinforce:
    """Arms that earn 1, 2 and 4; the second is the most probable one, and a few in a hundred pulls are of the first."""
    problem: Reinforce = (
        load_config(SETTINGS | {"environment": "rlgrad/Bandit-v0", "policy": {"hidden": []}} | settings).build().problem
    )
    with torch.no_grad():
        for parameter in problem.model.policy.parameters():
            parameter.zero_()
        problem.model.policy.network[0].layers[0].bias.copy_(torch.tensor([-1.0, 1.0, 0.7]))
    return problem


def test_an_evaluation_is_greedy_and_what_is_learned_from_is_not() -> None:
    problem = bandit(replicas=3, episodes=50, evaluation={"episodes": 40})
    assert problem.evaluate(0)["return"].tolist() == [2.0] * 3
    assert problem.evaluate(0)["length"].tolist() == [1.0] * 3
    assert (problem.sample(0).reward.unique() > 0).sum() == 3  # each arm


def test_each_evaluation_has_new_episodes_of_its_own() -> None:
    """How long a countdown takes is drawn by its seed, whatever the policy does."""
    settings = {"environment": "tests/Countdown-v0", "episodes": 30, "evaluation": {"episodes": 30}, "replicas": 2}
    problem: Reinforce = load_config(SETTINGS | settings).build().problem
    lengths = [tuple(problem.evaluate(step)["length"].tolist()) for step in (0, 1, 0)]
    assert lengths[0] == lengths[2] != lengths[1]
    assert lengths[0][0] != lengths[0][1]
    learned_from = problem.sample(0).length.double().mean(1).tolist()
    assert list(lengths[0]) != pytest.approx(learned_from)
    other: Reinforce = load_config(SETTINGS | settings | {"seed": 7}).build().problem
    assert tuple(other.evaluate(0)["length"].tolist()) != lengths[0]
    few: Reinforce = load_config(SETTINGS | settings | {"evaluation": {"episodes": 7}}).build().problem
    shorter = few.evaluate(0)
    assert [7 * x - round(7 * x) for x in shorter["length"].tolist()] == pytest.approx([0, 0], abs=1e-5)
    returns = [n * (n + 1) / 2 for n in range(7)]  # the reward of a step is its number
    every, *_ = problem.experience.returns(problem.model.policy, Purpose.EVALUATE, 0, 30)
    _, steps, _ = problem.experience.returns(problem.model.policy, Purpose.EVALUATE, 0, 30)
    assert every.tolist() == [[returns[int(n)] for n in each] for each in steps]


WHOLE = {"baseline": "critic", "discount": 0.8, "time_limit": "bootstrap"}
SEGMENTS = {
    "baseline": "critic",
    "discount": 0.8,
    "discount_weighting": False,
    "segment": 7,
    "environment": "CartPole-v1",
}


@pytest.mark.parametrize("settings", [{"discount": 0.8}, WHOLE, SEGMENTS], ids=["episodes", "critic", "segments"])
def test_a_step_of_no_length_has_come_to_nothing(float64: None, settings: dict[str, Any]) -> None:
    problem = plain(**settings, diagnose_every_updates=1)
    before = [p.detach().clone() for p in problem.model.parameters()]
    stream = updates(problem, make_optimizer(problem, "SGD", lr=0.0))
    next(stream)
    update = next(stream)
    found = effect(problem, update, moved(problem, before))
    of = "surrogate" if "segment" in settings else "objective"
    assert found[f"{of}/achieved_change"].tolist() == pytest.approx([0, 0], abs=1e-12)
    assert found["policy/kl"].tolist() == pytest.approx([0, 0], abs=1e-12)
    assert found["policy/effective_episodes"].tolist() == pytest.approx([5, 5])
    assert problem.after(update).tolist() == pytest.approx(update.value.tolist())


@pytest.mark.parametrize("settings", [{"baseline": "none"}, SEGMENTS], ids=["episodes", "segments"])
def test_how_far_a_step_went_by_hand(float64: None, settings: dict[str, Any]) -> None:
    """Step after step: KL, weights of the episodes; in segments the weighted objective too."""
    problem = plain(**settings, diagnose_every_updates=1)
    old = copy.deepcopy(problem.model)
    stream = updates(problem, make_optimizer(problem, "SGD", lr=0.5))
    update = next(stream)
    batch = update.passes[0].batch.played
    found = problem.diagnose(update, torch.zeros(2))
    p, q = old(batch.observation), problem.model(batch.observation)
    each = torch.distributions.kl_divergence(*(torch.distributions.Categorical(logits=one.logits) for one in (p, q)))
    log_ratio = (q.log_prob(batch.action) - p.log_prob(batch.action)).detach()
    for replica in range(2):
        alive = batch.alive[replica]
        assert found["policy/kl"][replica].item() == pytest.approx(each[replica][alive].mean().item(), rel=1e-9)
        weights = [log_ratio[replica, :, b][alive[:, b]].sum().exp().item() for b in range(5)]
        number = sum(weights) ** 2 / sum(w * w for w in weights)
        assert found["policy/effective_episodes"][replica].item() == pytest.approx(number)
        assert 1 < number < 4.99
        if "segment" in settings:
            with torch.no_grad():
                agent = copy.deepcopy(problem)
                agent.model = old
                weights = agent.objective(batch).notes.weights
            change = (log_ratio[replica].exp() - 1) * (weights.advantage * weights.share)[replica]
            assert found["surrogate/achieved_change"][replica].item() == pytest.approx(change.sum().item())
            assert abs(change.sum().item()) > 1e-3


def test_what_is_reported_at_the_end_is_measured_on_the_episodes_that_would_come_next() -> None:
    """Of the policy that is saved, by the discount of the settings; in segments on those of the last update."""
    problem = bandit(replicas=2, episodes=20, discount=0.5)
    update = next(updates(problem, make_optimizer(problem, "SGD", lr=5.0), first=3))
    assert problem.final(update).tolist() == pytest.approx(problem.sample(4).reward.sum(1).mean(1).tolist())
    assert problem.after(update).tolist() == pytest.approx(problem.sample(3).reward.sum(1).mean(1).tolist())
    assert problem.after(update).tolist() != pytest.approx(update.value.tolist())


@pytest.mark.parametrize(
    ("settings", "promises"),
    [
        ({}, True),
        ({"discount": 0.9}, True),
        ({"discount": 0.9, "discount_weighting": False}, False),
        ({"discount_weighting": False}, True),
        ({"standardise_advantages": True}, False),
        ({"entropy_bonus": {"coefficient": 0.1}}, False),
        ({"baseline": "critic"}, True),
        ({"baseline": "critic", "gae_lambda": 0.9}, False),
        ({"baseline": "critic", "time_limit": "bootstrap"}, False),
        ({"baseline": "critic", "segment": 5, "gae_lambda": 0.9, "time_limit": "bootstrap"}, True),
    ],
)
def test_what_was_promised_is_said_only_where_the_gradient_is_that_of_the_objective(
    settings: dict[str, Any], promises: bool
) -> None:
    problem = plain(**settings)
    update = next(updates(problem, make_optimizer(problem, "SGD", lr=0.01)))
    assert any(name.endswith("predicted_change") for name in problem.diagnose(update, torch.ones(2))) is promises


class FarAway(gymnasium.Env):
    """What to do is in the last digits of the observation: 1 where it is above a hundred million."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.right = int(self.np_random.integers(2))
        return np.array([1e8 + 2 * self.right - 1]), {}

    def step(self, action):
        return np.array([1e8]), float(action == self.right), True, False, {}


@pytest.mark.parametrize(
    "more", [{}, {"segment": 8, "baseline": "critic", "discount": 0.5, "discount_weighting": False}]
)
def test_an_observation_s_last_digits_are_learned_from(tmp_path: Path, more: dict) -> None:
    config = {"problem": "reinforce", "normalise_observations": True, "episodes": 16, "updates": 40}
    config |= {"optimizer": {"name": "Adam", "lr": 0.1}, "evaluation": {"episodes": 20}} | more
    run = train(config, environment=FarAway, out=tmp_path / "run")
    assert run.summary["evaluation.return"]["mean"] == 1
    action, _ = load(run.directory, environment=FarAway).predict(np.array([[1e8 - 1], [1e8 + 1]]), deterministic=True)
    assert action.tolist() == [0, 1]


@pytest.mark.parametrize(("low", "high"), [(2, np.inf), (-np.inf, 5), (-np.inf, np.inf), (-3.4028235e38, 1)])
def test_actions_without_two_bounds_are_not_squashed(tmp_path: Path, low: float, high: float) -> None:
    class Half(FarAway):
        action_space = spaces.Box(np.array([low, 0], np.float32), np.array([high, 1], np.float32))

    config = {"problem": "reinforce", "updates": 1, "optimizer": {"name": "SGD"}, "policy": {"squash": True}}
    with pytest.raises(UsageError, match=r"policy\.squash: a tanh needs two bounds, and not all actions of"):
        train(config, environment=Half, out=tmp_path / "run")


def test_what_was_promised_is_in_the_objective_s_unit(float64: None) -> None:
    """The gradient is in units of the return's deviation; a small step comes to what it says times that."""
    problem = plain(discount=0.9, normalise_returns=True, baseline="none", diagnose_every_updates=1)
    problem.sample(0)
    stream = updates(problem, make_optimizer(problem, "SGD", lr=0.0), first=1)
    update = next(stream)
    promised = torch.tensor([1.0, 2.0])
    found = problem.diagnose(update, promised)["objective/predicted_change"]
    earlier = plain(discount=0.9, normalise_returns=True, baseline="none").sample(0)
    deviation = [np.std([g for each in episodes_of(earlier, k) for g in to_go(each, 0.9)]) for k in range(2)]
    assert found.tolist() == pytest.approx([deviation[0], 2 * deviation[1]])


def test_diagnoses_are_made_as_often_as_the_settings_say() -> None:
    problem = plain(diagnose_every_updates=3)
    named = [set(problem.objective(problem.sample(step)).metrics) for step in range(7)]
    assert [step for step in range(7) if "gradient/half_cosine" in named[step]] == [0, 3, 6]
    assert [step for step in range(7) if "baseline/explained_variance" in named[step]] == [0, 3, 6]
    alone = plain(episodes=1, baseline="none")  # one episode has no halves
    assert "gradient/half_cosine" not in alone.objective(alone.sample(0)).metrics


@pytest.mark.parametrize("time_limit", ["end", "bootstrap"])
def test_segments_in_units_of_the_return_by_hand(float64: None, time_limit: str) -> None:
    """The critic says how many deviations from the mean of all earlier targets; and so much is an advantage divided."""
    problem = plain(
        baseline="critic", segment=4, episodes=3, gae_lambda=0.7, discount=0.9, discount_weighting=False,
        normalise_returns=True, time_limit=time_limit, environment_options={"fixed": 5},
    )  # fmt: skip
    says = problem.model.critic.network
    targets: list[list[float]] = [[], []]
    earned = np.zeros((2, 2, 3))  # return and length so far, of each slot
    finished = np.full((2, 2, 3), np.nan)
    for step in range(4):
        batch = problem.sample(step)
        found = problem.objective(batch)
        assert bool(batch.truncated.any()) == (step > 0 or batch.truncated[:, 2].any())
        for replica in range(2):
            mean, unit = (np.mean(targets[replica]), np.std(targets[replica])) if targets[replica] else (0.0, 1.0)
            guess, log_prob = (
                says(batch.observation)[replica, ..., 0],
                problem.model(batch.observation).log_prob(batch.action)[replica],
            )
            surrogate = loss = torch.zeros(())
            new = []
            for b in range(3):
                advantage = 0.0
                for t in reversed(range(4)):
                    value = mean + unit * guess[t, b].item()
                    cut, left = bool(batch.truncated[replica, t, b]), float(batch.observation[replica, t, b, 0]) - 1
                    if cut or t == 3:  # it has counted down by one more; it is never terminated: 5 is more than 3 steps
                        seen = torch.full((2, 1, 1), left)
                        ahead = 0.0 if cut and time_limit == "end" else mean + unit * says(seen)[replica].item()
                        advantage = float(batch.reward[replica, t, b]) + 0.9 * ahead - value
                    else:
                        ahead = mean + unit * guess[t + 1, b].item()
                        advantage = float(batch.reward[replica, t, b]) + 0.9 * ahead - value + 0.63 * advantage
                    new.append(advantage + value)
                    surrogate = surrogate + advantage / unit * log_prob[t, b] / 12
                    loss = loss + ((mean + unit * guess[t, b] - advantage - value) / unit).square() / 24
            for t, b in itertools.product(range(4), range(3)):
                earned[:, replica, b] += float(batch.reward[replica, t, b]), 1
                if batch.truncated[replica, t, b]:
                    finished[:, replica, b], earned[:, replica, b] = earned[:, replica, b], 0
            targets[replica] += new
            assert found.value[replica].item() == pytest.approx(np.mean(new))
            parameters = list(problem.model.policy.parameters()), list(problem.model.critic.parameters())
            expected = torch.autograd.grad(surrogate, parameters[0]) + torch.autograd.grad(loss, parameters[1])
            for a, e in zip(found.gradient, expected, strict=True):
                torch.testing.assert_close(a[replica], e[replica], rtol=1e-7, atol=1e-12)
        if step > 0:
            assert found.metrics["episode/return"].tolist() == np.nanmean(finished[0], 1).tolist()
            assert found.metrics["episode/length"].tolist() == np.nanmean(finished[1], 1).tolist()
        assert found.metrics["episode/env_steps"].tolist() == [12, 12]


def test_the_settings_of_the_networks_reach_them() -> None:
    """Sizes, initial gains, and the form of the policy: an orthogonal last layer has the gain as its singular values."""
    settings = {
        "environment": "Pendulum-v1", "baseline": "critic", "replicas": 2, "episodes": 2, "normalise_observations": True,
        "policy": {"hidden": [6, 5], "initial_gain": 0.3, "initial_deviation": 0.5, "squash": True},
        "critic": {"hidden": [7], "activation": "relu", "learning_rate": 0.2}, "normalise_returns": True,
    }  # fmt: skip
    model = load_config(SETTINGS | settings).build().problem.model
    for network, sizes, gain in ((model.policy.network, [3, 6, 5, 1], 0.3), (model.critic.network, [3, 7, 1], 1.0)):
        normaliser, layers = network[0], network[1].layers
        assert isinstance(normaliser, Normaliser)
        assert [layer.weight.shape for layer in layers] == [(2, a, b) for a, b in itertools.pairwise(sizes)]
        for layer, expected in zip(layers, [2**0.5] * (len(sizes) - 2) + [gain], strict=True):
            values = torch.linalg.svdvals(layer.weight.detach())
            torch.testing.assert_close(values, torch.full_like(values, expected))
    observation = torch.tensor([[[1.0, 0.0, 0.5]], [[0.5, -0.5, 1.0]]])
    hidden = (observation @ model.critic.network[1].layers[0].weight).relu()
    torch.testing.assert_close(model.critic(observation), (hidden @ model.critic.network[1].layers[1].weight)[..., 0])
    torch.testing.assert_close(model.policy.log_deviation.detach(), torch.full((2, 1), 0.5).log())
    assert model.policy.to_environment(np.array([[0.5]])).item() == pytest.approx(2 * np.tanh(0.5))
    assert model.critic.arguments == {"lr": 0.2}
    assert isinstance(model.critic.unit, Normaliser)


@pytest.mark.parametrize("segment", [None, 3])
def test_a_held_action_is_as_many_environment_steps_as_it_is_held(segment: int | None) -> None:
    """A countdown from six: three decisions."""
    settings = {
        "environment": "tests/Countdown-v0",
        "environment_options": {"fixed": 6},
        "action_repeat": 2,
        "segment": segment,
    }
    problem = plain(**settings, baseline="critic", episodes=4)
    metrics = problem.objective(problem.sample(0)).metrics
    assert metrics["episode/length"].tolist() == [3, 3]
    assert metrics["episode/return"].tolist() == [21, 21]
    assert metrics["episode/env_steps"].tolist() == [24, 24]


@pytest.mark.parametrize("standardised", [True, "per_episode"])
def test_where_all_episodes_earn_the_same_nothing_is_learned_from_rounding(standardised: bool | str) -> None:
    """Returns of 0.9 + 0.9² 2 + … in single precision: their mean is not quite any of them."""
    settings = {"environment": "tests/Countdown-v0", "environment_options": {"fixed": 6}, "discount": 0.9}
    problem = plain(**settings, episodes=7, standardise_advantages=standardised)
    assert all((g == 0).all() for g in problem.objective(problem.sample(0)).gradient)


def test_an_evaluation_does_not_touch_the_episodes_that_go_on() -> None:
    """Not even where it has as many of them as a segment; nor does measuring what the last step came to."""
    one, other = (plain(**SEGMENTS, evaluation={"episodes": 5}) for _ in range(2))
    for step in range(4):
        a, b = one.sample(step), other.sample(step)
        assert a.step == b.step == step
        assert torch.equal(a.reward, b.reward)
        assert torch.equal(a.observation, b.observation)
        one.evaluate(step)


def test_what_is_played_has_its_number_and_an_end() -> None:
    problem = plain(
        baseline="none", environment="tests/Countdown-v0", environment_options={"fixed": 6}, episode_limit=5
    )
    with pytest.raises(RunError, match="did not end within 5 steps"):
        problem.sample(0)
    assert problem.evaluate(0)["length"].tolist() == [6.0] * len(
        problem.evaluate(0)["length"]
    )  # has a limit of its own
    assert plain().sample(3).step == 3


def test_an_environment_of_ours_that_cannot_begin_again_one_by_one_is_gymnasium_s_in_segments() -> None:
    problem = plain(**SEGMENTS | {"environment": "FrozenLake-v1", "segment": 40})
    batches = [problem.sample(step) for step in range(2)]
    assert all(batch.terminated.any() for batch in batches)
    assert all((batch.observation.sum(3) == 1).all() for batch in batches)


def test_replica_k_s_segments_are_those_of_a_run_alone_and_no_two_episodes_begin_alike() -> None:
    def played(seed: int, replicas: int) -> tuple[Tensor, Tensor]:
        problem = (
            load_config(SETTINGS | SEGMENTS | {"seed": seed, "replicas": replicas, "segment": 30, "episodes": 3})
            .build()
            .problem
        )
        batches = [problem.sample(step) for step in range(3)]
        return torch.cat([b.observation for b in batches], 1), torch.cat([b.over for b in batches], 1)

    many, over = played(5, 3)
    for replica in range(3):
        torch.testing.assert_close(played(5 + replica, 1)[0][0], many[replica])
    begun = torch.cat([many[:, 0].flatten(0, 1), many[:, 1:][over[:, :-1] & (many[:, 1:].abs() <= 0.05).all(3)]])
    assert len(begun) > 15
    assert len(begun.unique(dim=0)) == len(begun)

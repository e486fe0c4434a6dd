import itertools

import pytest
import torch
from torch import Tensor

from rlgrad import make_optimizer, updates
from rlgrad.config import load
from rlgrad.problems.reinforce import Reinforce
from rlgrad.rollouts import Episodes, masked
from rlgrad.settings import UsageError
from tests.environments import OBSERVATIONS, REWARDS, TRANSITIONS

SETTINGS = {
    "problem": "reinforce",
    "environment": "tests/TwoStep-v0",
    "updates": 1,
    "policy": {"hidden": [3]},
    "optimizer": {"name": "SGD", "lr": 0.1},
}


def two_step(**settings: object) -> Reinforce:
    problem: Reinforce = load(SETTINGS | settings).build().problem
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


def batch_of(groups: list[tuple[int, ...]]) -> Episodes:
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
    return Episodes(masked(observation, alive), action, masked(reward, alive), alive, torch.ones_like(alive[:, 0]))


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
    return value.detach(), [g[0] for g in torch.autograd.grad(value, list(problem.model.parameters()))]


def expected_gradient(problem: Reinforce, groups: list[tuple[int, ...]]) -> tuple[Tensor, list[Tensor]]:
    """The estimator's value and gradient, summed over all batches with their probabilities."""
    p = probability(problem, groups).detach()
    assert torch.allclose(p.sum(), torch.ones(()))
    value = problem.objective(batch_of(groups)).value
    gradients = torch.autograd.grad((p * value).sum(), list(problem.model.parameters()))
    return (p * value).sum().detach(), [g.sum(0) for g in gradients]


@pytest.mark.parametrize("discount", [1.0, 0.8])
@pytest.mark.parametrize(("baseline", "episodes"), [("none", 1), ("none", 2), ("leave_one_out", 2)])
def test_the_expected_estimate_is_the_exact_gradient(
    float64: None, baseline: str, episodes: int, discount: float
) -> None:
    groups = list(itertools.product(range(len(trajectories())), repeat=episodes))
    problem = two_step(replicas=len(groups), episodes=episodes, baseline=baseline, discount=discount)
    value, gradient = expected_gradient(problem, groups)
    true_value, true_gradient = exact(problem, discount)
    assert torch.allclose(value, true_value, rtol=0, atol=1e-10)
    for found, expected in zip(gradient, true_gradient, strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-10)
        assert expected.abs().max() > 1e-3


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

    def gradients(played: Episodes) -> list[Tensor]:
        value = problem.objective(played).value.sum()
        return list(torch.autograd.grad(value, list(problem.model.parameters())))

    for clean, other in zip(gradients(batch), gradients(spoiled), strict=True):
        assert torch.equal(clean, other)


@pytest.mark.parametrize("optimizer", [{"name": "Adam", "lr": 0.1}, {"name": "LBFGS", "lr": 0.1, "max_iter": 2}])
def test_a_spoiled_replica_leaves_the_others_as_they_are(optimizer: dict) -> None:
    def trained(spoil: float | None) -> list[Tensor]:
        settings = {"environment": "CartPole-v1", "episodes": 4, "replicas": 3, "optimizer": optimizer}
        problem = load(SETTINGS | settings).build().problem
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
        built = load("cartpole", {"seed": seed, "replicas": replicas, "episodes": 4}).build()
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
        ({"environment": "FrozenLake-v1"}, "FrozenLake-v1 shows Discrete"),
        ({"environment": "Pendulum-v1"}, "Pendulum-v1 wants Box"),
        ({"environment": "CartPole-v11"}, "did you mean CartPole-v1"),
        ({"episodes": 1}, "at least two episodes"),
        ({"environment": "os:CartPole-v1"}, "would import a module"),
    ],
)
def test_what_the_policy_cannot_serve_is_refused_in_a_line(settings: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refusal:
        load(SETTINGS | settings).build()
    assert "\n" not in str(refusal.value)

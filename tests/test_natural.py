"""The natural gradient, against the same by hand, and against Newton's method."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgrad import UsageError, train, updates
from rlgrad.agents.fisher import Fisher
from rlgrad.agents.policies import outputs, policy_for
from rlgrad.agents.rollouts import Rollout
from rlgrad.config import load_config
from rlgrad.loop import Evaluation, differentiate, make_optimizer
from rlgrad.networks import MLP
from rlgrad.problems.reinforce import Reinforce
from rlgrad.replicas import flatten, unflatten
from rlgrad.streams import Purpose, streams
from rlgrad.testing.exact import policy_problem

from .test_optimizers import fitted, synthetic


def moved(problem: Reinforce, **arguments: Any) -> np.ndarray:
    """[R, P] how far one natural gradient step moves the policy."""
    before = flatten(problem.model.policy.parameters()).detach().clone()
    next(updates(problem, make_optimizer(problem, "NaturalGradient", **arguments)))
    return (flatten(problem.model.policy.parameters()).detach() - before).numpy()


def scores(problem: Reinforce, batch: Rollout) -> tuple[np.ndarray, np.ndarray]:
    """Of a policy over two actions: ∇log π [R, T, B, A, P] and π [R, T, B, A] at each observation, by the softmax's
    derivative: (one-hot − π) ⊗ (x, 1)."""
    x = batch.observation.numpy()
    p = problem.model(batch.observation).probs.detach().numpy()
    unit = np.eye(p.shape[-1])
    inner = unit - p[..., None, :]  # [..., A, K]
    seen = np.concatenate([x, np.ones((*x.shape[:-1], 1))], -1)
    each = np.einsum("...ak,...d->...adk", inner, seen)  # weights [D, K], and then the intercepts [K]
    return each.reshape(*each.shape[:-2], -1), p


def by_hand(problem: Reinforce, kl: float, damping: float) -> np.ndarray:
    """[R, P] √(2 kl / gᵀF⁻¹g) F⁻¹g, with F solved as a matrix."""
    batch = problem.sample(0)
    differentiate(problem.objective(batch), list(problem.model.parameters()))
    g = flatten(p.grad for p in problem.model.policy.parameters()).numpy()
    each, p = scores(problem, batch)
    share = batch.alive.numpy() / batch.alive.numpy().sum((1, 2), keepdims=True)
    information = np.einsum("rtb,rtba,rtbap,rtbaq->rpq", share, p, each, each)
    step = np.linalg.solve(information + damping * np.eye(g.shape[1]), g[:, :, None])[:, :, 0]
    return np.sqrt(2 * kl / (g * step).sum(1))[:, None] * step


def test_on_a_tabular_process_it_is_kakade_s(float64: None) -> None:
    made = [policy_problem("Ring", 3, 0.9, episodes=5) for _ in range(2)]
    expected = by_hand(made[0], 1e-3, 1e-2)
    found = moved(made[1], kl=1e-3, damping=1e-2, iterations=50, tolerance=1e-14)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
    assert np.abs(found).max() > 0.01


def test_replicas_move_as_they_would_alone() -> None:
    together = policy_problem("Ring", 3, 0.9, episodes=5, seed=7)
    found = moved(together, kl=1e-3)
    for replica in range(3):
        alone = policy_problem("Ring", 1, 0.9, episodes=5, seed=7 + replica)
        np.testing.assert_array_equal(moved(alone, kl=1e-3)[0], found[replica])


def test_the_wrong_way_is_the_opposite_step() -> None:
    steps = []
    for wrong in (False, True):
        problem = policy_problem("Ring", 2, 0.9, episodes=5)
        before = flatten(problem.model.parameters()).detach().clone()
        direction = problem.direction.opposite if wrong else problem.direction
        next(updates(problem, make_optimizer(problem, "NaturalGradient", direction=direction, kl=1e-6)))
        steps.append(flatten(problem.model.parameters()).detach() - before)
    torch.testing.assert_close(steps[0], -steps[1], rtol=1e-3, atol=1e-8)


class Stretched(nn.Module):
    """The policy of `inner`, whose weights are told in other units."""

    def __init__(self, replicas: int):
        super().__init__()
        mixing = np.random.default_rng(3).standard_normal((8, 8)) / 2 + np.eye(8)
        self.mixing = torch.tensor(mixing)
        wanted = torch.linspace(-0.6, 0.4, 6).tolist() + torch.linspace(-0.6, 0.4, 2).tolist()
        told = torch.linalg.solve(self.mixing, torch.tensor(wanted))
        self.told = nn.Parameter(told.expand(replicas, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        meant = self.told @ self.mixing.T
        weight, bias = meant[:, :6].reshape(-1, 3, 2), meant[:, 6:].reshape(-1, 2)
        product = x.flatten(1, -2) @ weight + bias[:, None]
        return product.reshape(*x.shape[:-1], 2)


@pytest.mark.parametrize("name", ["NaturalGradient", "SGD"])
def test_two_parametrizations_of_one_policy_move_alike(float64: None, name: str) -> None:
    arguments: dict[str, Any] = {"lr": 1e-3}
    if name == "NaturalGradient":
        arguments = {"kl": 1e-9, "damping": 0.0, "iterations": 100, "tolerance": 1e-13}
    changes = []
    for stretched in (False, True):
        problem = policy_problem("Ring", 2, 0.9, episodes=50)
        if stretched:
            problem = Reinforce(problem.settings, Stretched(2))
        batch = problem.sample(0)
        before = problem.model(batch.observation).logits.detach()
        next(updates(problem, make_optimizer(problem, name, **arguments)))
        changes.append((problem.model(batch.observation).logits.detach() - before)[batch.alive])
    same = torch.allclose(*changes, rtol=1e-3, atol=1e-3 * float(changes[0].abs().max()))
    assert same == (name == "NaturalGradient")
    assert changes[0].abs().max() > 0


@pytest.mark.parametrize("objective", ["log_likelihood", "negative_log_likelihood"])
@pytest.mark.parametrize("classes", [2, 3])
def test_for_a_logistic_classifier_it_is_newton_s_step(float64: None, objective: str, classes: int) -> None:
    dataset = synthetic(300, 3, classes, torch.float64)
    whole = {"name": "NaturalGradient", "kl": None, "damping": 0.0, "iterations": 100, "tolerance": 1e-12}
    newton = {"name": "Newton", "max_iter": 1, "tolerance": 0.0}
    found, expected = (fitted(dataset, 3, how, objective=objective, l2=0.01).model.linear for how in (whole, newton))
    assert float(expected.weight.abs().max()) > 0.1
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-8, atol=1e-8)
    level, wanted = (each.bias - each.bias[:, :, :1] * (classes > 2) for each in (found, expected))  # a softmax's has
    torch.testing.assert_close(level, wanted, rtol=1e-8, atol=1e-8)  # no meaning by itself


SPACES = [
    (spaces.Discrete(3), {}),
    (spaces.MultiDiscrete([2, 3]), {}),
    (spaces.MultiBinary(2), {}),
    (spaces.Box(-1, 1, (2,)), {}),
    (spaces.Box(-1, 1, (2,)), {"squash": True}),
    (spaces.Box(-1, 1, (2,)), {"deviation": "state_dependent"}),
]


def mean_log_ratio(p: Any, q: Any) -> Tensor:
    """KL(p ‖ q) of what the policies return, by torch's own distributions."""
    kl = torch.distributions.kl_divergence
    if hasattr(p, "each"):
        return sum(kl(torch.distributions.Categorical(logits=a.logits), torch.distributions.Categorical(logits=b.logits))
                   for a, b in zip(p.each, q.each, strict=True))  # type: ignore[return-value]  # fmt: skip
    if hasattr(p, "log_deviation"):
        a, b = (torch.distributions.Normal(each.mean, each.log_deviation.exp()) for each in (p, q))
        return kl(a, b).sum(-1)
    kind = torch.distributions.Bernoulli if hasattr(p, "base_dist") else torch.distributions.Categorical
    found = kl(kind(logits=p.logits), kind(logits=q.logits))
    return found.sum(-1) if kind is torch.distributions.Bernoulli else found


@pytest.mark.parametrize(("space", "how"), SPACES)
@pytest.mark.parametrize("kept", [True, False])
def test_the_information_is_the_hessian_of_the_divergence(
    float64: None, monkeypatch: pytest.MonkeyPatch, space: Any, how: dict[str, Any], kept: bool
) -> None:
    if not kept:
        monkeypatch.setattr("rlgrad.agents.fisher.KEPT", 0)
    monkeypatch.setattr("rlgrad.agents.fisher.STEPS", 64)
    rng = np.random.default_rng(0)
    count = outputs(space, how.get("deviation", "learned"))
    assert count
    policy = policy_for(space, MLP(3, count, [], streams(0, 2, Purpose.INITIAL), "tanh", 1.0), 2, **how)
    for parameter in policy.parameters():
        parameter.data += torch.from_numpy(rng.normal(size=parameter.shape) / 3)
    alive = torch.from_numpy(rng.random((2, 96, 2)) < 0.6)
    seen = torch.from_numpy(rng.normal(size=(2, 96, 2, 3))) * alive.unsqueeze(3)
    nothing = torch.zeros(2, 96, 2)
    batch = Rollout(seen, nothing, nothing, alive, alive, alive, alive, seen)
    information = Fisher(policy, batch, 1)
    parameters = dict(policy.named_parameters())
    played = policy(seen).detach()

    def divergence(point: Tensor) -> Tensor:
        given = dict(zip(parameters, unflatten(point, parameters.values()), strict=True))
        other = torch.func.functional_call(policy, given, (seen,))
        return (mean_log_ratio(played, other) * alive).sum((1, 2)) / alive.sum((1, 2))

    here = flatten(parameters.values()).detach()
    hessian = torch.autograd.functional.hessian(lambda point: divergence(point).sum(), here)
    v = rng.normal(size=here.shape)
    for k in range(2):
        np.testing.assert_allclose(information.times(v)[k], hessian[k, :, k].numpy() @ v[k], rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(Fisher(policy, batch, -1).times(v), -information.times(v))  # beside an ascent
    step = torch.from_numpy(v) * 0.1
    with torch.no_grad():
        for parameter, part in zip(parameters.values(), unflatten(step, parameters.values()), strict=True):
            parameter += part
    np.testing.assert_allclose(information.distance(step.numpy()), divergence(here + step).numpy(), rtol=1e-8)


LINE_SEARCH = {"name": "NaturalGradient", "kl": 0.05, "damping": 1e-3, "line_search": True}


def test_a_line_search_holds_the_divergence_and_improves_the_surrogate(float64: None) -> None:
    shortened = 0
    for kl in (1e-4, 0.05, 5.0):
        problem = policy_problem("Ring", 4, 0.9, episodes=20)
        optimizer = make_optimizer(problem, **LINE_SEARCH | {"kl": kl})
        for step in range(3):
            evaluation = Evaluation(
                problem, next(iter(problem.passes(problem.sample(step)))), [*problem.model.parameters()]
            )
            old = flatten(problem.model.parameters()).detach().clone()
            before = problem.model(evaluation.batch.played.observation).detach()
            optimizer.step(evaluation)
            alive = evaluation.batch.played.alive
            after = problem.model(evaluation.batch.played.observation)
            away = ((mean_log_ratio(before, after) * alive).sum((1, 2)) / alive.sum((1, 2))).detach()
            gained = problem.objective(evaluation.batch).surrogate
            still = (flatten(problem.model.parameters()).detach() == old).all(1)
            assert (away <= 1.5 * kl).all()
            assert gained is not None
            assert ((gained > 0) | still).all()
            assert not still.all()
            shortened += int((away < 0.3 * kl).sum())
    assert shortened  # the quadratic promises more than there is where the radius is large


def test_the_surrogate_is_the_function_whose_gradient_is_stated(float64: None) -> None:
    settings = {"episodes": 6, "entropy_bonus": {"coefficient": 0.3}, "standardise_advantages": True}
    problem = policy_problem("Ring", 2, 0.9, **settings)
    batch = next(iter(problem.passes(problem.sample(0))))
    first = problem.objective(batch)
    assert first.surrogate is not None
    assert (first.surrogate == 0).all()
    parameters = list(problem.model.parameters())
    rng = np.random.default_rng(1)
    for parameter in parameters:
        parameter.data += torch.from_numpy(rng.normal(size=parameter.shape)) * 0.1
    stated = problem.objective(batch).gradient
    assert stated is not None
    for parameter, gradient in zip(parameters, stated, strict=True):
        assert gradient is not None
        for place in itertools.product(*(range(n) for n in parameter.shape[1:])):
            ends = []
            for shift in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter[:, *place] += shift
                    ends.append(problem.objective(batch).surrogate)
                    parameter[:, *place] -= shift
            slope = (ends[0] - ends[1]) / 2e-5
            torch.testing.assert_close(slope, gradient[:, *place], rtol=1e-6, atol=1e-8)


AGENT = {
    "problem": "reinforce", "environment": "rlgrad/Ring-v0", "episodes": 4, "updates": 6, "replicas": 2,
    "baseline": "critic", "discount": 0.9, "discount_weighting": False,
    "critic": {"hidden": [8], "optimizer": {"name": "Adam", "lr": 0.01}, "epochs": 3, "minibatches": 2},
    "optimizer": {"name": "NaturalGradient", "kl": 0.01}, "evaluation": {"episodes": 2, "every_updates": 3},
}  # fmt: skip


def test_a_critic_of_its_own_learns_in_passes_of_its_own() -> None:
    alone, beside = (
        load_config(AGENT | changes).build() for changes in ({}, {"critic": AGENT["critic"] | {"epochs": 9}})
    )
    critic = [parameter.detach().clone() for parameter in alone.problem.model.critic.parameters()]
    update = next(updates(alone.problem, alone.optimizer))
    next(updates(beside.problem, beside.optimizer))
    for p, q in zip(alone.problem.model.policy.parameters(), beside.problem.model.policy.parameters(), strict=True):
        assert torch.equal(p, q)  # the critic's passes do not touch the policy
    assert len(update.passes) == 1 + 3 * 2
    whole, guesses = update.passes[0].batch, [each.batch for each in update.passes[1:]]
    target, alive = whole.first.weights.target, whole.played.alive
    for epoch in range(3):
        for replica in range(2):  # every step once
            parts = [each.target[replica][each.weight[replica] > 0] for each in guesses[2 * epoch : 2 * epoch + 2]]
            assert abs(len(parts[0]) - len(parts[1])) <= 1
            torch.testing.assert_close(torch.cat(parts).sort().values, target[replica][alive[replica]].sort().values)
    with torch.no_grad():
        for parameter, old in zip(alone.problem.model.critic.parameters(), critic, strict=True):
            assert (parameter != old).any()
            parameter.copy_(old)
        error = (alone.problem.model.critic(guesses[0].observation) - guesses[0].target).square() * guesses[0].weight
    torch.testing.assert_close(error.sum(1) / guesses[0].weight.sum(1) / 2, update.passes[1].value)


def test_such_a_run_is_continued_to_the_same_bits(tmp_path) -> None:
    from rlgrad.run.resuming import resume

    whole = train(AGENT, out=tmp_path / "whole")
    train(AGENT | {"updates": 3}, out=tmp_path / "half")
    resumed = resume(tmp_path / "half", extend_to=6)
    for a, b in zip(whole.problem.model.parameters(), resumed.problem.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"critic": {"epochs": 2}}, "critic.epochs: the critic then learns alone, and needs an optimizer of its own"),
        ({"critic": {"optimizer": {"name": "Adam"}, "learning_rate": 0.1}}, "critic.learning_rate: the critic's own"),
        ({"critic": {"optimizer": {"name": "Adem"}}}, "critic.optimizer.name: there is no optimizer 'Adem'"),
        (
            {"critic": {"optimizer": {"name": "Adam", "lr": "high"}}},
            "critic.optimizer.lr: input should be a valid number",
        ),
        ({"optimizer": {"name": "NaturalGradient", "kl": -1.0}}, "optimizer.kl: input should not be negative"),
        ({"optimizer": {"name": "NaturalGradient", "damping": ".nan"}}, "optimizer.damping"),
        (
            {"optimizer": {"name": "NaturalGradient", "iterations": 0}},
            "iterations must be a whole number of at least 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_config(AGENT | changes).build()


def test_more_minibatches_than_steps_are_refused_in_a_sentence(tmp_path) -> None:
    from rlgrad import RunError

    with pytest.raises(RunError, match=r"steps are too few for 500 minibatches: set fewer `minibatches`, or play more"):
        train(AGENT | {"critic": AGENT["critic"] | {"minibatches": 500}}, out=tmp_path / "run")  # type: ignore[operator]

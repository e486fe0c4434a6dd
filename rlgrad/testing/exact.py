"""Policies on the processes of `environments.mdp`: the exact gradient of their expected return, and estimates of it.

All replicas have the same policy, which is neither good nor bad, so that they give independent estimates of one
gradient.
"""

from typing import Any

import torch
from torch import Tensor

from rlgrad.config import load_config
from rlgrad.environments.mdp import MDPS, LinearQuadratic
from rlgrad.loop import differentiate
from rlgrad.optimizers.parts import of_one
from rlgrad.problems.reinforce import Reinforce
from rlgrad.replicas import flatten

PROBLEMS = ("Bandit", "TwoRooms", "Ring", "LinearQuadratic")


def policy_problem(name: str, replicas: int, discount: float, **settings: Any) -> Reinforce:
    """The problem `reinforce` on a small process, with the same linear policy in every replica."""
    config = {
        "problem": "reinforce", "environment": f"rlgrad/{name}-v0", "replicas": replicas, "discount": discount,
        "updates": 1, "policy": {"hidden": [], "initial_deviation": 0.5}, "optimizer": {"name": "SGD"},
    }  # fmt: skip
    problem: Reinforce = load_config(config | settings).build().problem
    with torch.no_grad():
        for parameter in problem.model.policy.network.parameters():
            count = parameter[0].numel()
            parameter.copy_(torch.linspace(-0.6, 0.4, count).reshape(parameter[0].shape))
    return problem


def exact_return(problem: Reinforce, name: str) -> tuple[float, Tensor]:
    """The expected return of the first replica's policy, and its gradient [P] by the parameters of the policy."""
    parameters = list(problem.model.policy.parameters())
    replicas, discount = problem.settings.replicas, of_one(problem.settings.discount, 0)
    if name == "LinearQuadratic":
        weight, bias = (parameter for key, parameter in problem.model.policy.network.named_parameters())
        deviation = problem.model.policy.log_deviation.flatten().exp()  # type: ignore[operator]
        value = LinearQuadratic().expected_return(weight.flatten(), bias.flatten(), deviation, discount)
    else:
        mdp = MDPS[name]
        observation = torch.tensor(mdp.observation, dtype=torch.get_default_dtype()).expand(replicas, -1, -1)
        value = mdp.expected_return(problem.model(observation).probs, discount)
    gradient = torch.autograd.grad(value.sum(), parameters)
    return float(value[0].detach()), torch.cat([g[0].flatten() for g in gradient]).double()


def estimates(problem: Reinforce, step: int = 0) -> tuple[Tensor, Tensor]:
    """Each replica's estimate of the return [R] and of its gradient [R, P], from the episodes of one update."""
    estimate = problem.objective(problem.sample(step))
    differentiate(estimate, list(problem.model.parameters()))
    found = [p.grad for p in problem.model.policy.parameters() if p.grad is not None]
    return estimate.value.detach().double(), flatten(found).double()

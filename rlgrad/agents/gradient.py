"""The policy gradient: Σ credit ∇log π + bonus ∇entropy + pull ∇value over the steps of a batch.

It is computed piece by piece (`advantages.pieces`): each piece is differentiated while its graph is still in the cache,
and no graph grows with the length of the episodes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlgrad import distributed, ranks
from rlgrad.agents.agent import Agent
from rlgrad.agents.baselines import optimal_constant
from rlgrad.agents.policies import ActionDistribution
from rlgrad.agents.rollouts import Rollout
from rlgrad.replicas import flatten


class PolicyGradient(NamedTuple):
    """A gradient, and what was computed for it."""

    gradient: list[Tensor]  # for each parameter of the policy, and with `pull` also of the critic
    log_prob: Tensor  # [R, T, B] of the actions taken
    entropy: Tensor  # [R, T, B]
    policy: list[ActionDistribution]  # the distributions over actions, piece by piece, detached; if they were wanted


class Terms(NamedTuple):
    """The weights [R, T, B] of the terms of a policy gradient.

    played: the log-probabilities [R, T, B] of the policy that played, if it is another one. Then credit is multiplied
    by π/π_played: Σ credit π/π_played ∇log π is the gradient of the surrogate Σ credit π/π_played (Schulman et al.
    2015, equation 14).
    """

    credit: Tensor  # of ∇log π
    bonus: Tensor | None = None  # of ∇entropy
    pull: Tensor | None = None  # of ∇value
    played: Tensor | None = None

    def of(self, slots: slice) -> "Terms":
        """Return those of some of the slots."""
        return Terms(*(None if x is None else x[:, :, slots] for x in self))  # type: ignore[arg-type]


def policy_gradient(agent: Agent, batch: Rollout, terms: Terms, keep: bool = False) -> PolicyGradient:
    """Return the policy gradient. keep: whether the distributions over actions are wanted. Each of the processes that
    train together computes a share of the slots, unless they are."""
    slots = batch.alive.shape[2]
    if shared := not keep and ranks.shared(slots):
        batch, terms = batch.of(ranks.share(slots)), terms.of(ranks.share(slots))
    credit, bonus, pull, played = terms
    parameters = list((agent if pull is not None else agent.policy).parameters())
    gradient = [torch.zeros_like(parameter) for parameter in parameters]
    log_probs, entropies, distributions = [], [], []
    for piece in batch.pieces():
        observation = batch.observation[:, piece]
        with torch.enable_grad():
            distribution = agent(observation)
            log_prob = distribution.log_prob(batch.action[:, piece])
            weight = credit[:, piece]
            if played is not None:
                weight = weight * (log_prob.detach() - played[:, piece]).exp()
            weighted = [(log_prob, weight)]
            if pull is not None and agent.critic:
                weighted.append((agent.critic(observation), pull[:, piece]))
        with torch.set_grad_enabled(bonus is not None):
            entropy = distribution.entropy()
        if bonus is not None:
            weighted.append((entropy, bonus[:, piece]))
        log_probs.append(log_prob.detach())
        entropies.append(entropy.detach())
        if keep:
            distributions.append(distribution.detach())
        with torch.enable_grad():  # one number: with weights, autograd would import sympy, which takes half a second
            total = torch.stack([(output * weight).sum() for output, weight in weighted]).sum()
        for whole, part in zip(gradient, torch.autograd.grad(total, parameters), strict=True):
            whole += part
    found = PolicyGradient(gradient, torch.cat(log_probs, 1), torch.cat(entropies, 1), distributions)
    return summed(found, slots) if shared else found


def summed(own: PolicyGradient, slots: int) -> PolicyGradient:
    """Return the sum over all processes that train together. own: the result for the slots of this process."""
    each = (distributed.placed(x, slots, 2) for x in (own.log_prob, own.entropy))
    *gradient, log_prob, entropy = distributed.summed(*own.gradient, *each)
    return PolicyGradient(gradient, log_prob, entropy, [])


def evaluate_actions(agent: Agent, batch: Rollout, keep: bool = False) -> PolicyGradient:
    """Return the policy's log-probabilities, entropies and, with `keep`, distributions; without a gradient."""
    slots = batch.alive.shape[2]
    if shared := not keep and ranks.shared(slots):
        batch = batch.of(ranks.share(slots))
    with torch.no_grad():
        each = [(agent(batch.observation[:, piece]), batch.action[:, piece]) for piece in batch.pieces()]
        log_prob = torch.cat([distribution.log_prob(action) for distribution, action in each], 1)
        entropy = torch.cat([distribution.entropy() for distribution, _ in each], 1)
    found = PolicyGradient([], log_prob, entropy, [distribution for distribution, _ in each] if keep else [])
    return summed(found, slots) if shared else found


def by_halves(agent: Agent, batch: Rollout, credit: Tensor) -> Iterator[Tensor]:
    """Yield the policy's gradient [R, P] from each half of the episodes."""
    episodes = batch.alive.shape[2]
    for part in (slice(0, episodes // 2), slice(episodes // 2, episodes)):
        share = episodes / len(range(episodes)[part])
        yield flatten(policy_gradient(agent, batch.of(part), Terms(credit[:, :, part] * share)).gradient)


def with_optimal_baseline(agent: Agent, batch: Rollout, weight: Tensor, returns: Tensor, each: bool) -> list[Tensor]:
    """Return the policy's gradient with the constant baseline that has the least variance.

    weight: [R, T, B] of each step. each: whether each parameter has its own constant, instead of one for all.
    """
    count = batch.alive.shape[2]
    episodes = [slice(number, number + 1) for number in range(count)][ranks.share(count)]

    def of_each(credit: Tensor) -> Sequence[Sequence[Tensor]]:
        """Return the gradient of each of the B episodes, for each parameter."""
        found = [policy_gradient(agent, batch.of(one), Terms(credit[:, :, one])).gradient for one in episodes]
        if ranks.here.size == 1:
            return found
        parts = (distributed.placed(torch.stack(of_all), count, 0) for of_all in zip(*found, strict=True))
        return list(zip(*(part.unbind() for part in distributed.summed(*parts)), strict=True))

    return optimal_constant(of_each(weight * returns), of_each(weight.expand_as(returns)), each)

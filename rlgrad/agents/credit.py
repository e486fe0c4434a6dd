"""The credit of actions: the return that each one is credited with, and how much that is above the baseline."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlgrad.agents.advantages import (
    batch_mean,
    generalized_advantage,
    leave_one_out,
    mean_and_variance,
    next_values,
    pieces,
    reward_to_go,
    standardise,
    standardise_each,
)
from rlgrad.agents.agent import Agent
from rlgrad.agents.critic import Critic
from rlgrad.agents.pictures import Frames
from rlgrad.agents.rollouts import Rollout, check_finite, masked
from rlgrad.agents.settings import CreditSettings

COARSE = 1e-5  # advantages below this fraction of the returns suffer from single precision, which rounds at 1e-7


class Credit(NamedTuple):
    """The credit of each action [R, T, B]."""

    target: Tensor  # the return that it is credited with; a critic learns to guess it
    advantage: Tensor  # target minus baseline


def credit(settings: CreditSettings, agent: Agent, batch: Rollout, value: Tensor | None) -> Credit:
    """Return the credit of each action. value: [R, T, B] the critic's values of the observations, if there is a critic.

    Advantages that will be standardised are in double precision. Advantages of a replica with very large returns, such
    as a bill or a portfolio's value, are computed in it: single precision would round away the differences.
    """
    single = credited(settings, agent, batch, value)
    if batch.exact_reward is None:
        return single
    size, spread = single.target.abs().amax((1, 2)), mean_and_variance(single.advantage, batch.alive)[1].sqrt()
    coarse = (spread <= COARSE * size).reshape(-1, 1, 1)
    if not (settings.standardise_advantages or coarse.any()):
        return single
    exact = credited(settings, agent, batch._replace(reward=batch.exact_reward), value).advantage
    if not settings.standardise_advantages:
        exact = torch.where(coarse, exact.to(single.advantage.dtype), single.advantage)
    return Credit(single.target, exact)


def credited(settings: CreditSettings, agent: Agent, batch: Rollout, value: Tensor | None) -> Credit:
    """Return the credit of each action, in the precision of the rewards."""
    if agent.critic and value is not None:
        return guessed(settings, agent.critic, batch, value)
    returns = reward_to_go(batch.reward, settings.discount)
    target = returns[:, :1].expand_as(returns) if settings.returns == "whole" else returns
    match settings.baseline:
        case "batch_mean":
            return Credit(target, target - batch_mean(target))
        case "leave_one_out":
            return Credit(target, target - leave_one_out(target))
    if agent.memory:
        return Credit(target, target - agent.memory().reshape(-1, 1, 1))
    if settings.baseline.startswith("optimal") and target.dtype == torch.float64:
        target = target - mean_and_variance(target, batch.alive)[0].reshape(-1, 1, 1)  # this changes no gradient
    return Credit(target, target)  # an optimal constant is found with the gradient


def guessed(settings: CreditSettings, critic: Critic, batch: Rollout, value: Tensor) -> Credit:
    """Return the credit with a critic: generalized advantages, and as targets the advantages plus the values."""
    with torch.no_grad():
        after = batch.after(values(critic, batch.last_observation))
    cut = ~batch.terminated if settings.time_limit == "bootstrap" else ~(batch.terminated | batch.truncated)
    check_last(batch, cut)
    following = next_values(value, batch.over, masked(after, cut))
    value, following, factors = value * batch.alive, following * batch.alive, (settings.discount, settings.gae_lambda)
    advantage = generalized_advantage(batch.reward, value, following, batch.over, *factors)
    return Credit(advantage + value, advantage)


def check_last(batch: Rollout, cut: Tensor) -> None:
    """Raises RunError if the critic has to guess from a last observation that is not finite. cut: [R, T, B] the steps
    after which it guesses, if they are the last. After any other end the observation may be anything."""
    seen = batch.last_observation.isfinite().flatten(2).all(2)  # [R, E]
    if seen.all():
        return
    odd = batch.over & cut & (batch.after(seen.to(batch.reward.dtype)) == 0)
    what = "the critic has to estimate the return after a step, but the environment returned an observation after it"
    check_finite(what, torch.where(odd, torch.nan, 0.0))


def standardised(settings: CreditSettings, advantage: Tensor, alive: Tensor, target: Tensor) -> Tensor:
    """The advantages [R, T, B], with mean 0 and deviation 1 if the settings say so."""
    if not settings.standardise_advantages:
        return advantage
    size = target.abs().amax((1, 2))
    each = settings.standardise_advantages == "per_episode"
    found = standardise_each(advantage, alive, size) if each else standardise(advantage, alive, size)
    return found.to(target.dtype)


def values(critic: Critic, observation: Tensor | Frames) -> Tensor:
    """The critic's values of observations [R, T, ..., *O], computed piece by piece: [R, T, ...]."""
    return torch.cat([critic(observation[:, piece]) for piece in pieces(observation.shape[1])], 1)

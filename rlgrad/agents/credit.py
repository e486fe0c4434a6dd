"""Who gets credit: what each action earned, and how much that is more than was to be expected."""

from typing import NamedTuple

import torch
from torch import Tensor

from rlgrad.agents.advantages import (
    batch_mean,
    generalized_advantage,
    leave_one_out,
    next_values,
    pieces,
    reward_to_go,
    standardise,
    standardise_each,
)
from rlgrad.agents.agent import Agent
from rlgrad.agents.critic import Critic
from rlgrad.agents.rollouts import Rollout
from rlgrad.agents.settings import CreditSettings


class Credit(NamedTuple):
    """Of each action [R, T, B]."""

    target: Tensor  # what it is credited with, and what a critic learns to guess
    advantage: Tensor  # how much that is more than the baseline


def credit(settings: CreditSettings, agent: Agent, batch: Rollout, value: Tensor | None) -> Credit:
    """value: [R, T, B] the critic's of the observations, if there is one."""
    if agent.critic and value is not None:
        return guessed(settings, agent.critic, batch, value)
    returns = reward_to_go(batch.reward, settings.discount)
    credited = returns[:, :1].expand_as(returns) if settings.returns == "whole" else returns
    match settings.baseline:
        case "batch_mean":
            return Credit(credited, credited - batch_mean(credited))
        case "leave_one_out":
            return Credit(credited, credited - leave_one_out(credited))
    if agent.memory:
        return Credit(credited, credited - agent.memory().reshape(-1, 1, 1))
    return Credit(credited, credited)  # an optimal constant is found with the gradient


def guessed(settings: CreditSettings, critic: Critic, batch: Rollout, value: Tensor) -> Credit:
    """With a critic: generalized advantages, and what they add up to."""
    with torch.no_grad():
        after = batch.after(values(critic, batch.last_observation))
    cut = ~batch.terminated if settings.time_limit == "bootstrap" else ~(batch.terminated | batch.truncated)
    following = next_values(value, batch.over, after * cut)
    reward, value = batch.reward, value * batch.alive
    advantage = generalized_advantage(
        reward, value, following * batch.alive, batch.over, settings.discount, settings.gae_lambda
    )
    return Credit(advantage + value, advantage)


def standardised(settings: CreditSettings, advantage: Tensor, alive: Tensor, target: Tensor) -> Tensor:
    """The advantages [R, T, B], with mean 0 and deviation 1 where the settings say so."""
    if not settings.standardise_advantages:
        return advantage
    size = target.abs().amax((1, 2))
    each = settings.standardise_advantages == "per_episode"
    return standardise_each(advantage, alive, size) if each else standardise(advantage, alive, size)


def values(critic: Critic, observation: Tensor) -> Tensor:
    """The critic's of observations [R, T, ..., *O], piece by piece: [R, T, ...]."""
    return torch.cat([critic(observation[:, piece]) for piece in pieces(observation.shape[1])], 1)

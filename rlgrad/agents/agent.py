"""The agent: a policy, with its critic, baseline and statistics."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgrad.agents.baselines import RunningMean
from rlgrad.agents.critic import Critic
from rlgrad.agents.masked import Masked
from rlgrad.agents.normalisers import Normaliser, ReturnUnit
from rlgrad.agents.pictures import Sight
from rlgrad.agents.policies import Policy, bounded, free, outputs, policy_for
from rlgrad.agents.settings import CreditSettings
from rlgrad.environments.spaces import Picture, apart, pictures, visible_space
from rlgrad.errors import SettingError, blame
from rlgrad.networks import MLP, AnyMLP


class Agent(nn.Module):
    """The trained state of a run: policy, critic and statistics. Calling it calls the policy: observation ->
    distribution over actions."""

    def __init__(self, policy: Policy, critic: Critic | None, memory: RunningMean | None, unit: ReturnUnit | None):
        super().__init__()
        self.policy, self.critic, self.memory, self.unit = policy, critic, memory, unit
        self.moments: nn.Module | None = None  # running moments of an environment that normalises

    def forward(self, observation: Tensor) -> Any:
        return self.policy(observation)


def make_agent(
    settings: CreditSettings,
    observation: spaces.Space[Any],
    action: spaces.Space[Any],
    streams: Sequence[np.random.Generator],
    given: nn.Module | None = None,
) -> Agent:
    """Return the agent for an environment's spaces; its initial parameters come from the replicas' streams.

    given: the policy's network, instead of the one that the settings describe.

    Raises SettingError if no policy can read the observations or give the actions.
    """
    policy, replicas = settings.policy, settings.replicas
    wanted = outputs(action, policy.deviation)
    if wanted is None:
        message = f"no policy supports the actions of {settings.environment}, {action}: they must be Discrete, "
        message += "MultiDiscrete, MultiBinary, or a Box of real numbers that are not all fixed"
        raise SettingError(("environment",), message)
    if policy.squash and isinstance(action, spaces.Box) and not bounded(action)[free(action)].all():
        message = f"a tanh needs two bounds, and not all actions of {settings.environment} have them: set false"
        raise SettingError(("policy", "squash"), message)
    seen, shown = visible(settings, apart(observation, settings.mask)[0])

    def masked(network: nn.Module, forbids: bool) -> nn.Module:
        return Masked(network, seen.shape or (), wanted, forbids) if settings.mask else network

    if given is None:
        net = network(settings, "policy", seen, shown, wanted, policy.initial_gain, streams)
    else:
        net = checked(settings, ("given", "policy"), given, seen.shape or (), wanted)
    form = policy.deviation, policy.initial_deviation, policy.squash
    made = policy_for(action, masked(net, True), replicas, *form)
    made.pictures = shown
    critic = None

    def unit() -> ReturnUnit | None:
        return ReturnUnit(replicas) if settings.normalise_returns else None

    if settings.baseline == "critic":
        guess = network(settings, "critic", seen, shown, 1, 1.0, streams)
        own = settings.critic.optimizer
        optimizer = (own.name, own.arguments) if own else None
        critic = Critic(masked(guess, False), unit(), settings.reward_scale, settings.critic.learning_rate, optimizer)
    memory = RunningMean(replicas) if settings.baseline == "running_mean" else None
    return Agent(made, critic, memory, unit())


def visible(settings: CreditSettings, observation: spaces.Space[Any]) -> tuple[spaces.Space[Any], list[Picture]]:
    """Return the space of observations as the networks see it, and the pictures in it. Raises SettingError."""
    id = settings.environment
    try:
        seen, shown = visible_space(observation), pictures(observation, settings.pictures)
    except TypeError as error:
        raise SettingError(("environment",), f"no policy can read the observations of {id}: {error}") from error
    if settings.pictures.startswith("channels") and not shown:
        message = f"no part of the observations of {id}, {observation}, is a picture of this form: use auto or none"
        raise SettingError(("pictures",), " ".join(message.split()))
    if settings.normalise_observations and shown:
        message = f"{id} shows pictures, which are scaled by the bounds of their space: leave it out"
        raise SettingError(("normalise_observations",), message)
    return seen, shown


def network(
    settings: CreditSettings,
    part: Literal["policy", "critic"],
    seen: spaces.Space[Any],
    shown: Sequence[Picture],
    outputs: int,
    gain: float | Tensor,
    streams: Sequence[np.random.Generator],
) -> nn.Module:
    """Return a network from observations to numbers [R, ..., outputs]. gain: scale of the last layer's weights."""
    described = settings.policy if part == "policy" else settings.critic
    layers: list[nn.Module] = []
    size = seen.shape[0]  # type: ignore[index]
    if shown or len(seen.shape or ()) > 1:
        layers.append(sight := Sight(seen, shown, streams, described.filters))
        size = sight.features
    if settings.normalise_observations:
        layers.append(Normaliser(settings.replicas, size))
    if part == "policy" and settings.policy.network:
        path = ("policy", "network")
        own = settings.made(path, settings.policy.network, size, outputs, streams)
        return nn.Sequential(*layers, checked(settings, path, own, (size,), outputs))
    if ":" in described.activation:
        function = settings.named((part, "activation"), described.activation)
        made = AnyMLP(function, size, outputs, described.hidden, streams, output_gain=gain)
        return nn.Sequential(*layers, checked(settings, (part, "activation"), made, (size,), outputs))
    known: Any = described.activation
    return nn.Sequential(*layers, MLP(size, outputs, described.hidden, streams, known, gain))


def checked(
    settings: CreditSettings, path: tuple[str, ...], network: Any, seen: Sequence[int], outputs: int
) -> nn.Module:
    """Return a network of the user's own if it fits; otherwise raises SettingError for the setting at this path."""
    replicas = settings.replicas
    if not isinstance(network, nn.Module):
        raise SettingError(path, f"it must be a torch.nn.Module, not {type(network).__name__}")
    for name, parameter in network.named_parameters():
        if parameter.shape[:1] != (replicas,):
            message = f"its parameter {name} has the shape {list(parameter.shape)}, and must be [{replicas}, ...]: the "
            raise SettingError(path, message + "replicas are the first axis, as in rlgrad.networks.MLP")
    try:
        result = network.to(torch.get_default_device())(torch.ones(replicas, 1, *seen))
        found, mixed = list(result.shape), mixes(result, list(network.parameters()))
        unsteady = depends(network, torch.linspace(-1, 1, replicas * 3 * math.prod(seen)).reshape(replicas, 3, *seen))
    except Exception as error:  # it may raise anything
        raise SettingError(path, f"it fails on inputs {[replicas, 1, *seen]}: {blame(error)}") from error
    if found != (wanted := [replicas, 1, outputs]):
        raise SettingError(path, f"it must map {[replicas, 1, *seen]} to {wanted}, and gives {found}")
    if unsteady:
        raise SettingError(path, unsteady)
    if not result.requires_grad and any(parameter.requires_grad for parameter in network.parameters()):
        raise SettingError(path, "its outputs depend on no parameter that learns")
    if mixed:
        raise SettingError(path, "one replica's outputs depend on another's parameters: see rlgrad.networks.Linear")
    return network


@torch.no_grad()
def depends(network: nn.Module, x: torch.Tensor) -> str | None:
    """Return what the outputs for inputs x [R, 3, ...] depend on besides each input, in a sentence, or None."""
    whole, again = network(x), network(x)
    alone = torch.cat([network(x[:, k : k + 1]) for k in range(x.shape[1])], 1)
    if not torch.equal(whole, again):
        return "its outputs for the same inputs differ: they depend on chance or earlier calls, so no run would repeat"
    if not torch.allclose(whole, alone, rtol=1e-3, atol=1e-4):
        return "its outputs for an observation depend on the others beside it"
    return None


def mixes(result: torch.Tensor, parameters: Sequence[nn.Parameter]) -> bool:
    """Return whether the first replica's result [R, ...] depends on parameters [R, ...] of the others."""
    if not result.requires_grad:
        return False
    gradient = torch.autograd.grad(result[0].sum(), parameters, allow_unused=True)
    return any(g is not None and bool(g[1:].any()) for g in gradient)

"""What learns: a policy, and what it is judged by."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor, nn

from rlgrad.agents.baselines import RunningMean
from rlgrad.agents.critic import Critic
from rlgrad.agents.normalisers import Normaliser, ReturnUnit
from rlgrad.agents.policies import Policy, outputs, policy_for
from rlgrad.agents.settings import CreditSettings
from rlgrad.environments.spaces import flat, is_image
from rlgrad.errors import SettingError
from rlgrad.networks import MLP, AnyMLP, Convolutions


class Agent(nn.Module):
    """All that a run learns or remembers. It answers as its policy does: observation -> distribution over actions."""

    def __init__(self, policy: Policy, critic: Critic | None, memory: RunningMean | None, unit: ReturnUnit | None):
        super().__init__()
        self.policy, self.critic, self.memory, self.unit = policy, critic, memory, unit

    def forward(self, observation: Tensor) -> Any:
        return self.policy(observation)


def make_agent(
    settings: CreditSettings,
    observation: spaces.Space[Any],
    action: spaces.Space[Any],
    streams: Sequence[np.random.Generator],
    given: nn.Module | None = None,
) -> Agent:
    """The agent for an environment's spaces; its initial parameters come from the replicas' streams.

    given: the policy's network, instead of one that the settings describe.

    Raises SettingError where the spaces cannot be served.
    """
    policy, id = settings.policy, settings.environment
    try:
        seen = flat(observation)
    except TypeError as error:
        raise SettingError(("environment",), f"no policy can read the observations of {id}: {error}") from error
    wanted = outputs(action, policy.deviation)
    if wanted is None:
        message = f"no policy can give the actions that {id} wants, {action}: it must be Discrete, MultiDiscrete, "
        raise SettingError(("environment",), message + "MultiBinary, or a Box of real numbers")
    if settings.normalise_observations and is_image(seen):
        raise SettingError(("normalise_observations",), f"{id} shows images, which need none")

    def network(
        part: str, outputs: int, hidden: Sequence[int], activation: str, gain: float, own: Any = None
    ) -> nn.Module:
        layers: list[nn.Module] = []
        size = seen.shape[0]  # type: ignore[index]
        if is_image(seen):
            layers.append(convolutions := Convolutions(seen.shape, streams))  # type: ignore[arg-type]
            size = convolutions.features
        if settings.normalise_observations:
            layers.append(Normaliser(settings.replicas, size))
        if own:
            return nn.Sequential(*layers, own(size, outputs, streams))
        if ":" in activation:
            function = settings.named((part, "activation"), activation)
            return nn.Sequential(*layers, AnyMLP(size, outputs, hidden, streams, function, gain))
        return nn.Sequential(*layers, MLP(size, outputs, hidden, streams, activation, gain))  # type: ignore[arg-type]

    own = settings.named(("policy", "network"), policy.network) if policy.network else None
    net = given or network("policy", wanted, policy.hidden, policy.activation, policy.initial_gain, own)
    made = policy_for(action, net, settings.replicas, policy.deviation, policy.initial_deviation, squash=policy.squash)
    critic, memory = None, None

    def unit() -> ReturnUnit | None:
        return ReturnUnit(settings.replicas) if settings.normalise_returns else None

    if settings.baseline == "critic":
        described = settings.critic
        critic = Critic(
            network("critic", 1, described.hidden, described.activation, 1.0), unit(), described.learning_rate
        )
    if settings.baseline == "running_mean":
        memory = RunningMean(settings.replicas)
    return Agent(made, critic, memory, unit())

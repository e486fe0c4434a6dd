"""What learns: a policy, and what it is judged by."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from rlgrad.agents.baselines import RunningMean
from rlgrad.agents.critic import Critic
from rlgrad.agents.normalisers import Normaliser, ReturnUnit
from rlgrad.agents.policies import Deviation, Policy, outputs, policy_for
from rlgrad.environments.spaces import flat, is_image
from rlgrad.errors import SettingError
from rlgrad.networks import MLP, Activation, Convolutions
from rlgrad.settings import RunSettings
from rlgrad.settings import Settings as Group


class PolicySettings(Group):
    """The network that gives the probabilities of the actions."""

    hidden: tuple[PositiveInt, ...] = (32,)
    """widths of the hidden layers; []: a linear policy"""
    activation: Activation = "tanh"
    """of the hidden layers"""
    initial_gain: PositiveFloat = 0.01
    """size of the last layer's initial weights: where it is small, the first policy is almost uniform"""
    deviation: Deviation = "learned"
    """of continuous actions. learned: a number for each element, the same everywhere; state_dependent: the network's"""
    initial_deviation: PositiveFloat = 1.0
    """of continuous actions, where 1 is half the width of their box"""
    squash: bool = False
    """whether continuous actions are brought into their box by a tanh, instead of being clipped"""


class CriticSettings(Group):
    """The network that guesses returns."""

    hidden: tuple[PositiveInt, ...] = (32,)
    """widths of the hidden layers"""
    activation: Activation = "tanh"
    """of the hidden layers"""
    learning_rate: PositiveFloat | None = None
    """its own; null: that of the policy"""


Baseline = Literal[
    "none", "batch_mean", "leave_one_out", "running_mean", "optimal_constant", "optimal_per_parameter", "critic"
]


class AgentSettings(RunSettings):
    """The settings that describe the agent."""

    environment: str
    """any registered Gymnasium id, such as CartPole-v1"""
    environment_options: dict[str, Any] = {}
    """keyword arguments of the environment"""
    baseline: Baseline = "leave_one_out"
    """subtracted from the returns. batch_mean, leave_one_out: the mean of all, or of the other, episodes of the update
    at the same step; running_mean: of earlier updates; optimal_constant, optimal_per_parameter: the number that leaves
    the least variance (two further backward passes an episode); critic: a learned value of the state"""
    critic: CriticSettings = CriticSettings()
    """of the baseline `critic`, and of no other"""
    policy: PolicySettings = PolicySettings()
    normalise_returns: bool = False
    """advantages, and what a critic guesses, in units of the deviation of the returns of earlier updates; it makes the
    size of the rewards irrelevant, and leaves the direction of the gradient as it is"""
    normalise_observations: bool = False
    """mean 0 and deviation 1 in every feature, by what each replica has seen in earlier updates"""


class Agent(nn.Module):
    """All that a run learns or remembers. It answers as its policy does: observation -> distribution over actions."""

    def __init__(self, policy: Policy, critic: Critic | None, memory: RunningMean | None, unit: ReturnUnit | None):
        super().__init__()
        self.policy, self.critic, self.memory, self.unit = policy, critic, memory, unit

    def forward(self, observation: Tensor) -> Any:
        return self.policy(observation)


def make_agent(
    settings: AgentSettings,
    observation: spaces.Space[Any],
    action: spaces.Space[Any],
    streams: Sequence[np.random.Generator],
) -> Agent:
    """The agent for an environment's spaces; its initial parameters come from the replicas' streams.

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

    def network(outputs: int, hidden: Sequence[int], activation: Activation, gain: float) -> nn.Module:
        layers: list[nn.Module] = []
        size = seen.shape[0]  # type: ignore[index]
        if is_image(seen):
            layers.append(convolutions := Convolutions(seen.shape, streams))  # type: ignore[arg-type]
            size = convolutions.features
        if settings.normalise_observations:
            layers.append(Normaliser(settings.replicas, size))
        return nn.Sequential(*layers, MLP(size, outputs, hidden, streams, activation, gain))

    net = network(wanted, policy.hidden, policy.activation, policy.initial_gain)
    made = policy_for(action, net, settings.replicas, policy.deviation, policy.initial_deviation, squash=policy.squash)
    critic, memory = None, None

    def unit() -> ReturnUnit | None:
        return ReturnUnit(settings.replicas) if settings.normalise_returns else None

    if settings.baseline == "critic":
        described = settings.critic
        critic = Critic(network(1, described.hidden, described.activation, 1.0), unit(), described.learning_rate)
    if settings.baseline == "running_mean":
        memory = RunningMean(settings.replicas)
    return Agent(made, critic, memory, unit())

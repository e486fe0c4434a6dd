"""REINFORCE: climb the expected return of a policy (Williams 1992, https://doi.org/10.1007/BF00992696).

    ∇J(θ) = E[ Σₜ ∇log π(aₜ|sₜ) · (Gₜ − bₜ) ]

Gₜ is the reward-to-go from step t, bₜ a baseline that depends on no action of the same episode. The expectation is
estimated by the mean over B whole episodes, played with the parameters as they are. Nothing is negated: the return is
to be maximized, and `Direction.MAXIMIZE` says so.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from gymnasium import spaces
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from rlgrad.advantages import discount_factors, leave_one_out, reward_to_go
from rlgrad.environments import describe, make
from rlgrad.loop import Direction, Estimate
from rlgrad.models import MLP, Activation, CategoricalPolicy
from rlgrad.rollouts import Episodes, play
from rlgrad.settings import Evaluation, RunSettings, SettingError
from rlgrad.settings import Settings as Group
from rlgrad.streams import Purpose, streams


class Policy(Group):
    """The network that gives the probabilities of the actions."""

    hidden: tuple[PositiveInt, ...] = (32,)
    """widths of the hidden layers; []: a linear policy"""
    activation: Activation = "tanh"
    """of the hidden layers"""
    initial_gain: PositiveFloat = 0.01
    """size of the last layer's initial weights: where it is small, the first policy is almost uniform"""


class HeldOutEpisodes(Evaluation):
    """How often, and on how many new episodes, the greedy policy is evaluated."""

    episodes: PositiveInt = 100
    """episodes of each evaluation, each with an initial state that training never sees"""


class Settings(RunSettings):
    """A policy that learns to act in a Gymnasium environment."""

    problem: Literal["reinforce"] = "reinforce"
    environment: str
    """any registered Gymnasium id, such as CartPole-v1"""
    environment_options: dict[str, Any] = {}
    """keyword arguments of the environment"""
    simulator: Literal["auto", "gymnasium"] = "auto"
    """auto: our vectorized form of the environment where there is one; gymnasium: always Gymnasium's"""
    episodes: PositiveInt = 32
    """whole episodes that each replica plays for one update"""
    episode_limit: PositiveInt = 100_000
    """steps after which the run fails, as the episode seems to have no end"""
    discount: Annotated[float, Field(gt=0, le=1)] = 1.0
    """gamma: a reward t steps ahead counts gamma^t"""
    discount_weighting: bool = True
    """weight step t by gamma^t, as the gradient of the discounted return asks (most codes do not, and are biased)"""
    baseline: Literal["none", "leave_one_out"] = "leave_one_out"
    """subtracted from the reward-to-go: nothing, or the mean of the other episodes' at the same step"""
    policy: Policy = Policy()
    evaluation: HeldOutEpisodes = HeldOutEpisodes()

    def build(self) -> "Reinforce":
        return Reinforce(self)


class Reinforce:
    """Whole episodes, reward-to-go and a baseline: the gradient of the expected return, estimated without bias."""

    direction = Direction.MAXIMIZE
    work = "episode/env_steps"  # the metric that counts what was played

    def __init__(self, settings: Settings):
        if settings.baseline == "leave_one_out" and settings.episodes < 2:
            message = "a leave-one-out baseline needs at least two episodes an update; set 2 or more, or baseline: none"
            raise SettingError(("episodes",), message)
        self.settings = settings
        environment = describe(settings.environment, settings.environment_options)
        inputs, actions = sizes(settings.environment, environment.observation_space, environment.action_space)
        threshold = environment.spec.reward_threshold if environment.spec else None
        self.solved: tuple[str, float] | None = None if threshold is None else ("return", threshold)
        environment.close()
        policy, drawn = settings.policy, self._streams(Purpose.INITIAL)
        network = MLP(inputs, actions, policy.hidden, drawn, policy.activation, policy.initial_gain)
        self.model = CategoricalPolicy(network, actions)
        self._environments: dict[int, Any] = {}  # by the number of episodes

    def sample(self, step: int) -> Episodes:
        """B whole episodes for each replica, drawn with the policy as it is."""
        return self._play(Purpose.SAMPLE, step, self.settings.episodes)

    def objective(self, batch: Episodes) -> Estimate:
        """The mean return [R], discounted if the settings say so, with the REINFORCE estimate as its gradient."""
        steps, discount = batch.reward.shape[1], self.settings.discount
        returns = reward_to_go(batch.reward, discount)
        advantage = returns - leave_one_out(returns) if self.settings.baseline == "leave_one_out" else returns
        if self.settings.discount_weighting:
            advantage = advantage * discount_factors(steps, discount)
        weight = advantage * batch.alive / batch.reward.shape[2]
        surrogate, entropy = torch.zeros(len(returns)), torch.zeros(len(returns))
        for piece in batch.pieces():
            distribution = self.model(batch.observation[:, piece])
            log_prob = distribution.log_prob(batch.action[:, piece])
            surrogate = surrogate + (log_prob * weight[:, piece]).sum((1, 2))
            with torch.no_grad():
                entropy += (distribution.entropy() * batch.alive[:, piece]).sum((1, 2))
        length = batch.length.to(returns.dtype)
        metrics = {
            "episode/return": batch.reward.sum(1).mean(1),
            "episode/length": length.mean(1),
            "episode/env_steps": length.sum(1),
            "policy/entropy": entropy / length.sum(1),
        }
        return Estimate(with_gradient_of(returns[:, 0].mean(1), surrogate), metrics)

    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        """Undiscounted return and length [R] of the greedy policy, over new episodes."""
        played = self._play(Purpose.EVALUATE, step, self.settings.evaluation.episodes, greedy=True)
        dtype = played.reward.dtype
        return {"return": played.reward.sum(1).mean(1), "length": played.length.to(dtype).mean(1)}

    def _streams(self, purpose: Purpose, step: int = 0) -> list[Any]:
        return streams(self.settings.seed, self.settings.replicas, purpose, step)

    def _play(self, purpose: Purpose, step: int, episodes: int, greedy: bool = False) -> Episodes:
        if episodes not in self._environments:
            self._environments[episodes] = make(
                self.settings.environment,
                self.settings.replicas,
                episodes,
                options=self.settings.environment_options,
                ours=self.settings.simulator == "auto",
            )
        environments, drawn = self._environments[episodes], self._streams(purpose, step)
        return play(self.model, environments, drawn, episodes, greedy=greedy, limit=self.settings.episode_limit)


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """A tensor with the value of the one and the gradient of the other.

    A score-function estimate is the gradient of a surrogate whose own value means nothing; so that the number logged
    is the objective, only the surrogate's gradient is kept (cf. Foerster et al. 2018, https://arxiv.org/abs/1802.05098).
    """
    return value + surrogate - surrogate.detach()


def sizes(id: str, observation: spaces.Space[Any], action: spaces.Space[Any]) -> tuple[int, int]:
    """How many numbers the policy sees, and between how many actions it chooses. Raises SettingError."""
    if not isinstance(observation, spaces.Box) or len(observation.shape) != 1:
        message = f"the policy reads vectors (a Box with one axis), but {id} shows {observation}"
        raise SettingError(("environment",), message)
    if not isinstance(action, spaces.Discrete) or action.start != 0:
        message = f"the policy chooses between actions 0 to n-1 (Discrete), but {id} wants {action}"
        raise SettingError(("environment",), message)
    return observation.shape[0], int(action.n)

"""Policy gradients: climb the expected return of a policy (Williams 1992, https://doi.org/10.1007/BF00992696).

    ∇J(θ) = E[ Σₜ γᵗ ∇log π(aₜ|sₜ) · (Gₜ − bₜ) ]

Gₜ is the reward-to-go from step t, bₜ a baseline that depends on no action of the same episode. The expectation is
estimated by the mean over B whole episodes, played with the parameters as they are. Nothing is negated: the return is
to be maximized, and `Direction.MAXIMIZE` says so. A critic, where there is one, is a part of the same model; it goes
down its own error in the same backward pass.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from gymnasium import spaces
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from rlgrad.advantages import (
    batch_mean,
    discount_factors,
    generalized_advantage,
    leave_one_out,
    moments,
    next_values,
    reward_to_go,
    standardise,
    total,
)
from rlgrad.baselines import RunningMean, optimal_constant
from rlgrad.environments import describe, make
from rlgrad.environments.spaces import flat, is_image
from rlgrad.loop import Direction, Estimate
from rlgrad.models import MLP, Activation, Convolutions, Critic, Normaliser, ReturnUnit
from rlgrad.policies import Deviation, Policy, outputs, policy_for
from rlgrad.rollouts import Episodes, play
from rlgrad.settings import Evaluation, RunSettings, SettingError
from rlgrad.settings import Settings as Group
from rlgrad.streams import Purpose, streams

Fraction = Annotated[float, Field(ge=0, le=1)]


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


class EntropyBonus(Group):
    """A reward for being undecided: the policy's mean entropy, times a coefficient, is added to the objective."""

    coefficient: NonNegativeFloat
    """reward per nat at the first update"""
    final: NonNegativeFloat | None = None
    """the coefficient at the last update, with a straight line between the two; null: it stays the same"""


class HeldOutEpisodes(Evaluation):
    """How often, and on how many new episodes, the greedy policy is evaluated."""

    episodes: PositiveInt = 100
    """episodes of each evaluation, each with an initial state that training never sees"""


Baseline = Literal[
    "none", "batch_mean", "leave_one_out", "running_mean", "optimal_constant", "optimal_per_parameter", "critic"
]


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
    returns: Literal["reward_to_go", "whole"] = "reward_to_go"
    """what an action is credited with: the rewards that come after it, or those of the whole episode (more noise)"""
    time_limit: Literal["end", "bootstrap"] = "end"
    """end: what a time limit cuts off does not count. bootstrap: the critic guesses it, as if the episode went on"""
    baseline: Baseline = "leave_one_out"
    """subtracted from the returns. batch_mean, leave_one_out: the mean of all, or of the other, episodes of the update
    at the same step; running_mean: of earlier updates; optimal_constant, optimal_per_parameter: the number that leaves
    the least variance (two further backward passes an episode); critic: a learned value of the state"""
    critic: CriticSettings = CriticSettings()
    """of the baseline `critic`, and of no other"""
    gae_lambda: Fraction = 1.0
    """with a critic: how far ahead rewards count before its guess replaces them; 1: to the end, which has no bias"""
    standardise_advantages: bool = False
    """mean 0 and deviation 1 in every batch; it biases the gradient, and makes the size of the rewards irrelevant"""
    entropy_bonus: EntropyBonus | None = None
    normalise_returns: bool = False
    """advantages, and what a critic guesses, in units of the deviation of the returns of earlier updates; it makes the
    size of the rewards irrelevant, and leaves the direction of the gradient as it is"""
    normalise_observations: bool = False
    """mean 0 and deviation 1 in every feature, by what each replica has seen in earlier updates"""
    policy: PolicySettings = PolicySettings()
    evaluation: HeldOutEpisodes = HeldOutEpisodes()

    def build(self) -> "Reinforce":
        return Reinforce(self)


class Agent(nn.Module):
    """All that a run learns or remembers. It answers as its policy does: observation -> distribution over actions."""

    def __init__(self, policy: Policy, critic: Critic | None, memory: RunningMean | None, unit: ReturnUnit | None):
        super().__init__()
        self.policy, self.critic, self.memory, self.unit = policy, critic, memory, unit

    def forward(self, observation: Tensor) -> Any:
        return self.policy(observation)


class Reinforce:
    """Whole episodes and a baseline: the gradient of the expected return, estimated without bias unless asked for."""

    direction = Direction.MAXIMIZE
    work = "episode/env_steps"  # the metric that counts what was played

    def __init__(self, settings: Settings):
        check(settings)
        self.settings = settings
        environment = describe(settings.environment, settings.environment_options)
        threshold = environment.spec.reward_threshold if environment.spec else None
        self.solved: tuple[str, float] | None = None if threshold is None else ("return", threshold)
        self.model = self._agent(environment.observation_space, environment.action_space)
        environment.close()
        self._environments: dict[int, Any] = {}  # by the number of episodes

    def sample(self, step: int) -> Episodes:
        """B whole episodes for each replica, drawn with the policy as it is."""
        for module in self.model.modules():
            if isinstance(module, Normaliser | RunningMean):
                module.advance()  # what earlier updates have seen counts from here on
        played = self._play(Purpose.SAMPLE, step, self.settings.episodes)._replace(step=step)
        returns = reward_to_go(played.reward, self.settings.discount)
        for module in self.model.modules():
            if isinstance(module, RunningMean):
                module.observe(returns[:, 0])
            elif isinstance(module, ReturnUnit):
                module.observe(returns.unsqueeze(3), played.alive)
            elif isinstance(module, Normaliser):
                module.observe(played.observation, played.alive)
        return played

    def objective(self, batch: Episodes) -> Estimate:
        """The mean return [R], discounted if the settings say so, with the policy gradient as its gradient."""
        settings, alive = self.settings, batch.alive
        returns = reward_to_go(batch.reward, settings.discount)
        value = self._values(batch) if self.model.critic else None
        guess = torch.zeros(()) if value is None else value.detach()
        target, advantage = self._targets(batch, returns, guess)
        weight = discount_factors(alive.shape[1], settings.discount) if self._weighted else torch.ones(())
        share = alive / alive.shape[2]
        scale = self.model.unit.moments(returns[:, 0, :1])[1].flatten() if self.model.unit else torch.ones(())  # [R]
        advantage = advantage / scale.reshape(-1, 1, 1)
        log_prob, entropy = self._log_prob(batch)
        self._learned = batch, log_prob.detach()
        metrics: dict[str, Tensor] = {}
        if settings.baseline.startswith("optimal"):
            each = settings.baseline == "optimal_per_parameter"
            parameters = list(self.model.policy.parameters())
            surrogate = optimal_constant(log_prob * weight * alive, advantage, parameters, each)
        else:
            if settings.standardise_advantages:
                advantage = standardise(advantage, alive)
            credit = log_prob * advantage * weight * share
            surrogate = total(credit)
            if settings.episodes > 1 and batch.step % settings.diagnose_every_updates == 0:
                metrics |= quality_of_gradient(credit, list(self.model.policy.parameters()))
        steps = alive.sum((1, 2))
        mean_entropy = total(entropy * alive) / steps
        if settings.entropy_bonus:
            surrogate = surrogate + self._entropy_coefficient(batch.step) * mean_entropy
        length = batch.length.to(returns.dtype)
        metrics |= {
            "episode/return": reward_to_go(batch.reward)[:, 0].mean(1),
            "episode/length": length.mean(1),
            "episode/env_steps": length.sum(1),
            "policy/entropy": mean_entropy.detach(),
        }
        if value is not None:
            error = total((value - target).square() * alive) / steps / 2
            surrogate = surrogate + error / scale.square()
            metrics["critic/error"] = error.detach()
            metrics["critic/explained_variance"] = explained_variance(guess, target, alive)
        return Estimate(with_gradient_of(returns[:, 0].mean(1), surrogate), metrics)

    @torch.no_grad()
    def again(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mean return [R] of episodes with the same random numbers, and how far the policy has moved: KL(old, new)
        at the steps of the update, by the estimate r - 1 - log r of Schulman 2020 (http://joschu.net/blog/kl-approx.html).
        """
        batch, before = self._learned
        log_ratio = self._log_prob(batch)[0] - before
        divergence = total((log_ratio.exp() - 1 - log_ratio) * batch.alive) / batch.alive.sum((1, 2))
        played = self._play(Purpose.SAMPLE, step, self.settings.episodes)
        value = reward_to_go(played.reward, self.settings.discount)[:, 0].mean(1)
        return value, {"policy/kl": divergence}

    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        """Undiscounted return and length [R] of the greedy policy, over new episodes."""
        played = self._play(Purpose.EVALUATE, step, self.settings.evaluation.episodes, greedy=True)
        dtype = played.reward.dtype
        return {"return": reward_to_go(played.reward)[:, 0].mean(1), "length": played.length.to(dtype).mean(1)}

    @property
    def _weighted(self) -> bool:
        """Whether steps are weighted by γᵗ: the return of a whole episode contains it already."""
        return self.settings.discount_weighting and self.settings.returns == "reward_to_go"

    def _targets(self, batch: Episodes, returns: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
        """What the critic is to learn, and the advantages, both [R, T, B] (no target without a critic)."""
        settings, alive = self.settings, batch.alive
        if self.model.critic:
            with torch.no_grad():
                after = self.model.critic(batch.last_observation) * ~batch.terminated
            following = next_values(guess, alive, after if settings.time_limit == "bootstrap" else after * 0)
            reward, lambda_ = batch.reward, settings.gae_lambda
            advantage = generalized_advantage(reward, guess, following, settings.discount, lambda_)
            return advantage + guess, advantage
        credited = returns[:, :1].expand_as(returns) if settings.returns == "whole" else returns
        match settings.baseline:
            case "batch_mean":
                return returns, credited - batch_mean(credited)
            case "leave_one_out":
                return returns, credited - leave_one_out(credited)
            case "running_mean":
                return returns, credited - self.model.memory().reshape(-1, 1, 1)  # type: ignore[misc]
        return returns, credited

    def _values(self, batch: Episodes) -> Tensor:
        """[R, T, B], zero after the end."""
        critic: Critic = self.model.critic  # type: ignore[assignment]
        pieces = [critic(batch.observation[:, piece]) for piece in batch.pieces()]
        return torch.cat(pieces, 1) * batch.alive

    def _log_prob(self, batch: Episodes) -> tuple[Tensor, Tensor]:
        """Of the actions taken, and the entropy at the observations they were chosen on: both [R, T, B]."""
        log_prob, entropy = [], []
        for piece in batch.pieces():
            distribution = self.model(batch.observation[:, piece])
            log_prob.append(distribution.log_prob(batch.action[:, piece]))
            with torch.set_grad_enabled(self.settings.entropy_bonus is not None):
                entropy.append(distribution.entropy())
        return torch.cat(log_prob, 1), torch.cat(entropy, 1)

    def _entropy_coefficient(self, step: int) -> float:
        bonus: EntropyBonus = self.settings.entropy_bonus  # type: ignore[assignment]
        final = bonus.coefficient if bonus.final is None else bonus.final
        return bonus.coefficient + (final - bonus.coefficient) * min(1.0, step / max(1, self.settings.updates - 1))

    def _agent(self, observation: spaces.Space[Any], action: spaces.Space[Any]) -> Agent:
        settings, policy, id = self.settings, self.settings.policy, self.settings.environment
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
        drawn = self._streams(Purpose.INITIAL)

        def network(outputs: int, hidden: Sequence[int], activation: Activation, gain: float) -> nn.Module:
            layers: list[nn.Module] = []
            size = seen.shape[0]  # type: ignore[index]
            if is_image(seen):
                layers.append(convolutions := Convolutions(seen.shape, drawn))  # type: ignore[arg-type]
                size = convolutions.features
            if settings.normalise_observations:
                layers.append(Normaliser(settings.replicas, size))
            return nn.Sequential(*layers, MLP(size, outputs, hidden, drawn, activation, gain))

        net = network(wanted, policy.hidden, policy.activation, policy.initial_gain)
        made = policy_for(
            action, net, settings.replicas, policy.deviation, policy.initial_deviation, squash=policy.squash
        )
        critic, memory = None, None

        def unit() -> ReturnUnit | None:
            return ReturnUnit(settings.replicas) if settings.normalise_returns else None

        if settings.baseline == "critic":
            described = settings.critic
            critic = Critic(network(1, described.hidden, described.activation, 1.0), unit(), described.learning_rate)
        if settings.baseline == "running_mean":
            memory = RunningMean(settings.replicas)
        return Agent(made, critic, memory, unit())

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
        return play(self.model.policy, environments, drawn, episodes, greedy=greedy, limit=self.settings.episode_limit)


def check(settings: Settings) -> None:
    """Raises SettingError where settings contradict each other."""
    alone = ("none", "running_mean", "critic")  # these baselines need no other episodes
    if settings.baseline not in alone and settings.episodes < 2:
        message = f"the baseline {settings.baseline} needs at least two episodes an update; set 2 or more, or "
        raise SettingError(("episodes",), message + "baseline: none")
    if settings.baseline != "critic":
        for name, plain in (("gae_lambda", 1.0), ("time_limit", "end")):
            if getattr(settings, name) != plain:
                raise SettingError(
                    (name,), f"only a critic can guess what is to come: set baseline: critic, or {plain}"
                )
    elif settings.returns == "whole":
        raise SettingError(("returns",), "a critic values what is to come: set reward_to_go")
    if settings.standardise_advantages and settings.baseline.startswith("optimal"):
        raise SettingError(("standardise_advantages",), f"not with the baseline {settings.baseline}")


def quality_of_gradient(credit: Tensor, parameters: list[nn.Parameter]) -> dict[str, Tensor]:
    """How much of the gradient is signal, by the gradients g and h of the two halves of the episodes: [R] each.

    Both have the same mean, and so g·h is an unbiased estimate of its squared length, and |g - h|²/4 one of the
    variance of the whole batch's gradient, which is their mean.

    credit: [R, T, B], what each step adds to the surrogate.
    """
    half = credit.shape[2] // 2
    found = []
    for part, episodes in ((credit[:, :, :half], half), (credit[:, :, half:], credit.shape[2] - half)):
        gradient = torch.autograd.grad(total(part).sum(), parameters, retain_graph=True)
        found.append(torch.cat([one.flatten(1) for one in gradient], 1) * credit.shape[2] / episodes)
    g, h = found
    variance = (g - h).square().sum(1) / 4
    return {
        "gradient/half_cosine": torch.cosine_similarity(g, h, dim=1),
        "gradient/deviation": variance.sqrt(),
        "gradient/signal_to_noise": (g * h).sum(1).clamp(min=0) / variance.clamp(min=1e-30),
    }


def explained_variance(guess: Tensor, target: Tensor, alive: Tensor) -> Tensor:
    """1 - Var(target - guess) / Var(target) [R] over the steps alive: 1 is perfect, 0 no better than the mean."""
    return 1 - moments(target - guess, alive)[1] / moments(target, alive)[1].clamp(min=1e-12)


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """A tensor with the value of the one and the gradient of the other.

    A score-function estimate is the gradient of a surrogate whose own value means nothing; so that the number logged
    is the objective, only the surrogate's gradient is kept (cf. Foerster et al. 2018, https://arxiv.org/abs/1802.05098).
    """
    return value + surrogate - surrogate.detach()

"""Policy gradients: climb the expected return of a policy (Williams 1992, https://doi.org/10.1007/BF00992696).

    ∇J(θ) = E[ Σₜ γᵗ ∇log π(aₜ|sₜ) · (Gₜ − bₜ) ]

Gₜ is the reward-to-go from step t, bₜ a baseline that depends on no action of the same episode. The expectation is
estimated by the mean over B whole episodes, played with the parameters as they are. Nothing is negated: the return is
to be maximized, and `Direction.MAXIMIZE` says so. A critic, where there is one, is a part of the same model; it goes
down its own error in the same backward pass.

Instead of whole episodes, segments of a fixed number of steps do where a critic guesses what comes after them: the
n-step actor-critic, A2C (Mnih et al. 2016, https://arxiv.org/abs/1602.01783). Its objective is the return still to come
from the states that the policy visits.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from rlgrad.agents.advantages import (
    batch_mean,
    discount_factors,
    generalized_advantage,
    leave_one_out,
    next_values,
    pieces,
    reward_to_go,
    standardise,
    standardise_each,
    total,
)
from rlgrad.agents.agent import AgentSettings, make_agent
from rlgrad.agents.baselines import RunningMean, optimal_constant
from rlgrad.agents.critic import Critic
from rlgrad.agents.diagnostics import divergence, effective_number, explained_variance, quality_of_gradient
from rlgrad.agents.normalisers import Normaliser, ReturnUnit
from rlgrad.agents.rollouts import Rollout, play, score
from rlgrad.agents.segments import Segments
from rlgrad.agents.settings import EntropyBonus, Fraction, HeldOutEpisodes
from rlgrad.environments import Simulator, describe, make
from rlgrad.errors import SettingError
from rlgrad.loop import Direction, Estimate
from rlgrad.replicas import flat
from rlgrad.streams import Purpose, streams


class Settings(AgentSettings):
    """A policy that learns to act in a Gymnasium environment."""

    problem: Literal["reinforce"] = "reinforce"
    simulator: Simulator = "auto"
    """auto: our vectorized form of the environment where there is one; gymnasium: always Gymnasium's, copy after copy;
    vector: the vector form that the environment brings; envpool: that of the package envpool"""
    action_repeat: PositiveInt = 1
    """for how many steps of the environment each action is held; an episode's length, its limit, a segment and the
    discount count actions"""
    episodes: PositiveInt = 32
    """whole episodes that each replica plays for one update; with `segment`, how many it plays side by side"""
    segment: PositiveInt | None = None
    """instead of whole episodes: so many steps of each for one update, which goes on where the last one ended; needs
    `baseline: critic`, which guesses what comes after them (A2C)"""
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
    gae_lambda: Fraction = 1.0
    """with a critic: how far ahead rewards count before its guess replaces them; 1: to the end, which has no bias"""
    standardise_advantages: bool | Literal["per_episode"] = False
    """true: mean 0 and deviation 1 in every batch, which biases the gradient, and makes the size of the rewards
    irrelevant; per_episode: within each episode, which biases it more"""
    entropy_bonus: EntropyBonus | None = None
    evaluation: HeldOutEpisodes = HeldOutEpisodes()

    def build(self) -> "Reinforce":
        return Reinforce(self)

    def bound_to_updates(self) -> str | None:
        return "entropy_bonus.final" if self.entropy_bonus and self.entropy_bonus.final is not None else None


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
        drawn = self._streams(Purpose.INITIAL)
        self.model = make_agent(settings, environment.observation_space, environment.action_space, drawn)
        environment.close()
        environments = self._copies(settings.episodes, continuing=settings.segment is not None)
        self._environments = {settings.episodes: environments}  # by the number of episodes
        self._segments: Segments | None = None
        if settings.segment:
            if not environments.repeatable:  # then no checkpoint could be gone on from
                message = f"{settings.simulator} cannot begin an episode again from a seed, as segments need: use auto"
                raise SettingError(("simulator",), message)
            self._environments = {}  # what is evaluated in between must not touch the episodes that go on
            self._segments = Segments(environments, settings.replicas, settings.episodes)

    def sample(self, step: int) -> Rollout:
        """B whole episodes for each replica, or the next segment of B, played with the policy as it is."""
        for module in self.model.modules():
            if isinstance(module, Normaliser | RunningMean):
                module.advance()  # what earlier updates have seen counts from here on
        if self._segments:
            drawn, steps = self._streams(Purpose.SAMPLE, step), self.settings.segment or 0
            played = self._segments.play(self.model.policy, drawn, steps)._replace(step=step)
        else:
            played = self._play(play, Purpose.SAMPLE, step, self.settings.episodes)._replace(step=step)
        self._observe(played)
        return played

    @torch.no_grad()
    def objective(self, batch: Rollout) -> Estimate:
        """The objective [R], with the policy gradient as its gradient: the mean return, discounted if the settings say
        so; in segments the mean over their steps of what is still to come, guessed by the critic after their end."""
        settings, alive = self.settings, batch.alive
        value = self._values(batch.observation) if self.model.critic else None
        target, advantage = self._targets(batch, torch.zeros(()) if value is None else value)
        steps = alive.sum((1, 2)).reshape(-1, 1, 1)
        discounts = discount_factors(alive.shape[1], settings.discount)
        if self._segments:
            mean, share = total(target * alive) / steps.flatten(), alive / steps
        else:
            mean, share = total(batch.reward * discounts) / alive.shape[2], alive / alive.shape[2]
        weight = discounts if self._weighted else torch.ones(())
        scale = self.model.unit.moments(mean.reshape(-1, 1, 1))[1] if self.model.unit else torch.ones(())
        diagnosed = batch.step % settings.diagnose_every_updates == 0
        metrics: dict[str, Tensor] = {}
        if diagnosed and settings.baseline != "none":
            metrics["baseline/explained_variance"] = explained_variance(target - advantage, target, alive)
        advantage = self._standardised(advantage / scale, alive, target)

        # the gradient is Σ credit ∇log π + bonus ∇entropy + pull ∇value over all steps
        credit, bonus, pull = advantage * weight * share, None, None
        if settings.entropy_bonus:
            bonus = self._entropy_coefficient(batch.step) * alive / steps
        if value is not None:  # down the squared error, in the same units
            error = (value - target) * alive
            pull = error / steps / scale.square()
            metrics["critic/error"] = total(error.square()) / steps.flatten() / 2
        optimal = settings.baseline.startswith("optimal")
        gradient, log_prob, entropy = self._gradient(batch, 0 * credit if optimal else credit, bonus, pull)
        if optimal:
            for whole, part in zip(gradient, self._optimal(batch, weight * alive, advantage), strict=True):
                whole += part
        elif diagnosed and settings.episodes > 1:
            metrics |= quality_of_gradient(*self._halves(batch, credit))
        metrics |= self._episodes(batch) | {"policy/entropy": total(entropy * alive) / steps.flatten()}
        self._learned = batch, log_prob, advantage * share, mean
        return Estimate(mean, metrics, gradient)

    @torch.no_grad()
    def again(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mean return [R] of episodes with the same random numbers, and how far the policy has moved. In segments,
        which cannot be played again, the objective of the same steps, weighted by how much more probable their actions
        have become (Kakade & Langford 2002, eq. 4.1).
        """
        batch, before, advantage, mean = self._learned
        log_ratio = (self._log_prob(batch) - before) * batch.alive
        moved = {
            "policy/kl": divergence(log_ratio, batch.alive),
            "policy/effective_episodes": effective_number(log_ratio),
        }
        if self._segments:
            return mean + total((log_ratio.exp() - 1) * advantage), moved
        returns, _ = self._play(score, Purpose.SAMPLE, step, self.settings.episodes, discount=self.settings.discount)
        return returns.mean(1), moved

    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        """Undiscounted return and length [R] of the greedy policy, over new episodes."""
        episodes = self.settings.evaluation.episodes
        returns, lengths = self._play(score, Purpose.EVALUATE, step, episodes, greedy=True)
        return {"return": returns.mean(1), "length": lengths.mean(1)}

    @property
    def _weighted(self) -> bool:
        """Whether steps are weighted by γᵗ: the return of a whole episode contains it already."""
        return self.settings.discount_weighting and self.settings.returns == "reward_to_go"

    def _targets(self, batch: Rollout, guess: Tensor) -> tuple[Tensor, Tensor]:
        """What each action is credited with, and how much that is more than the baseline: both [R, T, B].

        guess: the critic's values of the observations, if there is one.
        """
        settings = self.settings
        if self.model.critic:
            with torch.no_grad():
                after = batch.after(self._values(batch.last_observation))
            cut = ~batch.terminated if settings.time_limit == "bootstrap" else ~(batch.terminated | batch.truncated)
            following = next_values(guess, batch.over, after * cut)
            reward, guess = batch.reward, guess * batch.alive
            advantage = generalized_advantage(
                reward, guess, following * batch.alive, batch.over, settings.discount, settings.gae_lambda
            )
            return advantage + guess, advantage
        returns = reward_to_go(batch.reward, settings.discount)
        credited = returns[:, :1].expand_as(returns) if settings.returns == "whole" else returns
        match settings.baseline:
            case "batch_mean":
                return credited, credited - batch_mean(credited)
            case "leave_one_out":
                return credited, credited - leave_one_out(credited)
            case "running_mean":
                return credited, credited - self.model.memory().reshape(-1, 1, 1)  # type: ignore[misc]
        return credited, credited

    def _standardised(self, advantage: Tensor, alive: Tensor, target: Tensor) -> Tensor:
        if not self.settings.standardise_advantages:
            return advantage
        size = target.abs().amax((1, 2))
        each = self.settings.standardise_advantages == "per_episode"
        return standardise_each(advantage, alive, size) if each else standardise(advantage, alive, size)

    def _values(self, observation: Tensor) -> Tensor:
        """The critic's of observations [R, T, ..., *O], piece by piece: [R, T, ...]."""
        critic: Critic = self.model.critic  # type: ignore[assignment]
        return torch.cat([critic(observation[:, piece]) for piece in pieces(observation.shape[1])], 1)

    @torch.no_grad()
    def _observe(self, played: Rollout) -> None:
        """What the normalisers and the running mean remember of an update."""
        modules = [module for module in self.model.modules() if isinstance(module, Normaliser | RunningMean)]
        units = [module for module in modules if isinstance(module, ReturnUnit | RunningMean)]
        guess = self._values(played.observation) if units and self._segments else None
        returns = reward_to_go(played.reward, self.settings.discount) if units else played.reward
        if guess is not None:
            returns = self._targets(played, guess)[0]
        for module in modules:
            if isinstance(module, RunningMean):
                module.observe(returns[:, 0])
            elif isinstance(module, ReturnUnit):
                module.observe(returns.unsqueeze(3), played.alive)
            else:
                module.observe(played.observation, played.alive)

    def _episodes(self, batch: Rollout) -> dict[str, Tensor]:
        """Of the episodes of the update; in segments of the last one that has ended in each slot, NaN before any."""
        length = batch.length.to(batch.reward.dtype)
        returns, taken = batch.reward.sum(1), length
        if self._segments:
            finished = torch.from_numpy(self._segments.finished).to(length.dtype)
            returns, taken = finished.reshape(2, *length.shape)
        return {
            "episode/return": returns.nanmean(1),
            "episode/length": taken.nanmean(1),
            "episode/env_steps": length.sum(1) * self.settings.action_repeat,
        }

    def _gradient(
        self, batch: Rollout, credit: Tensor, bonus: Tensor | None = None, pull: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Σ credit ∇log π + bonus ∇entropy + pull ∇value over the steps of a batch, each [R, T, B]: a tensor for each
        parameter of the policy, and of the critic if it is pulled; beside it log π and the entropy [R, T, B].

        It goes piece by piece: each is differentiated while what its graph holds is still in the cache, and no graph
        grows with the length of the episodes.
        """
        model = self.model if pull is not None else self.model.policy
        parameters = list(model.parameters())
        gradient = [torch.zeros_like(parameter) for parameter in parameters]
        log_probs, entropies = [], []
        for piece in batch.pieces():
            observation = batch.observation[:, piece]
            with torch.enable_grad():
                distribution = self.model(observation)
                log_prob = distribution.log_prob(batch.action[:, piece])
                of = [(log_prob, credit)]
                if pull is not None:
                    of.append((self.model.critic(observation), pull))  # type: ignore[misc]
            with torch.set_grad_enabled(bonus is not None):
                entropy = distribution.entropy()
            if bonus is not None:
                of.append((entropy, bonus))
            log_probs.append(log_prob.detach())
            entropies.append(entropy.detach())
            outputs, weights = zip(*((output, each[:, piece]) for output, each in of), strict=True)
            for whole, part in zip(gradient, torch.autograd.grad(outputs, parameters, weights), strict=True):
                whole += part
        return gradient, torch.cat(log_probs, 1), torch.cat(entropies, 1)

    def _halves(self, batch: Rollout, credit: Tensor) -> Iterator[Tensor]:
        """The policy's gradient [R, P] by either half of the episodes."""
        episodes = batch.alive.shape[2]
        for part in (slice(0, episodes // 2), slice(episodes // 2, episodes)):
            gradient, *_ = self._gradient(batch.of(part), credit[:, :, part] * episodes / len(range(episodes)[part]))
            yield flat(gradient)

    def _optimal(self, batch: Rollout, weight: Tensor, returns: Tensor) -> list[Tensor]:
        """The policy's gradient with the constant baseline that leaves the least variance."""
        episodes = [slice(each, each + 1) for each in range(batch.alive.shape[2])]
        contributions, scores = (
            [self._gradient(batch.of(each), credit[:, :, each])[0] for each in episodes]
            for credit in (weight * returns, weight.expand_as(returns))
        )
        return optimal_constant(contributions, scores, self.settings.baseline == "optimal_per_parameter")

    def _log_prob(self, batch: Rollout) -> Tensor:
        """Of the actions taken [R, T, B]."""
        pieces = batch.pieces()
        return torch.cat([self.model(batch.observation[:, p]).log_prob(batch.action[:, p]) for p in pieces], 1)

    def _entropy_coefficient(self, step: int) -> float:
        bonus: EntropyBonus = self.settings.entropy_bonus  # type: ignore[assignment]
        final = bonus.coefficient if bonus.final is None else bonus.final
        return bonus.coefficient + (final - bonus.coefficient) * min(1.0, step / max(1, self.settings.updates - 1))

    def state_dict(self) -> dict[str, Tensor]:
        """What a run needs to go on, besides the model: the episodes that segments have not finished."""
        return self._segments.state_dict() if self._segments else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises RunError where the environment does not come to the same state again."""
        if self._segments:
            self._segments.load_state_dict(state)

    def _copies(self, episodes: int, continuing: bool = False) -> Any:
        settings = self.settings
        return make(
            settings.environment,
            settings.replicas,
            episodes,
            options=settings.environment_options,
            simulator=settings.simulator,
            action_repeat=settings.action_repeat,
            continuing=continuing,
        )

    def _streams(self, purpose: Purpose, step: int = 0) -> list[Any]:
        return streams(self.settings.seed, self.settings.replicas, purpose, step)

    def _play(self, how: Callable[..., Any], purpose: Purpose, step: int, episodes: int, **options: Any) -> Any:
        """how: play, or score, with its options."""
        if episodes not in self._environments:
            self._environments[episodes] = self._copies(episodes)
        environments, drawn = self._environments[episodes], self._streams(purpose, step)
        limit = self.settings.episode_limit
        return how(self.model.policy, environments, drawn, episodes, limit=limit, **options)


def check(settings: Settings) -> None:
    """Raises SettingError where settings contradict each other."""
    alone = ("none", "running_mean", "critic")  # these baselines need no other episodes
    if settings.baseline not in alone and settings.episodes < 2:
        message = f"the baseline {settings.baseline} needs at least two episodes an update; set 2 or more, or "
        raise SettingError(("episodes",), message + "baseline: none")
    if settings.baseline != "critic":
        for name, plain in (("gae_lambda", 1.0), ("time_limit", "end"), ("segment", None)):
            if getattr(settings, name) != plain:
                said = "null" if plain is None else plain
                raise SettingError((name,), f"only a critic can guess what is to come: set baseline: critic, or {said}")
    elif settings.returns == "whole":
        raise SettingError(("returns",), "a critic values what is to come: set reward_to_go")
    if settings.segment and settings.discount < 1 and settings.discount_weighting:
        message = "in segments all states count alike, however late in their episode: set it to false"
        raise SettingError(("discount_weighting",), message)
    if settings.segment and settings.standardise_advantages == "per_episode":
        raise SettingError(("standardise_advantages",), "per_episode needs whole episodes, not segments: set true")
    if settings.segment and settings.action_repeat > 1 and settings.simulator in ("vector", "envpool"):
        message = f"in segments the simulator {settings.simulator} may begin a new episode while an action is held: "
        raise SettingError(("action_repeat",), message + "use auto or gymnasium")
    if settings.standardise_advantages and settings.baseline.startswith("optimal"):
        raise SettingError(("standardise_advantages",), f"not with the baseline {settings.baseline}")

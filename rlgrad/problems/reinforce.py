"""Policy gradients: climb the expected return of a policy (Williams 1992, https://doi.org/10.1007/BF00992696).

    ∇J(θ) = E[ Σₜ γᵗ ∇log π(aₜ|sₜ) · (Gₜ − bₜ) ]

Gₜ is the reward-to-go from step t, bₜ a baseline that depends on no action of the same episode. The expectation is
estimated by the mean over B whole episodes, played with the current parameters. No sign is flipped: the return is
maximized, and `Direction.MAXIMIZE` says so. If there is a critic, it is part of the same model; it minimizes its own
error in the same backward pass.

An update can also play segments of a fixed number of steps instead of whole episodes, if a critic guesses what comes
after them: the n-step actor-critic, A2C (Mnih et al. 2016, https://arxiv.org/abs/1602.01783). Its objective is the
return still to come from the states that the policy visits.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlgrad import distributed, ranks
from rlgrad.agents import rollouts
from rlgrad.agents.advantages import discount_factors, reward_to_go, step_mean, total
from rlgrad.agents.agent import Agent, make_agent
from rlgrad.agents.baselines import RunningMean
from rlgrad.agents.batches import Batch, First, Guesses, Weights, guesses
from rlgrad.agents.credit import credit, standardised, values
from rlgrad.agents.diagnostics import effective_number, explained_variance, quality_of_gradient
from rlgrad.agents.divided import Divided, divides
from rlgrad.agents.experience import Experience
from rlgrad.agents.fisher import Fisher
from rlgrad.agents.gradient import Terms, by_halves, evaluate_actions, policy_gradient, with_optimal_baseline
from rlgrad.agents.normalisers import Normaliser, ReturnUnit
from rlgrad.agents.rollouts import Rollout
from rlgrad.agents.settings import CreditSettings, EntropyBonus, check, opened, without_effect
from rlgrad.agents.trained import TrainedPolicy, description
from rlgrad.environments import register
from rlgrad.environments.vector import close
from rlgrad.errors import RunError, SettingError, UsageError
from rlgrad.loop import Direction, Estimate, Update
from rlgrad.replicas import along
from rlgrad.streams import Purpose, stream
from rlgrad.trainable import Trainable

ALL = slice(None)


class Settings(CreditSettings):
    """A policy that learns to act in a Gymnasium environment."""

    takes = ("environment", "policy")
    problem: Literal["reinforce"] = "reinforce"
    entropy_bonus: EntropyBonus | None = None
    """a reward for being undecided: {coefficient} times the policy's mean entropy joins the objective; null: none"""

    def build(self, **objects: Any) -> Trainable:
        settings, policy = self.registered(objects.get("environment")), objects.get("policy")
        whole = self.agent(settings, policy)
        if policy is None and divides(len(settings.seeds), settings.episodes):
            return Divided(whole, lambda own: self.agent(settings, None, own))
        return whole

    @property
    def agent(self) -> Callable[..., "Reinforce"]:
        return Reinforce

    def trained(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any], **objects: Any) -> TrainedPolicy:
        return TrainedPolicy(self.registered(objects.get("environment")), tensors, description, objects.get("policy"))

    def registered(self, environment: Any = None) -> "Settings":
        """Register an environment that is given, or named as module:Class; return these settings with its id."""
        if self.environment.partition(":")[0] in self.imports:
            environment = self.named(("environment",), self.environment)
        if environment is None:
            return self
        if not callable(environment):
            raise SettingError(("environment",), f"{self.environment} must be a class or a function")
        found = self.model_copy(update={"environment": register(environment)})
        found._given = environment
        return found

    def bound_to_updates(self) -> str | None:
        return "entropy_bonus.final" if self.entropy_bonus and self.entropy_bonus.final is not None else None


def objective_of(settings: Settings, batch: Rollout, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the objective [R], and the share [R, T, B] of each step in it. target: [R, T, B] the return that each step
    is credited with."""
    alive = batch.alive
    if settings.segment:
        return step_mean(target, alive), alive / alive.sum((1, 2), keepdim=True)
    if settings.batch_steps:
        goes_on = alive & ~batch.over
        first = alive & ~torch.cat([torch.zeros_like(goes_on[:, :1]), goes_on[:, :-1]], 1)  # first steps of episodes
        episodes = first.sum((1, 2))
        returns = reward_to_go(batch.reward, settings.discount, batch.over)
        return total(returns * first) / episodes, alive / episodes.reshape(-1, 1, 1)
    discounts = discount_factors(alive.shape[1], settings.discount)
    return total(batch.reward * discounts) / alive.shape[2], alive / alive.shape[2]


def pull_of(batch: Rollout, value: Tensor, target: Tensor, unit: Tensor) -> Tensor:
    """Return the weight [R, T, B] of the gradient of each guess: a critic minimizes its mean squared error, in the unit
    of the policy's gradient."""
    return (value - target) * batch.alive / batch.alive.sum((1, 2)).reshape(-1, 1, 1) / unit.square()


def promises(settings: Settings) -> bool:
    """Return whether the gradient is that of the objective, up to its unit and to noise. In segments this means the
    objective of the same steps, weighted as in `Reinforce.after`."""
    if settings.standardise_advantages or settings.entropy_bonus:
        return False
    guessed = settings.gae_lambda < 1 or settings.time_limit == "bootstrap"
    unweighted = settings.discount < 1 and not settings.discount_weighting
    return settings.flowing or not (guessed or unweighted)


class Reinforce(Trainable):
    """The policy gradient from whole episodes or segments, with a baseline: unbiased, unless a setting adds a bias."""

    direction = Direction.MAXIMIZE
    model: Agent
    work = "episode/env_steps"  # the metric that counts what was played
    headline, judged = ("return",), ("return", Direction.MAXIMIZE)
    uses = ("evaluate", "play")
    timed = {"environment": (rollouts, "step"), "policy": (rollouts.Player, "act")}
    informed = True

    def __init__(self, settings: Settings, policy: nn.Module | None = None, own: slice = ALL):
        """policy: the policy's network, instead of the one that the settings describe. own: which replicas it has."""
        self.given = policy is not None
        cells = settings.each()
        for cell in cells:
            check(cell)
        if settings.policy.deviation == "state_dependent" and ("policy", "initial_deviation") in settings.grid:
            raise SettingError(("policy", "initial_deviation"), "it cannot be swept with deviation: state_dependent")
        self.alone = functools.partial(settings.alone, own.start or 0)  # the settings of the first replica
        self.line_search = not settings.baseline.startswith("optimal")  # their gradient has no surrogate
        if settings.baseline == "critic":  # the surrogate does not contain the critic's error
            self.line_search = settings.critic.optimizer is not None
        self.measures = "return" + (" still to come" if settings.segment else "")
        self.measures = "discounted " * any(cell.discount < 1 for cell in cells) + self.measures
        self._promises = all(map(promises, cells))
        environment, settings = opened(settings)
        self.settings = settings = settings.of(own)
        observation, action, spec = environment.observation_space, environment.action_space, environment.spec
        close([environment])
        threshold = spec.reward_threshold if spec else None
        self.solved = None if threshold is None else ("return", threshold)
        if settings.evaluation.steps:
            self.solved, self.headline = None, ("reward_per_step",)
            self.judged = ("reward_per_step", Direction.MAXIMIZE)
        drawn = [stream(seed, Purpose.INITIAL) for seed in settings.seeds]
        self.spaces = observation, action
        self.model = make_agent(settings, *self.spaces, drawn, policy)
        if not any(parameter.requires_grad for parameter in self.model.policy.parameters()):
            path = ("given", "policy") if policy is not None else ("policy", "network")
            raise SettingError(path, "it has no parameter that learns")
        self.experience = Experience(settings, self.spaces)
        self.shares = settings.episodes
        self.model.moments = self.experience.moments

    @cached_property
    def facts(self) -> Mapping[str, str]:  # type: ignore[override]
        id, played = self.settings.environment, self.experience
        known = {f"{id} is played by": played.played_by}
        if self.settings.mask:
            where = "info" if self.settings.action_mask == "info" else "its observations"
            known[f"the legal actions of {id}"] = f"those of the action mask in {where}"
        if played.moments:
            known[f"the running moments by which {id} normalises"] = "saved with the model, frozen in evaluations"
        if played.memory:
            sentence = f"{played.memory}: a resumed run goes on, but not to the same bits"
            known[f"an episode of {id} depends on"] = sentence
        shown = self.model.policy.pictures
        if shown:
            known[f"pictures that {id} shows"] = "; ".join(map(str, shown))
        if said := played.workers[1]:
            known["workers"] = said
        if unused := without_effect(self.settings, isinstance(self.spaces[1], spaces.Box), bool(shown)):
            known["settings without effect here"] = ", ".join(unused)
        return known

    def close(self) -> None:
        """Close the environments. They are made again when they are needed again."""
        self.experience.close()

    def sample(self, step: int) -> Rollout:
        """Play B whole episodes for each replica, or the next segment in each of B slots, with the current policy."""
        for module in self.model.modules():
            if isinstance(module, Normaliser | RunningMean):
                module.advance()  # use what earlier updates have observed
        played = self.experience.sample(self.model.policy, step)
        self._observe(played)
        return played

    def passes(self, data: Rollout) -> Iterator[Batch | Guesses]:
        """Yield the batch once; then, if the critic has epochs of its own, the minibatches of the critic."""
        yield (batch := Batch(data))
        if self.settings.critic_alone:
            drawn = self.experience.streams(Purpose.MINIBATCH, data.step)
            yield from guesses(drawn, batch, self.settings.critic)

    def objective(self, batch: Rollout | Batch | Guesses) -> Estimate:
        """Return the objective [R] and the policy gradient. The objective is the mean return, discounted if the
        settings say so. In segments it is the mean over their steps of the return still to come; the critic guesses
        the part after their end."""
        if isinstance(batch, Guesses):
            return self._of_the_critic(batch)
        whole, moving = batch if isinstance(batch, Batch) else Batch(batch), torch.is_grad_enabled()
        with torch.no_grad():
            return self._again(whole, moving) if whole.first else self._first(whole)

    def _first(self, whole: Batch) -> Estimate:
        """Evaluate a batch for the first time, at the parameters that played it."""
        settings, batch, alive = self.settings, whole.played, whole.played.alive
        weights, metrics = self._weigh(batch)
        diagnosed = batch.step % settings.diagnose_every_updates == 0
        optimal = settings.baseline.startswith("optimal")
        credited = 0 * weights.credited if optimal else weights.credited
        found = policy_gradient(self.model, batch, Terms(credited, weights.bonus, weights.pull), diagnosed)
        first = First(weights, found)
        if optimal:
            each = settings.baseline == "optimal_per_parameter"
            best = with_optimal_baseline(self.model, batch, weights.weight * alive, weights.used, each)
            for whole_gradient, part in zip(found.gradient, best, strict=True):
                whole_gradient += part
        else:
            whole.first = first
            if diagnosed and settings.episodes > 1 and not settings.batch_steps:
                metrics |= quality_of_gradient(*by_halves(self.model, batch, credited))
        metrics |= self._episodes(batch) | {"policy/entropy": step_mean(found.entropy, alive)}
        gradient, fisher = self._for_all(found.gradient), self._fisher(batch)
        return Estimate(weights.value, metrics, gradient, fisher, first, surrogate=0 * weights.value)

    def _weigh(self, batch: Rollout) -> tuple[Weights, dict[str, Tensor]]:
        """Return the weight of each step in the gradient, and metrics of the baseline and the critic."""
        settings, alive, metrics = self.settings, batch.alive, {}
        value = values(self.model.critic, batch.observation) if self.model.critic else None
        target, advantage = credit(settings, self.model, batch, value)
        steps = alive.sum((1, 2)).reshape(-1, 1, 1)
        mean, share = objective_of(settings, batch, target)
        weight = discount_factors(alive.shape[1], settings.discount) if settings.weighted else torch.ones(())
        each = mean.reshape(-1, 1, 1)
        unit = torch.as_tensor(along(1 / settings.reward_scale, each), dtype=mean.dtype)
        unit = self.model.unit.mean_and_deviation(each)[1] if self.model.unit else unit
        if batch.step % settings.diagnose_every_updates == 0 and settings.baseline != "none":
            metrics["baseline/explained_variance"] = explained_variance(target - advantage, target, alive)
        used, bonus, pull = standardised(settings, advantage / unit, alive, target), None, None
        if settings.entropy_bonus:
            bonus = along(self._coefficient(batch.step), target) * alive / steps
        if value is not None:
            pull = None if settings.critic_alone else pull_of(batch, value, target, unit)
            metrics["critic/error"] = total(((value - target) * alive).square()) / steps.flatten() / 2
        return Weights(mean, target, advantage, unit, share, weight, used, used * weight * share, bonus, pull), metrics

    def _coefficient(self, step: int) -> float | Tensor:
        """Return the coefficient of the entropy bonus at this update."""
        wanted, updates = self.settings.entropy_bonus, self.settings.updates
        return wanted.at(step / max(1, updates - 1) if updates else self.progress) if wanted else 0.0

    def _again(self, whole: Batch, moving: bool) -> Estimate:
        """Evaluate the same data again, at other parameters that an optimizer tries. The value stays the same. The
        surrogate is the gain in return to first order: the credit of each action, times how much more probable it has
        become. moving: whether the gradient is wanted."""
        batch, gradient = whole.played, None
        assert whole.first
        weights, before = whole.first
        if moving:
            pull = None
            if weights.pull is not None and self.model.critic:
                pull = pull_of(batch, values(self.model.critic, batch.observation), weights.target, weights.unit)
            terms = Terms(weights.credited, weights.bonus, pull, before.log_prob)
            found = policy_gradient(self.model, batch, terms)
            gradient = self._for_all(found.gradient)
        else:
            found = evaluate_actions(self.model, batch)
        gained = (found.log_prob - before.log_prob).expm1() * weights.credited
        if weights.bonus is not None:
            gained = gained + (found.entropy - before.entropy) * weights.bonus
        return Estimate(weights.value, {}, gradient, self._fisher(batch), surrogate=total(gained))

    def _of_the_critic(self, batch: Guesses) -> Estimate:
        """Return half the critic's mean squared error [R] on a minibatch, and its gradient."""
        assert self.model.critic
        parameters, steps = list(self.model.critic.parameters()), batch.weight.sum(1)
        if shared := ranks.shared(count := batch.weight.shape[1]):
            batch = batch.of(ranks.share(count))
        with torch.enable_grad():
            error = (self.model.critic(batch.observation) - batch.target) * batch.weight / batch.unit
            value = error.square().sum(1) / steps / 2
            gradient = torch.autograd.grad(value.sum(), parameters)
        sums = [value.detach(), *gradient]
        value, *gradient = distributed.summed(*sums) if shared else sums  # type: ignore[assignment]
        found = dict(zip(parameters, gradient, strict=True))
        return Estimate(value, {}, [found.get(parameter) for parameter in self.model.parameters()])

    def _for_all(self, gradient: Sequence[Tensor]) -> list[Tensor | None]:
        """Return a gradient of the first parameters, such as the policy's, with None for all others."""
        return [*gradient, *[None] * (len(list(self.model.parameters())) - len(gradient))]

    def _fisher(self, batch: Rollout) -> Callable[[], Fisher]:
        return lambda: Fisher(self.model.policy, batch, self.direction.opposite.sign)

    @torch.no_grad()
    def after(self, update: Update) -> Tensor:
        """Return the mean return [R] of episodes that are played again with the same random numbers. Segments cannot be
        played again: there it is the objective of the same steps, weighted by how much more probable their actions have
        become (Kakade & Langford 2002, eq. 4.1).
        """
        if not self.settings.flowing:
            return self._discounted(update.passes[0].batch.played.step)
        weights: Weights = update.passes[0].notes.weights
        advantage = (weights.advantage * weights.share).to(update.value.dtype)
        return update.value + total((self._log_ratio(update).exp() - 1) * advantage)

    def _log_ratio(self, update: Update) -> Tensor:
        """Return how much more probable [R, T, B] the actions of an update have become, as a logarithm."""
        batch: Rollout = update.passes[0].batch.played
        first: First = update.passes[0].notes
        return (evaluate_actions(self.model, batch).log_prob - first.before.log_prob) * batch.alive

    def final(self, update: Update) -> Tensor:
        """Return the mean return [R] of episodes that no update has learned from: those of the next update, if there
        were one. In segments it is the result of `after`."""
        return self.after(update) if self.settings.flowing else self._discounted(update.step + 1)

    @torch.no_grad()
    def diagnose(self, update: Update, promised: Tensor) -> Mapping[str, Tensor]:
        """Return how far the policy has moved from the one that played, and how much the objective has changed. The
        predicted change is left out if the gradient is not that of the objective: docs/tags.md says when."""
        batch, (weights, before) = update.passes[0].batch.played, update.passes[0].notes
        seen = (batch.observation[:, piece] for piece in batch.pieces())
        moved = [old.divergence(self.model(x)) for old, x in zip(before.policy, seen, strict=True)]
        of = "surrogate" if self.settings.flowing else "objective"
        found = {
            "policy/kl": step_mean(torch.cat(moved, 1), batch.alive),
            "policy/effective_episodes": effective_number(self._log_ratio(update)),
        }
        if self.settings.flowing or not self.experience.moments:  # which have moved since: the two are in other units
            found[f"{of}/achieved_change"] = self.after(update) - update.value
        if self._promises:
            found[f"{of}/predicted_change"] = promised * weights.unit.flatten()
        return found

    def description(self) -> dict[str, Any]:
        """Return the description of the policy, which is saved with its weights."""
        return description(self.settings, *self.spaces)

    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        """Return the mean undiscounted return and length [R] of new episodes of the greedy policy; and the share of
        episodes that were cut off, if there are any. For a task without an end it is the reward per step."""
        wanted, policy = self.settings.evaluation, self.model.policy
        how: dict[str, Any] = {"greedy": True, "limit": wanted.steps or wanted.episode_limit}
        returns, lengths, cut = self.experience.returns(policy, Purpose.EVALUATE, step, wanted.episodes, **how)
        if wanted.steps:
            return {"reward_per_step": returns.sum(1) / lengths.sum(1)}
        found = {"return": returns.mean(1), "length": lengths.mean(1)}
        return found | ({"cut_off": cut.to(returns.dtype).mean(1)} if cut.any() else {})

    def pictures(self) -> Mapping[str, bytes]:
        """Return a film of the beginning of an episode, played by the greedy policy of the first replica."""
        from rlgrad.agents.films import Show, beginning, film

        if self.given:
            raise RunError("a network that was given from Python has all replicas, and a film needs one")
        tensors = {name: tensor[:1] for name, tensor in self.model.state_dict().items()}
        try:
            show = Show(self.alone().trained(tensors, self.description()))
            return {"pictures/film": film(beginning(show.frames()), show.fps)}
        except (UsageError, SettingError, ImportError) as error:
            raise RunError(str(error)) from error

    @torch.no_grad()
    def _observe(self, played: Rollout) -> None:
        """Let the normalisers and the running mean observe an update."""
        modules = [module for module in self.model.modules() if isinstance(module, Normaliser | RunningMean)]
        units = [module for module in modules if isinstance(module, ReturnUnit | RunningMean)]
        guess = None
        if units and self.settings.flowing and self.model.critic:
            guess = values(self.model.critic, played.observation)
        returns = reward_to_go(played.reward, self.settings.discount) if units else played.reward
        if guess is not None:
            returns = credit(self.settings, self.model, played, guess).target
        for module in modules:
            if isinstance(module, RunningMean):
                module.observe(returns[:, 0])
            elif isinstance(module, ReturnUnit):
                module.observe(returns.unsqueeze(3), played.alive)
            else:
                module.observe(played.observation[:], played.alive)

    def _episodes(self, batch: Rollout) -> dict[str, Tensor]:
        returns, length = self.experience.finished(batch)
        steps = batch.length if batch.env_steps is None else batch.env_steps
        found = {
            "episode/return": returns.nanmean(1),
            "episode/length": length.nanmean(1),
            "episode/env_steps": steps.to(length.dtype).sum(1),
        }
        if self.settings.action_repeat > 1:
            found["episode/decisions"] = batch.length.to(length.dtype).sum(1)
        return found

    def _discounted(self, step: int) -> Tensor:
        """Return the mean discounted return [R] of the episodes of an update, played with the current policy."""
        settings, policy = self.settings, self.model.policy
        how = {"discount": settings.discount, "limit": settings.episode_limit}
        return self.experience.returns(policy, Purpose.SAMPLE, step, settings.episodes, **how)[0].mean(1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the unfinished episodes of segments."""
        return self.experience.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Play the unfinished episodes again. Raises RunError if this does not lead to the same state."""
        self.experience.load_state_dict(state)

"""Proximal policy optimization (Schulman et al. 2017, https://arxiv.org/abs/1707.06347).

An update makes several passes over the same steps, in minibatches. Each action is weighted by the ratio
r = π(a|s) / π_played(a|s). The clip ε limits this weight, so that no pass moves the policy far (equation 7):

    L(θ) = E[ min(r A, clip(r, 1 − ε, 1 + ε) A) ],    which is maximized, as the paper writes it

The advantages A are those of `reinforce`, computed once for the whole update. The critic minimizes its error in the
same passes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from rlgrad import distributed, ranks
from rlgrad.agents.advantages import step_mean
from rlgrad.agents.batches import First, Weights
from rlgrad.agents.gradient import PolicyGradient, evaluate_actions
from rlgrad.agents.minibatches import gather, minibatches
from rlgrad.agents.rollouts import Rollout
from rlgrad.agents.settings import Baseline, Discount, Fraction
from rlgrad.errors import SettingError
from rlgrad.loop import Estimate, Lazy
from rlgrad.problems import reinforce
from rlgrad.problems.reinforce import ALL, Reinforce
from rlgrad.replicas import along
from rlgrad.settings import Each
from rlgrad.streams import Purpose


class Settings(reinforce.Settings):
    """A policy that learns by proximal policy optimization."""

    problem: Literal["ppo"] = "ppo"  # type: ignore[assignment]
    clip: Each[Annotated[float, Field(gt=0, lt=1)]] = 0.2
    """epsilon: how far the ratio of an action's probabilities may move from 1 before it no longer counts"""
    epochs: PositiveInt = 10
    """number of passes through all steps of an update"""
    minibatches: PositiveInt = 4
    """number of parts into which each epoch divides the steps; each part gives one step of the optimizer"""
    kl_stop: Each[PositiveFloat] | None = None
    """limit of the KL divergence (nats) from the policy that played: a replica above it does not move until the next
    update. With a limit each replica has its own optimizer. null: no limit"""
    baseline: Baseline = "critic"
    discount: Each[Discount] = 0.99
    discount_weighting: bool = False
    gae_lambda: Each[Fraction] = 0.95
    time_limit: Literal["end", "bootstrap"] = "bootstrap"
    standardise_advantages: bool | Literal["per_episode"] = True

    @property
    def agent(self) -> Callable[..., Reinforce]:
        return PPO


@dataclass
class Course:
    """What all passes of an update share, and the results of the passes so far."""

    played: Rollout
    weights: Weights  # of the steps in the gradient
    before: PolicyGradient  # log-probabilities and entropies of the policy that played
    metrics: Mapping[str, Tensor]
    resting: Tensor  # [R] bool: the replicas above the limit of the KL divergence, which do not move any more
    taken: Tensor  # [R] number of passes
    clipped: Tensor  # [R] sum over these passes of the share of steps that the clip has stopped
    kl: Tensor  # [R] KL divergence from the policy that played, in the last pass
    surrogate: Tensor  # [R] value of L in the last pass
    noted: Tensor | None = None  # the steps of the last pass: an optimizer may evaluate it several times

    def logged(self) -> dict[str, Tensor]:
        passes = self.taken.clamp(min=1)
        found = {"ppo/clip_fraction": self.clipped / passes, "ppo/kl": self.kl, "ppo/passes": self.taken}
        return {**self.metrics, **found, "ppo/surrogate": self.surrogate}


class Minibatch(NamedTuple):
    """The steps of one pass."""

    course: Course
    at: Tensor  # [R, M] indices of the steps, into T * B
    weight: Tensor  # [R, M] 1, or 0 where a replica has fewer steps than others

    @property
    def played(self) -> Rollout:
        return self.course.played


class PPO(Reinforce):
    """Proximal policy optimization: it logs the return as the objective, and follows the clipped surrogate."""

    settings: Settings
    informed = False  # it makes many passes, and the Fisher information is right for the first one only

    def __init__(self, settings: Settings, policy: nn.Module | None = None, own: slice = ALL):
        if settings.critic.passes > 1:
            name = "epochs" if settings.critic.epochs > 1 else "minibatches"
            raise SettingError(("critic", name), f"the critic learns in the passes of the policy: set {name} instead")
        if settings.baseline.startswith("optimal"):
            raise SettingError(("baseline",), f"{settings.baseline} is only for the plain policy gradient")
        super().__init__(settings, policy, own)
        self.rests, self.line_search = settings.kl_stop is not None, False

    def passes(self, data: Rollout) -> Iterator[Minibatch]:  # type: ignore[override]
        """Yield `epochs` times `minibatches` minibatches, or fewer if all replicas rest."""
        settings, course = self.settings, self.course(data)
        drawn = self.experience.streams(Purpose.MINIBATCH, data.step)
        for index, weight in minibatches(drawn, data.alive, settings.epochs, settings.minibatches):
            yield Minibatch(course, index, weight)
            if course.resting.all():
                return

    @torch.no_grad()
    def course(self, batch: Rollout) -> Course:
        """Return the advantages and probabilities of a batch before the first pass."""
        weights, metrics = self._weigh(batch)
        keep = batch.step % self.settings.diagnose_every_updates == 0
        before = evaluate_actions(self.model, batch, keep)
        metrics |= self._episodes(batch) | {"policy/entropy": step_mean(before.entropy, batch.alive)}
        nothing = torch.zeros_like(weights.value)
        return Course(batch, weights, before, metrics, nothing > 0, nothing, nothing, nothing, nothing)

    def objective(self, batch: Minibatch) -> Estimate:  # type: ignore[override]
        """Return the mean return [R] in the first pass, and the surrogate in later ones; always with the gradient of
        the surrogate."""
        (course, at, weight), settings, model = batch, self.settings, self.model
        weights, played, share = course.weights, course.played, weight / weight.sum(1, keepdim=True)
        parameters = list(model.parameters())
        if shared := ranks.shared(count := at.shape[1]):
            own = ranks.share(count)
            at, share = at[:, own], share[:, own]
        advantage = gather(weights.used * weights.weight, at)
        with torch.enable_grad():
            observation = gather(played.observation, at)
            policy = model(observation)
            log_ratio = policy.log_prob(gather(played.action, at)) - gather(course.before.log_prob, at)
            surrogate = (clipped(log_ratio.exp(), advantage, settings.clip) * share).sum(1)
            sought = surrogate + along(self._coefficient(played.step), surrogate) * (policy.entropy() * share).sum(1)
            if model.critic:  # it has its own parameters, and minimizes its error
                unit = weights.unit.reshape(-1, 1) if weights.unit.dim() else weights.unit
                error = (model.critic(observation) - gather(weights.target, at)) / unit
                sought = sought + (error.square() * share).sum(1) / 2
            gradient = torch.autograd.grad(sought.sum(), parameters, allow_unused=True)
        surrogate, kl, stopped = surrogate.detach(), *self._measured(log_ratio.detach(), advantage, share)
        slopes: Sequence[Tensor | None] = gradient
        if shared:
            slopes = distributed.whole(gradient)
            surrogate, kl, stopped = distributed.summed(surrogate, kl, stopped)
        first = course.noted is None
        if course.noted is not batch.at:
            course.noted = batch.at
            self._note(course, surrogate, kl, stopped)
        value = weights.value if first else surrogate
        notes = First(weights, course.before) if first else None
        return Estimate(value, Lazy(course.logged), list(slopes), notes=notes, resting=course.resting)

    def _measured(self, log_ratio: Tensor, advantage: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """Return the KL divergence [R] from the policy that played, and the share [R] of steps that are clipped."""
        ratio = log_ratio.exp()
        stopped = clipped(ratio, advantage, self.settings.clip) != ratio * advantage
        return ((log_ratio.expm1() - log_ratio) * share).sum(1), (stopped * share).sum(1)

    def _note(self, course: Course, surrogate: Tensor, kl: Tensor, stopped: Tensor) -> None:
        """Record a pass. Replicas whose KL divergence is above the limit rest for the remaining passes."""
        goes_on = ~course.resting
        if self.settings.kl_stop is not None:
            course.resting = course.resting | (kl > along(self.settings.kl_stop, kl))
        course.clipped = course.clipped + stopped * ~course.resting
        course.taken = course.taken + ~course.resting
        course.kl = torch.where(goes_on, kl, course.kl)
        course.surrogate = torch.where(goes_on, surrogate, course.surrogate)


def clipped(ratio: Tensor, advantage: Tensor, clip: float | Tensor) -> Tensor:
    """Return min(r A, clip(r, 1 − ε, 1 + ε) A), equation 7."""
    epsilon: Any = along(clip, ratio)
    return torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)

"""Proximal policy optimization (Schulman et al. 2017, https://arxiv.org/abs/1707.06347).

Several passes over the same steps, in minibatches. An action that has become more probable counts by its ratio
r = π(a|s) / π_played(a|s), but no more than the clip allows, so that no pass goes far (equation 7):

    L(θ) = E[ min(r A, clip(r, 1 − ε, 1 + ε) A) ],    which is maximized, as the paper writes it

The advantages A are those of `reinforce`, once for the whole update; the critic goes down its error in the same passes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, cast

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from rlgrad import distributed, ranks
from rlgrad.agents.advantages import total
from rlgrad.agents.batches import Weights
from rlgrad.agents.gradient import PolicyGradient, looked_at
from rlgrad.agents.minibatches import gather, minibatches
from rlgrad.agents.rollouts import Rollout
from rlgrad.agents.settings import Baseline
from rlgrad.errors import SettingError
from rlgrad.loop import Estimate, Lazy
from rlgrad.problems import reinforce
from rlgrad.problems.reinforce import Played, Reinforce
from rlgrad.replicas import along
from rlgrad.settings import Each
from rlgrad.streams import Purpose


class Settings(reinforce.Settings):
    """A policy that learns by proximal policy optimization."""

    problem: Literal["ppo"] = "ppo"  # type: ignore[assignment]
    clip: Each[Annotated[float, Field(gt=0, lt=1)]] = 0.2
    """epsilon: by how much the ratio of an action's probabilities may leave 1 and still count"""
    epochs: PositiveInt = 10
    """how often the steps of an update are gone through"""
    minibatches: PositiveInt = 4
    """into how many parts an epoch's steps are dealt, for a step of the optimizer each"""
    kl_stop: Each[PositiveFloat] | None = None
    """a replica whose policy has come this far, by its divergence from the one that played (nats), rests until the next
    update; then each replica has an optimizer of its own. null: none rests"""
    baseline: Baseline = "critic"
    discount: Each[Annotated[float, Field(gt=0, le=1)]] = 0.99
    discount_weighting: bool = False
    gae_lambda: Each[Annotated[float, Field(ge=0, le=1)]] = 0.95
    time_limit: Literal["end", "bootstrap"] = "bootstrap"
    standardise_advantages: bool | Literal["per_episode"] = True

    def build(self, **objects: Any) -> "PPO":
        return PPO(cast(Settings, self.registered(objects.get("environment"))), objects.get("policy"))


@dataclass
class Course:
    """What all passes of an update share, and what has come of them so far."""

    played: Rollout
    told: Weights
    before: PolicyGradient  # what the policy that played says
    metrics: Mapping[str, Tensor]
    resting: Tensor  # [R] bool: the replicas that have come far enough
    taken: Tensor  # [R] passes
    clipped: Tensor  # [R] sum over these of the share of steps that the clip has stopped
    kl: Tensor  # [R] the divergence from the policy that played, as the last one found it
    surrogate: Tensor  # [R] the value of L there

    def came_to(self) -> dict[str, Tensor]:
        passes = self.taken.clamp(min=1)
        found = {"ppo/clip_fraction": self.clipped / passes, "ppo/kl": self.kl, "ppo/passes": self.taken}
        return {**self.metrics, **found, "ppo/surrogate": self.surrogate}


class Minibatch(NamedTuple):
    """The steps of one pass."""

    course: Course
    at: Tensor  # [R, M] into T * B
    weight: Tensor  # [R, M] 1, or 0 where a replica has fewer steps than others

    @property
    def played(self) -> Rollout:
        return self.course.played


class PPO(Reinforce):
    """The return is the objective, and is logged; its gradient is that of the clipped surrogate."""

    settings: Settings
    informed = False  # its passes are many, and the Fisher information is that of the first

    def __init__(self, settings: Settings, policy: nn.Module | None = None):
        if settings.critic.passes > 1:
            name = "epochs" if settings.critic.epochs > 1 else "minibatches"
            raise SettingError(("critic", name), f"the critic learns in the passes of the policy: set {name} instead")
        if settings.baseline.startswith("optimal"):
            raise SettingError(("baseline",), f"{settings.baseline} is a correction of the plain policy gradient")
        super().__init__(settings, policy)
        self.rests, self.line_search = settings.kl_stop is not None, False

    def passes(self, data: Rollout) -> Iterator[Minibatch]:  # type: ignore[override]
        """`epochs` times `minibatches`, or fewer where all replicas rest."""
        settings, course = self.settings, self.course(data)
        drawn = self.experience.streams(Purpose.MINIBATCH, data.step)
        for index, weight in minibatches(drawn, data.alive, settings.epochs, settings.minibatches):
            yield Minibatch(course, index, weight)
            if course.resting.all():
                return

    @torch.no_grad()
    def course(self, batch: Rollout) -> Course:
        """Advantages and probabilities, as they are before the first pass."""
        told, metrics = self._weigh(batch)
        keep = batch.step % self.settings.diagnose_every_updates == 0
        before, alive = looked_at(self.model, batch, keep), batch.alive
        metrics |= self._episodes(batch) | {"policy/entropy": total(before.entropy * alive) / alive.sum((1, 2))}
        nothing = torch.zeros_like(told.value)
        return Course(batch, told, before, metrics, nothing > 0, nothing, nothing, nothing, nothing)

    def objective(self, batch: Minibatch) -> Estimate:  # type: ignore[override]
        """The mean return [R] at the first pass, later the surrogate; the gradient is that of the surrogate."""
        (course, at, weight), settings, model = batch, self.settings, self.model
        told, played, share = course.told, course.played, weight / weight.sum(1, keepdim=True)
        parameters = list(model.parameters())
        if shared := ranks.shared(count := at.shape[1]):
            own = ranks.share(count)
            at, share = at[:, own], share[:, own]
        advantage = gather(told.used * told.weight, at)
        with torch.enable_grad():
            observation = gather(played.observation, at)
            policy = model(observation)
            log_ratio = policy.log_prob(gather(played.action, at)) - gather(course.before.log_prob, at)
            surrogate = (clipped(log_ratio.exp(), advantage, settings.clip) * share).sum(1)
            sought = surrogate + along(self._coefficient(played.step), surrogate) * (policy.entropy() * share).sum(1)
            if model.critic:  # it has parameters of its own, and goes down its error
                unit = told.unit.reshape(-1, 1) if told.unit.dim() else told.unit
                error = (model.critic(observation) - gather(told.target, at)) / unit
                sought = sought + (error.square() * share).sum(1) / 2
            gradient = torch.autograd.grad(sought.sum(), parameters, allow_unused=True)
        surrogate, kl, stopped = surrogate.detach(), *self._seen(log_ratio.detach(), advantage, share)
        slopes: Sequence[Tensor | None] = gradient
        if shared:
            slopes = distributed.whole(gradient)
            surrogate, kl, stopped = distributed.summed(surrogate, kl, stopped)
        first = not course.taken.any() and not course.resting.any()
        self._note(course, surrogate, kl, stopped)
        value = told.value if first else surrogate
        notes = Played(course.before, (told.advantage * told.share).to(value.dtype), told.unit) if first else None
        return Estimate(value, Lazy(course.came_to), list(slopes), notes=notes, resting=course.resting)

    def _seen(self, log_ratio: Tensor, advantage: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """The divergence [R] from the policy that played, and the share [R] of the steps that the clip has stopped."""
        ratio = log_ratio.exp()
        stopped = clipped(ratio, advantage, self.settings.clip) != ratio * advantage
        return ((log_ratio.expm1() - log_ratio) * share).sum(1), (stopped * share).sum(1)

    def _note(self, course: Course, surrogate: Tensor, kl: Tensor, stopped: Tensor) -> None:
        """What a pass found: its divergence decides who rests from here on."""
        goes_on = ~course.resting
        if self.settings.kl_stop is not None:
            course.resting = course.resting | (kl > self.settings.kl_stop)
        course.clipped = course.clipped + stopped * ~course.resting
        course.taken = course.taken + ~course.resting
        course.kl = torch.where(goes_on, kl, course.kl)
        course.surrogate = torch.where(goes_on, surrogate, course.surrogate)


def clipped(ratio: Tensor, advantage: Tensor, clip: float | Tensor) -> Tensor:
    """min(r A, clip(r, 1 − ε, 1 + ε) A), equation 7."""
    own: Any = along(clip, ratio)
    return torch.minimum(ratio * advantage, ratio.clamp(1 - own, 1 + own) * advantage)

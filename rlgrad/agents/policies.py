"""Policies: from observations to a distribution over actions, one class for each kind of action space.

A policy computes its actions from noise of the replica's stream, so that another policy gets the same noise from the
same stream. Its distribution gives the probability of each action:

    policy(observation).log_prob(action), policy(observation).entropy()      [R, ...]

`choose` returns actions in the form that `log_prob` takes; `to_environment` converts them for the environment. Playing
needs no gradient, so it is done in numpy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Independent
from torch.nn import functional

from rlgrad.agents.normalisers import Normaliser
from rlgrad.environments.spaces import Picture
from rlgrad.networks import frozen
from rlgrad.replicas import along

UNBOUNDED = float(np.finfo(np.float32).max)  # a bound of this size counts as none

Deviation = Literal["learned", "state_dependent"]


class ActionDistribution(Protocol):
    """The distribution over the actions of R policies at observations [R, ...]."""

    def log_prob(self, action: Tensor) -> Tensor: ...
    def entropy(self) -> Tensor: ...
    def detach(self) -> "ActionDistribution": ...
    def divergence(self, other: Any) -> Tensor:
        """The Kullback-Leibler divergence [R, ...]: the mean of log p − log q. q: the other, of the same kind."""


class Policy(nn.Module):
    """The base class of policies. network: observation [R, ..., *O] -> [R, ..., outputs]. pictures: those in the
    observations."""

    pictures: Sequence[Picture] = ()

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        # whether it takes observations in double precision
        self.precise = isinstance(network, nn.Sequential) and isinstance(network[0], Normaliser)

    def forward(self, observation: Tensor) -> ActionDistribution:
        raise NotImplementedError

    def noise(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        """Draw the noise that `choose` needs for actions [*shape] of one replica."""
        raise NotImplementedError

    def actor(self) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
        """Return the current policy as a function: observations [R, B, *O], noise [R, B, ...] -> actions [R, B, *A]."""
        says = frozen(self.network)

        def act(observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
            return self.choose(says(observation), noise)

        return act

    def choose(self, found: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """Return the actions for the network's output and this noise; without noise the most probable actions."""
        raise NotImplementedError

    def to_environment(self, action: np.ndarray) -> np.ndarray:
        """Return actions [N, *A] in the form of the environment."""
        raise NotImplementedError


class Choice(Categorical):
    """A categorical distribution. Its entropy uses the normalized logits, which are there already. An action that is
    not legal has a logit of minus infinity, and counts nowhere."""

    @property
    def finite(self) -> Tensor:
        """The log-probabilities, with a finite number instead of minus infinity: 0 times this number is 0."""
        return self.logits.clamp(min=torch.finfo(self.logits.dtype).min)

    def entropy(self) -> Tensor:
        log_p: Tensor = self.logits  # normalized
        return (log_p.exp() * self.finite).sum(-1).neg()

    def detach(self) -> "Choice":
        return Choice(logits=self.logits.detach(), validate_args=False)

    def divergence(self, other: "Choice") -> Tensor:
        log_p: Tensor = self.logits
        return (log_p.exp() * excess(other.finite - self.finite)).sum(-1)


class CategoricalPolicy(Policy):
    """One choice between finitely many actions. Actions [R, ...]."""

    def __init__(self, network: nn.Module, actions: int, start: int = 0):
        super().__init__(network)
        self.actions, self.start = actions, start

    def forward(self, observation: Tensor) -> "Choice":
        return Choice(logits=self.network(observation), validate_args=False)

    def noise(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        return gumbel(rng, *shape, self.actions)

    def choose(self, found: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """The argmax of logits plus Gumbel noise has the softmax of the logits as its distribution (Gumbel 1954)."""
        return np.asarray((found if noise is None else found + noise).argmax(-1))

    def to_environment(self, action: np.ndarray) -> np.ndarray:
        return action + self.start if self.start else action


class MultiCategoricalPolicy(Policy):
    """Several choices at once, independent of each other given the observation. Actions [R, ..., K]."""

    def __init__(self, network: nn.Module, sizes: Sequence[int], start: np.ndarray):
        super().__init__(network)
        self.sizes, self.start = list(sizes), start
        self.starts = np.cumsum(self.sizes)[:-1]  # where the logits of each choice but the first begin

    def forward(self, observation: Tensor) -> "Several":
        logits = self.network(observation).split(self.sizes, -1)
        return Several([Choice(logits=each, validate_args=False) for each in logits])

    def noise(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        return gumbel(rng, *shape, sum(self.sizes))

    def choose(self, found: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        logits = found if noise is None else found + noise
        return np.stack([each.argmax(-1) for each in np.split(logits, self.starts, -1)], -1)

    def to_environment(self, action: np.ndarray) -> np.ndarray:
        return np.asarray(action.reshape(-1, *self.start.shape) + self.start)


@dataclass(frozen=True)
class Several:
    """Independent choices: their log-probabilities and their entropies add up."""

    each: list[Choice]

    def log_prob(self, action: Tensor) -> Tensor:
        """action [R, ..., K] -> [R, ...]."""
        chosen = zip(self.each, action.unbind(-1), strict=True)
        return torch.stack([one.log_prob(a) for one, a in chosen]).sum(0)  # type: ignore[no-untyped-call]

    def entropy(self) -> Tensor:
        return torch.stack([one.entropy() for one in self.each]).sum(0)

    def detach(self) -> "Several":
        return Several([one.detach() for one in self.each])

    def divergence(self, other: "Several") -> Tensor:
        return torch.stack([p.divergence(q) for p, q in zip(self.each, other.each, strict=True)]).sum(0)


class BernoulliPolicy(Policy):
    """Several switches. Actions [R, ..., K] of 0 and 1."""

    def __init__(self, network: nn.Module, shape: Sequence[int]):
        super().__init__(network)
        self.shape = tuple(shape)

    def forward(self, observation: Tensor) -> ActionDistribution:
        return Switches(self.network(observation))

    def noise(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        return rng.logistic(size=(*shape, math.prod(self.shape))).astype(np.float32)

    def choose(self, found: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """Logit plus logistic noise is above zero with the probability that belongs to the logit."""
        return ((found if noise is None else found + noise) > 0).astype(found.dtype)

    def to_environment(self, action: np.ndarray) -> np.ndarray:
        return action.reshape(-1, *self.shape).astype(np.int8)


class Switches(Independent):  # type: ignore[type-arg]
    """Independent switches, each on with a probability of its own."""

    def __init__(self, logits: Tensor):
        """logits: [R, ..., K]."""
        self.logits = logits
        super().__init__(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)

    def detach(self) -> "Switches":
        return Switches(self.logits.detach())

    def divergence(self, other: "Switches") -> Tensor:
        z, y, log_p = self.logits, other.logits, functional.logsigmoid  # log_p(z): of on; log_p(-z): of off
        each = z.sigmoid() * excess(log_p(y) - log_p(z)) + (-z).sigmoid() * excess(log_p(-y) - log_p(-z))
        return each.sum(-1)


class GaussianPolicy(Policy):
    """Normally distributed actions [R, ..., D], for a Box with D free elements, before they are brought into the box.
    An element whose two bounds are equal has this one value, and is not part of the distribution.

    If an element has two bounds, -1 and 1 stand for them. An element with one bound or none is in its own units, and
    clipped at its bound. Bounds at the limit of the number's type count as none. Actions beyond bounds are clipped, or
    with `squash` a tanh keeps all of them inside (Haarnoja et al. 2018, appendix C, https://arxiv.org/abs/1801.01290).

    deviation: learned: a parameter for each element, the same in all states; state_dependent: the second half of the
    network's outputs.
    """

    def __init__(
        self,
        network: nn.Module,
        box: spaces.Box,
        replicas: int,
        deviation: Deviation = "learned",
        initial_deviation: float | Tensor = 1.0,
        squash: bool = False,
    ):
        super().__init__(network)
        self.dtype, self.squash, self.free = box.dtype, squash, free(box)
        self.low, self.high, both = box.low, box.high, bounded(box)
        low, high = np.where(both, box.low, -1).astype(float), np.where(both, box.high, 1).astype(float)
        low, high = low[self.free], high[self.free]
        self.centre, self.reach = (low + high) / 2, (high - low) / 2
        self.volume = float(np.log(self.reach).sum())  # log of the factor from units of the policy to those of the box
        self.initial = initial_deviation.log() if isinstance(initial_deviation, Tensor) else math.log(initial_deviation)
        at_first = along(self.initial, torch.empty(replicas, 0)) + torch.zeros(replicas, int(self.free.sum()))
        self.log_deviation = nn.Parameter(at_first) if deviation == "learned" else None

    def forward(self, observation: Tensor) -> "Gaussian":
        return Gaussian(*self.mean_and_log_deviation(self.network(observation)), self.volume, self.squash)

    def mean_and_log_deviation(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of deviations [R, ..., D], from the network's output."""
        if self.log_deviation is None:
            mean, log_deviation = found.chunk(2, -1)
            return mean, log_deviation.clamp(-10, 3) + along(self.initial, log_deviation)
        return found, self.log_deviation.reshape(len(found), *[1] * (found.dim() - 2), -1).expand_as(found)

    def noise(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        return rng.standard_normal((*shape, int(self.free.sum())), dtype=np.float32)

    def actor(self) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
        if self.log_deviation is None:
            return super().actor()
        mean, deviation = frozen(self.network), np.exp(self.log_deviation.numpy(force=True))[:, None]

        def act(observation: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
            return mean(observation) if noise is None else mean(observation) + deviation * noise

        return act

    def choose(self, found: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """Return the actions for means and logarithms of deviations that depend on the state."""
        mean, log_deviation = self.mean_and_log_deviation(torch.from_numpy(found))
        return mean.numpy() if noise is None else mean.numpy() + np.exp(log_deviation.numpy(force=True)) * noise

    def to_environment(self, action: np.ndarray) -> np.ndarray:
        scaled = self.centre + self.reach * (np.tanh(action) if self.squash else action)
        whole = np.zeros((len(action), *self.free.shape))
        whole[:, self.free] = scaled  # the others have their only value from the bounds
        return np.asarray(whole.clip(self.low, self.high), dtype=self.dtype)


@dataclass(frozen=True)
class Gaussian:
    """Independent normal variables u, scaled and, if `squash`, passed through a tanh. In units of the environment."""

    mean: Tensor  # [R, ..., D]
    log_deviation: Tensor  # [R, ..., D]
    volume: float
    squash: bool

    def log_prob(self, action: Tensor) -> Tensor:
        """The log-density [R, ...] of the action that u [R, ..., D] becomes, before clipping."""
        standard = (action - self.mean) * (self.log_deviation.neg()).exp()
        log_density = (standard.square() / 2 + self.log_deviation + math.log(2 * math.pi) / 2).sum(-1).neg()
        return log_density - self.volume - (log_slope(action).sum(-1) if self.squash else 0)

    def entropy(self) -> Tensor:
        """The entropy [R, ...] in nats of u, in units of the environment, before clipping or squashing. A differential
        entropy may be negative. That of squashed actions has no closed form; it is lower by the mean of -log tanh'(u).
        """
        return (self.log_deviation + (1 + math.log(2 * math.pi)) / 2).sum(-1) + self.volume

    def detach(self) -> "Gaussian":
        return Gaussian(self.mean.detach(), self.log_deviation.detach(), self.volume, self.squash)

    def divergence(self, other: "Gaussian") -> Tensor:
        """The divergence of u. It is also that of the actions before clipping: scaling and squashing keep it."""
        ratio = self.log_deviation - other.log_deviation
        distance = (self.mean - other.mean) * other.log_deviation.neg().exp()
        return (excess(2 * ratio) + distance.square()).sum(-1) / 2


def free(box: spaces.Box) -> np.ndarray:
    """Which elements of a Box can have more than one value."""
    return np.asarray(box.low < box.high)


def bounded(box: spaces.Box) -> np.ndarray:
    """Which elements of a Box have two bounds. At the limit of the number's type they count as none."""
    kind: Any = box.dtype
    limit = min(UNBOUNDED, float(np.finfo(kind).max))
    return np.asarray((np.abs(box.low) < limit) & (np.abs(box.high) < limit))


def excess(log_ratio: Tensor) -> Tensor:
    """q/p − 1 − log(q/p), computed from log(q/p). Its mean under p is that of log(p/q), as all probabilities add up to
    1; and rounding never makes it negative."""
    return log_ratio.expm1() - log_ratio


def log_slope(u: Tensor) -> Tensor:
    """log tanh'(u) = log(1 - tanh² u), without loss of digits for large u."""
    return 2 * (math.log(2) - u - functional.softplus(-2 * u))


def gumbel(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw standard Gumbel variables: logits plus these are largest at each logit with its softmax probability."""
    exponential = rng.standard_exponential(shape, dtype=np.float32)
    return np.negative(np.log(np.maximum(exponential, np.finfo(np.float32).tiny)))


def outputs(space: spaces.Space[Any], deviation: Deviation = "learned") -> int | None:
    """The number of outputs that a network needs for an action space; None if no policy serves it."""
    match space:
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum()) or None
        case spaces.MultiBinary():
            return math.prod(space.shape)
        case spaces.Box() if np.issubdtype(space.dtype, np.floating):
            return int(free(space).sum()) * (2 if deviation == "state_dependent" else 1) or None
    return None


def policy_for(
    space: spaces.Space[Any],
    network: nn.Module,
    replicas: int,
    deviation: Deviation = "learned",
    initial_deviation: float | Tensor = 1.0,
    squash: bool = False,
) -> Policy:
    """Return the policy for an action space; its network has `outputs(space)` outputs. Raises TypeError for others."""
    match space:
        case spaces.Discrete():
            return CategoricalPolicy(network, int(space.n), int(space.start))
        case spaces.MultiDiscrete():
            return MultiCategoricalPolicy(network, space.nvec.flatten().tolist(), np.asarray(space.start))
        case spaces.MultiBinary():
            return BernoulliPolicy(network, space.shape)
        case spaces.Box():
            return GaussianPolicy(network, space, replicas, deviation, initial_deviation, squash)
    raise TypeError(f"no policy supports {space}")

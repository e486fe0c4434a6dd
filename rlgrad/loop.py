"""One training loop, two directions.

An objective knows whether it is to be maximized or minimized. `make_optimizer` turns that into the one sign of the
project, and `updates` moves the parameters without asking which way they go:

    θ ← θ + α ∇J(θ)    ascent, where J is to be maximized: an expected return, a log-likelihood
    θ ← θ − α ∇J(θ)    descent, where J is to be minimized: a loss, a cost

Every parameter carries a leading axis R of replicas: independent copies trained side by side. An objective returns
one value per replica; as replicas share no parameter, the gradient of the sum gives each exactly its own.
"""

import enum
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rlgrad import optimizers
from rlgrad.optimizers.curvature import Curvature
from rlgrad.optimizers.per_replica import ELEMENTWISE, PerReplica, parts_of
from rlgrad.replicas import clip_per_replica


class Direction(enum.Enum):
    """Which way an objective is to go. The values are also the modes of `ReduceLROnPlateau`."""

    MAXIMIZE = "max"
    MINIMIZE = "min"

    @property
    def sign(self) -> Literal[1, -1]:
        """The sign in θ ± α∇J. It also turns a score into this direction's objective: a score s is maximized as it is,
        and its cost, −s, is minimized; both have the same optimum, and their gradients differ in nothing but the sign.
        """
        return 1 if self is Direction.MAXIMIZE else -1

    @property
    def opposite(self) -> "Direction":
        return Direction.MINIMIZE if self is Direction.MAXIMIZE else Direction.MAXIMIZE


class Estimate(NamedTuple):
    """What a problem says of one batch."""

    value: Tensor  # [R] the objective; its gradient, unless stated below, is the gradient estimate
    metrics: Mapping[str, Tensor]  # [R] each, detached: what else is worth logging
    gradient: Sequence[Tensor | None] | None = None  # of each parameter, where the problem knows it
    curvature: Callable[[], Curvature] | None = None  # the second derivatives, which Newton needs


class Lazy(Mapping[str, Tensor]):
    """Metrics that are computed when the first of them is asked for: not every update is watched."""

    def __init__(self, compute: Callable[[], Mapping[str, Tensor]]):
        self._compute = compute

    @functools.cached_property
    def _found(self) -> Mapping[str, Tensor]:
        return self._compute()

    def __getitem__(self, name: str) -> Tensor:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class Problem(Protocol):
    """Anything the loop can train. The batch is the problem's own business: the loop only hands it on."""

    direction: Direction

    @property
    def model(self) -> nn.Module:
        """Its parameters are [R, ...]."""

    def sample(self, step: int) -> Any:
        """The data of update `step`: play episodes, draw a minibatch, or nothing at all."""

    def objective(self, batch: Any) -> Estimate:
        """The objective on that data, at the parameters as they are now."""

    # optional: curved = True, where its estimates have a curvature and Newton's method is possible


class Update(NamedTuple):
    """One step of the parameters, as `updates` yields it. Value, metrics and gradient are those before the step."""

    step: int
    value: Tensor  # [R] the objective
    metrics: Mapping[str, Tensor]  # [R] each
    norm: Callable[[], Tensor]

    @property
    def gradient_norm(self) -> Tensor:
        """[R] Euclidean norm, before clipping; until the next update, and computed when asked for."""
        return self.norm()


def updates(
    problem: Problem, optimizer: torch.optim.Optimizer, first: int = 0, max_gradient_norm: float = math.inf
) -> Iterator[Update]:
    """Train for ever, one update at a time; whoever iterates decides what to watch, what to keep and when to stop.

    The data of an update is drawn with the parameters that the previous one left behind: rollouts are on-policy.

    first: the number of the first update, where a run is continued.
    max_gradient_norm: the gradient of each replica is scaled down to this Euclidean norm.
    """
    parameters = list(problem.model.parameters())
    for step in itertools.count(first):
        batch = problem.sample(step)
        evaluations: list[tuple[Estimate, Callable[[], Tensor]]] = []  # LBFGS makes several a step, most others one

        def evaluate(curved: bool = False) -> Any:
            if curved:  # Newton's method asks this as well, of the last place
                return evaluations[-1][0].curvature()  # type: ignore[misc]  # noqa: B023
            estimate = problem.objective(batch)  # noqa: B023 - called within this step only
            differentiate(estimate, parameters)
            evaluations.append((estimate, clip_per_replica(parameters, max_gradient_norm)))  # noqa: B023
            return estimate.value.detach()

        optimizer.step(evaluate)  # θ + α∇J where J is maximized, θ − α∇J where minimized
        estimate, norm = evaluations[0]
        yield Update(step, estimate.value.detach(), estimate.metrics, norm)


def differentiate(estimate: Estimate, parameters: Sequence[nn.Parameter]) -> None:
    """Give each parameter its gradient of the objective, in place of any that it had."""
    for parameter, gradient in zip(parameters, estimate.gradient or itertools.repeat(None)):  # noqa: B905
        parameter.grad = gradient
    if estimate.gradient is None:
        estimate.value.sum().backward()  # type: ignore[no-untyped-call]


def make_optimizer(
    problem: Problem, name: str = "SGD", *, direction: Direction | None = None, **arguments: Any
) -> torch.optim.Optimizer:
    """The optimizer of that name in rlgrad.optimizers, where torch's are too, going the problem's way.

    direction: another way than the problem's own (to see what the wrong sign does).
    arguments: the optimizer's own. Raises what it raises where they are wrong.
    """
    parts = parts_of(problem.model, (direction or problem.direction).sign)
    optimizer_class = getattr(optimizers, name)
    if name == "Newton":
        if len(parts) > 1 or not getattr(problem, "curved", False):
            raise ValueError("it needs a curvature, which this problem does not have")
        return optimizers.Newton(parts[0].parameters, parts[0].sign, **arguments)
    if name in ELEMENTWISE:
        groups = [dict(params=p.parameters, maximize=p.sign > 0, **p.arguments) for p in parts]
        if "fused" not in arguments:  # what torch chooses on a CPU, where asking it at every step takes as long as SGD
            arguments.setdefault("foreach", False)
        optimizer: torch.optim.Optimizer = optimizer_class(groups, **arguments)
        return optimizer
    return PerReplica(parts, optimizer_class, arguments)

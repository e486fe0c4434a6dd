"""Tools to check a problem: compute its gradient without a step, turn its direction, compare bit for bit."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlgrad.loop import Estimate, Problem, differentiate, parameters_apart


class Turned(Problem):
    """A problem with the opposite direction, and its objective times a factor. Parts that are `Apart` do not change."""

    def __init__(self, problem: Problem, factor: int):
        with suppress(AttributeError):  # `direction` may be read-only
            problem.direction = problem.direction.opposite
        self.problem, self.factor, self.direction = problem, factor, problem.direction
        self.model, self.line_search = problem.model, problem.line_search
        self.curved, self.informed = problem.curved, problem.informed
        self.sample, self.passes = problem.sample, problem.passes  # type: ignore[method-assign]
        self.parameters = list(problem.model.parameters())
        self.apart = parameters_apart(self.model)

    def objective(self, batch: Any) -> Estimate:
        """The estimate of the problem, with value and gradient times the factor."""
        estimate = self.problem.objective(batch)
        gradient = estimate.gradient
        if gradient is None and torch.is_grad_enabled():
            differentiate(estimate, self.parameters)
            gradient = [parameter.grad for parameter in self.parameters]
        if gradient is not None:
            pairs = zip(self.parameters, gradient, strict=True)
            gradient = [g if g is None or p in self.apart else g * self.factor for p, g in pairs]
        return Estimate(estimate.value.detach() * self.factor, {}, gradient)


def probe(problem: Problem, step: int) -> list[list[Tensor]]:
    """For each pass of an update: the value [R], and the gradient [R, ...] of each parameter. No parameter is moved."""
    parameters, found = list(problem.model.parameters()), []
    for batch in problem.passes(problem.sample(step)):
        differentiate(estimate := problem.objective(batch), parameters)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
        found.append([estimate.value.detach(), *gradients])
    return found


def equal(a: Any, b: Any) -> bool:
    """Deep equality. Tensors are compared element by element, and NaN equals NaN."""
    if isinstance(a, Tensor):
        same = a.shape == b.shape and a.dtype == b.dtype
        return same and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def per_replica(whose: str, metrics: Mapping[str, Any], replicas: int) -> str | None:
    """A sentence on the first metric that is not a detached tensor [R], or None. whose: the method that returned it."""
    for name, metric in metrics.items():
        if not isinstance(metric, Tensor) or list(metric.shape) != [replicas]:
            shape = list(metric.shape) if isinstance(metric, Tensor) else f"of {type(metric).__name__}"
            return f"{whose} must give the metric {name!r} as a tensor with one number for each replica, not {shape}"
        if metric.requires_grad:
            return f"{whose} must detach the metric {name!r}: as it is, it keeps the graph of its update alive"
    return None


def seed(number: int) -> None:
    """Seed all global random generators."""
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


@contextmanager
def generators_restored() -> Iterator[None]:
    """Restore the state of all global random generators after the body of a `with`."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])

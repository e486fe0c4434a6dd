"""Parts of a model, and optimizers that consist of other optimizers."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

Arguments = Mapping[str, Any]  # of an optimizer; a number that differs between the R replicas is a tensor [R]


class Part(NamedTuple):
    """Parameters that have one direction: all maximize, or all minimize."""

    parameters: list[nn.Parameter]
    sign: Literal[1, -1]
    arguments: Arguments = {}  # optimizer arguments for these parameters only


class Stretch(NamedTuple):
    """Neighbouring replicas whose optimizer has the same arguments."""

    replicas: slice
    arguments: Arguments
    of_parts: Sequence[Arguments]

    @property
    def width(self) -> int:
        return int(self.replicas.stop - self.replicas.start)


def stretches(parts: Sequence[Part], arguments: Arguments) -> list[Stretch]:
    """Divide all replicas into stretches, in order."""
    given, count = [arguments, *(part.arguments for part in parts)], len(parts[0].parameters[0])
    if not any(varies(value) for each in given for value in each.values()):
        return [Stretch(slice(0, count), arguments, given[1:])]
    every = [[of_one(each, replica) for each in given] for replica in range(count)]
    ends = [0, *(k for k in range(1, count) if every[k] != every[k - 1]), count]
    return [Stretch(slice(a, b), every[a][0], every[a][1:]) for a, b in itertools.pairwise(ends)]


def require(good: Any, message: str, value: Any) -> None:
    """Raises ValueError, with this message and the value, unless an argument is good in all replicas."""
    if not np.all(good):
        raise ValueError(f"{message}, not {value!r}")


def is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 1


def varies(value: Any) -> bool:
    """Return whether an argument, or an element of it, is a tensor [R]."""
    inner = value if isinstance(value, list | tuple) else ()
    return (isinstance(value, Tensor) and value.ndim == 1) or any(map(varies, inner))


def of_one(value: Any, replica: int) -> Any:
    """The value of an argument, or of all of them, for one replica."""
    if isinstance(value, Mapping):
        return {name: of_one(inner, replica) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(of_one(inner, replica) for inner in value)
    return value[replica].item() if varies(value) else value


class Together(torch.optim.Optimizer):
    """An optimizer that moves all replicas at once. It has a group for each stretch of replicas with the same
    arguments, so that a schedule reaches them; all parameters are in the first group.

    sign: 1 if the objective is to be maximized, -1 if it is to be minimized.
    """

    def __init__(self, params: Iterable[Any], sign: Literal[1, -1], arguments: Arguments):
        parameters = list(params)
        found = stretches([Part(parameters, sign)], arguments)
        self.sign, self.widths = sign, [each.width for each in found]
        groups = [{"params": [] if number else parameters, **each.arguments} for number, each in enumerate(found)]
        super().__init__(groups, dict(found[0].arguments))


def of_each(optimizer: torch.optim.Optimizer, name: str) -> Any:
    """A number of the groups of an optimizer's first part: [R], or the one value that all replicas have."""
    inner = optimizer.each[0] if isinstance(optimizer, ByPart) else optimizer
    widths = vars(inner).get("widths", [1])  # numbers of replicas of the stretches
    values = [group[name] for group in inner.param_groups[:: len(inner.param_groups) // len(widths)]]
    return values[0] if len(values) == 1 else np.repeat(values, widths)


def groups_of_each(optimizer: torch.optim.Optimizer) -> list[list[dict[str, Any]]]:
    """The groups of each stretch of replicas; an empty list if the parts of a model have different stretches."""
    found: dict[tuple[int, ...], list[list[dict[str, Any]]]] = {}
    for inner in optimizer.each if isinstance(optimizer, ByPart) else [optimizer]:
        widths = tuple(vars(inner).get("widths", ()))
        parts = len(inner.param_groups) // max(1, len(widths))
        each = [inner.param_groups[n * parts : (n + 1) * parts] for n in range(len(widths))]
        found[widths] = [a + b for a, b in zip(found.get(widths, [[]] * len(widths)), each, strict=True)]
    return next(iter(found.values())) if len(found) == 1 else []


class Composite(torch.optim.Optimizer):
    """An optimizer that consists of other optimizers, `each`; its state includes their states."""

    each: list[torch.optim.Optimizer]

    def state_dict(self) -> dict[str, Any]:
        return {"all": super().state_dict(), "each": [optimizer.state_dict() for optimizer in self.each]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["all"])
        for optimizer, state in zip(self.each, state_dict["each"], strict=True):
            optimizer.load_state_dict(state)


class ByPart(Composite):
    """One optimizer for each part of a model. A part that has no gradient in a pass is not moved in it.

    All get the gradient from the start of the pass, so two optimizers of one kind move as one with two groups would. An
    optimizer that evaluates more than once sees the earlier parts already moved: put it first.
    """

    def __init__(self, each: Sequence[torch.optim.Optimizer]):
        self.each = list(each)
        # the same group objects, so that a schedule reaches them
        super().__init__([group for optimizer in each for group in optimizer.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override]
        with torch.enable_grad():
            value = closure()
        gradients = [(p, p.grad) for group in self.param_groups for p in group["params"]]
        for optimizer in self.each:
            for parameter, gradient in gradients:
                parameter.grad = gradient
            if any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
                optimizer.step(Known(closure, value))  # type: ignore[arg-type]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimizer, state in zip(self.each, state_dict["each"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for optimizer in self.each for group in optimizer.param_groups]


class Known:
    """A closure whose first call returns a known value; everything else is passed on to the inner closure."""

    def __init__(self, closure: Callable[[], Tensor], value: Tensor):
        self.closure, self.answers = closure, iter((value,))

    def __call__(self) -> Tensor:
        for value in self.answers:
            return value
        return self.closure()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.closure, name)

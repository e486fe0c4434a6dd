"""Parts of a model, and optimizers that are made of others."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn


class Part(NamedTuple):
    """Parameters that go one way."""

    parameters: list[nn.Parameter]
    sign: Literal[1, -1]
    arguments: Mapping[str, Any] = {}  # of the optimizer, for these parameters only


class Composite(torch.optim.Optimizer):
    """An optimizer that is made of others, `each`, whose states are its own."""

    each: list[torch.optim.Optimizer]

    def state_dict(self) -> dict[str, Any]:
        return {"all": super().state_dict(), "each": [optimizer.state_dict() for optimizer in self.each]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["all"])
        for optimizer, state in zip(self.each, state_dict["each"], strict=True):
            optimizer.load_state_dict(state)


class ByPart(Composite):
    """Optimizers of their own for parts of a model. One that has no gradient in a pass does not move its part then.

    All see the gradient where the pass began, and so two optimizers of one kind move as one with two groups would. One
    that evaluates more often than once sees the parts before it where they have come to: put it first.
    """

    def __init__(self, each: Sequence[torch.optim.Optimizer]):
        self.each = list(each)
        # the very groups of the others, so that a schedule reaches them
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
    """A closure whose first call is answered already; all else is asked of the closure behind it."""

    def __init__(self, closure: Callable[[], Tensor], value: Tensor):
        self.closure, self.answers = closure, iter((value,))

    def __call__(self) -> Tensor:
        for value in self.answers:
            return value
        return self.closure()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.closure, name)

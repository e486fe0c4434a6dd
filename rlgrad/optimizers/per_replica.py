"""One optimizer for each replica, for those of torch's that couple the elements of their parameters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

# These update every element on its own, so one optimizer serves all replicas at once. Any other couples the elements
# of its parameters (LBFGS by its line search, Muon and Adafactor by their norms): there each replica gets its own.
COST: Literal[-1] = -1  # the sign of what is minimized
ELEMENTWISE = frozenset(
    {"SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "Adagrad", "Adadelta", "ASGD"}
)


class Part(NamedTuple):
    """Parameters that go one way."""

    parameters: list[nn.Parameter]
    sign: Literal[1, -1]  # 1 where their objective is maximized, -1 where it is minimized
    arguments: Mapping[str, Any] = {}  # of the optimizer, for these parameters only


def parts_of(model: nn.Module, sign: Literal[1, -1]) -> list[Part]:
    """The parameters by the way they go. All go the problem's, but for those of a module that has a `direction` of its
    own: a critic descends its error while the policy that it judges ascends. Such a module may also have `arguments`
    for the optimizer, such as a learning rate.
    """
    inner = [module for module in model.modules() if module is not model]
    others = [module for module in inner if hasattr(module, "direction")]
    apart = {parameter for module in others for parameter in module.parameters()}
    parts = [Part([parameter for parameter in model.parameters() if parameter not in apart], sign)]
    return parts + [Part(list(m.parameters()), m.direction.sign, getattr(m, "arguments", {})) for m in others]  # type: ignore[arg-type]


class PerReplica(torch.optim.Optimizer):
    """One optimizer for each replica, so that no replica feels another.

    Each works on views of its slice of the parameters. All of them minimize, and so see the objective and its
    gradient with the sign that makes a minimum of what is sought: this serves optimizers without `maximize=` too.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        optimizer_class: Callable[..., torch.optim.Optimizer],
        arguments: Mapping[str, Any],
    ):
        self.parameters = [parameter for part in parts for parameter in part.parameters]
        # +1 where the objective is a cost already
        self.signs = [COST * part.sign for part in parts for _ in part.parameters]
        self.slices: list[list[Tensor]] = []
        self.each = []
        for k in range(len(self.parameters[0])):
            views = [[p.detach()[k].requires_grad_() for p in part.parameters] for part in parts]
            groups = [{"params": view, **part.arguments} for view, part in zip(views, parts, strict=True)]
            self.slices.append([view for group in views for view in group])
            self.each.append(optimizer_class(groups, **arguments))
        whole = [{"params": part.parameters, **part.arguments} for part in parts]
        super().__init__(whole, dict(self.each[0].defaults))

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override]
        """`closure` evaluates the objective [R] and its gradient, for all replicas at once."""
        for replica, (optimizer, slices) in enumerate(zip(self.each, self.slices, strict=True)):

            def cost(replica: int = replica, slices: list[Tensor] = slices) -> Tensor:
                with torch.enable_grad():
                    value = closure()
                for view, parameter, sign in zip(slices, self.parameters, self.signs, strict=True):
                    view.grad = None if parameter.grad is None else sign * parameter.grad[replica]
                return self.signs[0] * value[replica]

            for inner, outer in zip(optimizer.param_groups, self.param_groups, strict=True):
                inner.update(
                    {key: value for key, value in outer.items() if key != "params"}
                )  # as a schedule has set it
            optimizer.step(cost)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        return {"all": super().state_dict(), "each": [optimizer.state_dict() for optimizer in self.each]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["all"])
        for optimizer, state in zip(self.each, state_dict["each"], strict=True):
            optimizer.load_state_dict(state)

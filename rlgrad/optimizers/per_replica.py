"""One optimizer for each replica, for those of torch's that couple the elements of their parameters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from rlgrad.optimizers.parts import Composite, Part

COST: Literal[-1] = -1  # the sign of what is minimized


class PerReplica(Composite):
    """One optimizer for each replica, so that no replica feels another.

    Each works on views of its slice of the parameters. All of them minimize, and so see the objective and its
    gradient with the sign that makes a minimum of what is sought: this serves optimizers without `maximize=` too.
    They step side by side: one evaluation, of all replicas together, answers all that wait for one. So a step takes as
    many evaluations as the slowest replica needs. A replica that the problem lets rest is not moved, nor is what its
    optimizer remembers.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        optimizer_class: Callable[..., torch.optim.Optimizer],
        arguments: Mapping[str, Any],
    ):
        self.parameters = [parameter for part in parts for parameter in part.parameters]
        self.signs = [COST * part.sign for part in parts for _ in part.parameters]  # +1 where it is a cost already
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
        for optimizer in self.each:
            for inner, outer in zip(optimizer.param_groups, self.param_groups, strict=True):
                inner.update({key: value for key, value in outer.items() if key != "params"})  # as a schedule set it
        value, answered = torch.empty(0), set[int]()

        def evaluate() -> None:
            nonlocal value
            with torch.enable_grad():
                value = closure()

        def steps(replica: int) -> Callable[[Callable[[], Any]], Any]:
            def cost(wait: Callable[[], Any]) -> Any:
                if replica in answered:
                    wait()
                answered.add(replica)
                for view, parameter, sign in zip(self.slices[replica], self.parameters, self.signs, strict=True):
                    view.grad = None if parameter.grad is None else sign * parameter.grad[replica]
                return self.signs[0] * value[replica]

            return lambda wait: self.each[replica].step(lambda: cost(wait))

        evaluate()
        resting = getattr(closure, "resting", None)  # of an evaluation whose problem lets replicas rest
        active = [k for k in range(len(self.each)) if resting is None or not resting[k]]
        if len(active) == 1:
            steps(active[0])(evaluate)
        elif active:
            side_by_side([steps(replica) for replica in active], evaluate)


def side_by_side(steps: Sequence[Callable[[Callable[[], Any]], Any]], evaluate: Callable[[], None]) -> None:
    """Run some functions side by side. Each is given a function that it calls to wait for an evaluation; when all that
    are not done are waiting, there is one for all of them."""
    from greenlet import getcurrent, greenlet

    here = getcurrent()
    waiting = [greenlet(step) for step in steps]
    for each in waiting:
        each.switch(here.switch)  # until it waits for the first time
    while waiting := [each for each in waiting if not each.dead]:
        evaluate()
        for each in waiting:
            each.switch()

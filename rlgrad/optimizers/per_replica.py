"""One optimizer per replica, or per stretch of replicas: for those of torch's optimizers that couple the elements of
their parameters, and for replicas with different arguments."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from rlgrad.optimizers.parts import Arguments, Composite, Part, Stretch, stretches

COST: Literal[-1] = -1  # the sign of a minimized objective


class Sliced(Composite):
    """Several optimizers, each for some replicas, on views of their slice of the parameters. Each stretch of replicas
    with the same arguments has one group per part; all parameters are in the groups of the first stretch.

    places: for each optimizer, the replicas it moves (a number, which drops the axis, or a slice) and their stretch;
    None: one for each stretch.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        found: Sequence[Stretch],
        make: Callable[[list[dict[str, Any]], Arguments], torch.optim.Optimizer],
        places: Sequence[tuple[int | slice, Stretch]] | None = None,
    ):
        places = places or [(each.replicas, each) for each in found]
        self.parameters = [parameter for part in parts for parameter in part.parameters]
        self.views: list[list[Tensor]] = []
        self.each = []
        self.stretch = [found.index(stretch) for _, stretch in places]  # for each optimizer, the number of its stretch
        for place, stretch in places:
            views = [[p.detach()[place].requires_grad_() for p in part.parameters] for part in parts]
            groups = [{"params": view, **own} for view, own in zip(views, stretch.of_parts, strict=True)]
            self.views.append([view for group in views for view in group])
            self.each.append(make(groups, stretch.arguments))
        whole = []
        for number in range(len(found)):
            inner = self.each[self.stretch.index(number)].param_groups
            parameters = [[] if number else part.parameters for part in parts]
            whole += [{**group, "params": own} for group, own in zip(inner, parameters, strict=True)]
        super().__init__(whole, dict(self.each[0].defaults))
        self.stretches, self.parts, self.widths = found, len(parts), [each.width for each in found]

    def tell(self) -> None:
        """Pass the groups' numbers, which a schedule may have changed, on to the inner optimizers."""
        for optimizer, number in zip(self.each, self.stretch, strict=True):
            outer = self.param_groups[number * self.parts : (number + 1) * self.parts]
            for inner, group in zip(optimizer.param_groups, outer, strict=True):
                inner.update({key: value for key, value in group.items() if key != "params"})


class PerStretch(Sliced):
    """One optimizer for each stretch of replicas, for those of torch's optimizers that work element by element."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override]
        self.tell()
        with torch.enable_grad():
            closure()
        for optimizer, views, number in zip(self.each, self.views, self.stretch, strict=True):
            for view, parameter in zip(views, self.parameters, strict=True):
                view.grad = None if parameter.grad is None else parameter.grad[self.stretches[number].replicas]
            optimizer.step()


class PerReplica(Sliced):
    """One optimizer for each replica, so that no replica affects another.

    All of them minimize: an objective to maximize is given to them with the sign changed, because some have no
    `maximize=`. They step side by side: one evaluation of all replicas serves all optimizers that wait for one. So a
    step takes as many evaluations as the slowest replica needs. If a replica rests, neither it nor the state of its
    optimizer changes.
    """

    def __init__(
        self, parts: Sequence[Part], optimizer_class: Callable[..., torch.optim.Optimizer], arguments: Arguments
    ):
        self.signs = [COST * part.sign for part in parts for _ in part.parameters]  # +1 if it is minimized already
        found = stretches(parts, arguments)
        places = [(k, each) for each in found for k in range(each.replicas.start, each.replicas.stop)]
        super().__init__(parts, found, lambda groups, arguments: optimizer_class(groups, **arguments), places)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override]
        """`closure` evaluates the objective [R] and its gradient, for all replicas at once."""
        self.tell()
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
                for view, parameter, sign in zip(self.views[replica], self.parameters, self.signs, strict=True):
                    own = None if parameter.grad is None else parameter.grad[replica]
                    view.grad = None if own is None else (sign * own).contiguous()  # as LBFGS flattens it
                return self.signs[0] * value[replica]

            return lambda wait: self.each[replica].step(lambda: cost(wait))

        evaluate()
        resting = getattr(closure, "resting", None)  # known if the problem lets replicas rest
        active = [k for k in range(len(self.each)) if resting is None or not resting[k]]
        if len(active) == 1:
            steps(active[0])(evaluate)
        elif active:
            side_by_side([steps(replica) for replica in active], evaluate)


def side_by_side(steps: Sequence[Callable[[Callable[[], Any]], Any]], evaluate: Callable[[], None]) -> None:
    """Run several functions side by side. Each is given a function that it calls to wait for an evaluation. When all
    functions that are not done are waiting, `evaluate` is called once for all of them."""
    from greenlet import getcurrent, greenlet

    here = getcurrent()
    waiting = [greenlet(step) for step in steps]
    for each in waiting:
        each.switch(here.switch)  # until it waits for the first time
    while waiting := [each for each in waiting if not each.dead]:
        evaluate()
        for each in waiting:
            each.switch()

"""The optimizers of a config: all of torch's, and three that torch does not have. They take a sign: 1 to
maximize an objective, -1 to minimize it.
"""

from collections.abc import Sequence
from typing import Any

from torch.optim import *  # noqa: F403 - a config finds them all by name in this one module
from torch.optim import Optimizer

from rlgrad.optimizers.natural import NaturalGradient
from rlgrad.optimizers.newton import Newton
from rlgrad.optimizers.parts import Arguments, ByPart, Composite, Part, stretches
from rlgrad.optimizers.per_replica import PerReplica, PerStretch
from rlgrad.optimizers.proximal import Proximal

__all__ = ["ByPart", "Composite", "NaturalGradient", "Newton", "Part", "PerReplica", "Proximal", "make"]

# These update every element on its own, so one optimizer serves all replicas at once. The others couple the elements
# of their parameters (LBFGS by its line search, Muon and Adafactor by norms), so each replica has its own.
ELEMENTWISE = {"SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "Adagrad", "Adadelta", "ASGD"}


def make(name: str, parts: Sequence[Part], arguments: Arguments, rests: bool = False) -> Optimizer:
    """Make the optimizer of that name for all replicas of these parts. Raises its errors if arguments are wrong.

    arguments: the optimizer's arguments. A number that differs between the R replicas is a tensor [R].
    rests: whether some replicas may rest in a pass while others move: then each replica has its own optimizer.
    """
    optimizer_class: Any = globals()[name]
    signed = name in ("Newton", "NaturalGradient", "Proximal")  # they take the direction themselves
    if len(parts) > 1 and (signed or name == "LBFGS"):
        message = "it moves a model as a whole, and one part of this one goes the other way: give that part an "
        raise ValueError(message + "optimizer of its own, such as critic: {optimizer: {name: Adam, lr: 1e-3}}")
    if signed:
        return optimizer_class(parts[0].parameters, parts[0].sign, **arguments)  # type: ignore[no-any-return]
    if rests or name not in ELEMENTWISE:
        return PerReplica(parts, optimizer_class, arguments)
    if "fused" not in arguments:  # torch's own choice on a CPU; making it at every step takes as long as SGD
        arguments = {"foreach": False, **arguments}

    def elementwise(groups: list[dict[str, Any]], arguments: Arguments) -> Optimizer:
        signed = [dict(group, maximize=part.sign > 0) for group, part in zip(groups, parts, strict=True)]
        return optimizer_class(signed, **arguments)  # type: ignore[no-any-return]

    found = stretches(parts, arguments)
    if len(found) > 1:
        return PerStretch(parts, found, elementwise)
    groups = [{"params": part.parameters, **own} for part, own in zip(parts, found[0].of_parts, strict=True)]
    return elementwise(groups, found[0].arguments)

"""The optimizers of a config: all of torch's, and two that torch does not have. They know a sign: 1 where
an objective is to be maximized, -1 where it is to be minimized.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import *  # noqa: F403 - a config finds them all by name in this one module
from torch.optim import Optimizer

from rlgrad.optimizers.natural import NaturalGradient
from rlgrad.optimizers.newton import Newton
from rlgrad.optimizers.parts import ByPart, Composite, Part
from rlgrad.optimizers.per_replica import PerReplica

__all__ = ["ByPart", "Composite", "NaturalGradient", "Newton", "Part", "PerReplica", "make"]

# These update every element on its own, so one optimizer serves all replicas at once. Any other couples the elements
# of its parameters (LBFGS by its line search, Muon and Adafactor by their norms): there each replica gets its own.
ELEMENTWISE = frozenset(
    {"SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "Adagrad", "Adadelta", "ASGD"}
)


def make(name: str, parts: Sequence[Part], arguments: Mapping[str, Any], rests: bool = False) -> Optimizer:
    """The optimizer of that name for all replicas of these parts. Raises what it raises where arguments are wrong.

    rests: whether some replicas may rest in a pass while others move: then each has an optimizer of its own.
    """
    optimizer_class = globals()[name]
    if name in ("Newton", "NaturalGradient"):
        if len(parts) > 1:
            message = (
                "it moves a model as a whole, and this one has a part that goes another way: give that an optimizer "
            )
            raise ValueError(message + "of its own, such as critic: {optimizer: {name: Adam, lr: 1e-3}}")
        made: Optimizer = optimizer_class(parts[0].parameters, parts[0].sign, **arguments)
        return made
    if rests or name not in ELEMENTWISE:
        return PerReplica(parts, optimizer_class, arguments)
    groups = [dict(params=part.parameters, maximize=part.sign > 0, **part.arguments) for part in parts]
    if "fused" not in arguments:  # what torch chooses on a CPU, where asking it at every step takes as long as SGD
        arguments = {"foreach": False, **arguments}
    optimizer: Optimizer = optimizer_class(groups, **arguments)
    return optimizer

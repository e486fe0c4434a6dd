"""Replicas that diverge: the run stops, or they are set aside and the others go on.

A replica that is set aside keeps its last finite parameters. It is still computed, because it shares every tensor with
the others, but it does not affect them: replicas share no parameter, and no element of an optimizer's state. It is not
logged any more, and no statistic includes it.
"""

import math
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from rlgrad.errors import RunError

WATCHED = ("objective/value", "gradient/norm", "update/size")
HINT = "a smaller learning rate or a max_gradient_norm may help"


def judge(step: int, values: Mapping[str, Tensor], set_aside: dict[int, int], policy: str) -> list[str]:
    """Add the replicas that diverged in this update, with its number, to `set_aside`; return a sentence for each.

    values: [R] each. policy: `stop`, or `set_aside`. Raises RunError if the run must stop or no replica is left.
    """
    if all(bool(values[tag].isfinite().all()) for tag in WATCHED):
        return []
    found: dict[int, str] = {}
    for tag in WATCHED:
        for replica in (~values[tag].isfinite()).nonzero().flatten().tolist():
            if replica not in set_aside:
                found.setdefault(replica, f"{tag} of replica {replica} is not finite")
    if found and policy == "stop":
        raise RunError(f"{found[min(found)]}; {HINT}")
    left = len(values[WATCHED[0]]) - len(set_aside) - len(found)
    if found and not left:
        raise RunError(f"{found[min(found)]}, and no other replica is left; {HINT}")
    set_aside |= dict.fromkeys(sorted(found), step)
    return [f"update {step}: {sentence}: it is set aside, {left} go on" for sentence in found.values()]


def freeze(parameters: Iterable[Tensor], before: Iterable[Tensor], set_aside: Collection[int]) -> None:
    """Undo the update for the replicas set aside. before: the parameters before the update."""
    with torch.no_grad():
        for parameter, kept in zip(parameters, before, strict=True):
            for replica in set_aside:
                parameter[replica] = kept[replica]


def blank(values: Mapping[str, Tensor], set_aside: Collection[int]) -> dict[str, Tensor]:
    """The values with NaN for the replicas set aside; files have null there."""
    if not set_aside:
        return dict(values)
    gone = list(set_aside)
    return {tag: value.double().index_fill(0, torch.tensor(gone), math.nan) for tag, value in values.items()}

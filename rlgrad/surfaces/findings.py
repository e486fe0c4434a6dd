"""Words for what points on a surface have reached."""

from collections.abc import Sequence

from torch import Tensor

from rlgrad.surfaces.calculus import Kind

SAME_PLACE = 0.01  # points that end within this distance of each other are reported together


SETTLED = {Kind.MINIMUM, Kind.MAXIMUM, Kind.SADDLE, Kind.KINK}  # kinds of points that are isolated


def groups(point: Tensor, kinds: Sequence[Kind]) -> list[list[int]]:
    """Group points [R, D] of one kind (and for isolated kinds, in one place): lists of replica numbers."""
    result: list[list[int]] = []
    for replica, kind in enumerate(kinds):
        for group in result:
            near = (point[replica] - point[group[0]]).norm() < SAME_PLACE
            if kinds[group[0]] is kind and (near or kind not in SETTLED):
                group.append(replica)
                break
        else:
            result.append([replica])
    return result


def place(variables: Sequence[str], point: Tensor) -> str:
    """'x = 1.5, y = 0' for a point [D]."""
    return ", ".join(f"{name} = {number(x)}" for name, x in zip(variables, point, strict=True))


def number(x: Tensor) -> str:
    """A number with four digits; a rounding error such as -1e-17 is written as 0."""
    return f"{round(float(x), 6) + 0.0:.4g}"


def span(low: Tensor, high: Tensor) -> str:
    return f"{number(low)} to {number(high)}"


def counted(replicas: Sequence[int], of: int) -> str:
    """'replica 3', 'replicas 0, 1 and 4', 'all 8 replicas'."""
    if len(replicas) == 1:
        return f"replica {replicas[0]}"
    if len(replicas) == of:
        return f"all {of} replicas"
    *most, last = map(str, replicas)
    return f"replicas {', '.join(most)} and {last}"

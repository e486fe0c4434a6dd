"""Functions with known extrema: every built-in surface is a row of the table."""

import math
from typing import Literal, NamedTuple

from rlgrad.surfaces.calculus import Kind

Box = dict[str, tuple[float, float]]  # low and high of each variable


class Extremum(NamedTuple):
    """A known extremum of a surface."""

    kind: Kind
    point: tuple[float, ...]  # coordinates in the order of the variables' names
    value: float


class Surface(NamedTuple):
    """A built-in function."""

    expression: str
    direction: Literal["minimize", "maximize"]  # the direction in which f has an extremum
    box: Box  # where starting points are drawn
    extrema: tuple[Extremum, ...]


def minimum(*point: float, value: float = 0.0) -> Extremum:
    return Extremum(Kind.MINIMUM, point, value)


def maximum(*point: float, value: float = 0.0) -> Extremum:
    return Extremum(Kind.MAXIMUM, point, value)


def square(size: float) -> Box:
    return {"x": (-size, size), "y": (-size, size)}


SURFACES = {
    # Convex: descent finds the one minimum from everywhere.
    "bowl": Surface("x**2 + 3*y**2", "minimize", square(2), (minimum(0, 0),)),
    # Concave, the bowl upside down: ascent finds the one maximum from everywhere.
    "dome": Surface("-(x**2 + 3*y**2)", "maximize", square(2), (maximum(0, 0),)),
    # A thousand times steeper along y than along x: a step that is safe for y is slow for x.
    "ill_conditioned": Surface("(x**2 + 1000*y**2) / 2", "minimize", square(2), (minimum(0, 0),)),
    # A saddle at 0 between two minima: descent stops on it only if it starts with y = 0 exactly.
    "saddle": Surface(
        "x**2 - y**2 + y**4/4", "minimize", square(2),
        (minimum(0, -math.sqrt(2), value=-1), minimum(0, math.sqrt(2), value=-1)),
    ),
    # A narrow curved valley with an almost flat floor: easy to get into, slow to get along.
    "rosenbrock": Surface("(1 - x)**2 + 100*(y - x**2)**2", "minimize", {"x": (-2, 2), "y": (-1, 3)}, (minimum(1, 1),)),
    # Four minima of equal depth around a maximum: where descent ends depends on where it starts.
    "himmelblau": Surface(
        "(x**2 + y - 11)**2 + (x + y**2 - 7)**2", "minimize", square(5),
        (
            minimum(3, 2),
            minimum(-2.805118086952745, 3.131312518250573),
            minimum(-3.779310253377747, -3.283185991286170),
            minimum(3.584428340330492, -1.848126526964404),
            maximum(-0.270844590667348, -0.923038556479982, value=181.616521522583),
        ),
    ),
    # Convex with a kink at its minimum: the slope never gets small, so only shrinking steps come to rest.
    "absolute": Surface("abs(x)", "minimize", {"x": (-3, 3)}, (minimum(0),)),
    # A minimum at which the slope is infinite: the nearer a point comes, the further it is thrown.
    "cusp": Surface("cbrt(x)**2", "minimize", {"x": (-3, 3)}, (minimum(0),)),
    # Neither minimum nor maximum: a vertical tangent at 0, and no place where the slope is zero.
    "cube_root": Surface("cbrt(x)", "minimize", {"x": (0.5, 3)}, ()),
    # One hole in a plain: far from it the slope is too small to follow, and most starting points never move.
    "plateau": Surface("1 - exp(-(x**2 + y**2))", "minimize", square(6), (minimum(0, 0),)),
}  # fmt: skip

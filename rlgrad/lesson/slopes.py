"""What a gradient is: the slope of the tangent, zero at an extremum, without bound where the tangent is vertical."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.lesson.page import Chapter, table
from rlgrad.loop import Direction
from rlgrad.pages.drawing import COLOUR, EXACT, panel
from rlgrad.surfaces.calculus import derivatives
from rlgrad.surfaces.expressions import Expression, parse

BOWL, ROOT = parse("x**2 / 4 + 1/2"), parse("cbrt(x)")
POINTS = {BOWL: (3.0, 1.0, 0.0, -2.0), ROOT: (1.0, 1e-1, 1e-3, 1e-6)}


def chapter() -> Chapter:
    rows = []
    for function, points in POINTS.items():
        for x in points:
            exact, difference = slope(function, x), finite_difference(function, x)
            rows.append([f"`{function.text}`", f"{x:g}".replace("-", "−"), f"{exact:.6g}", f"{difference:.6g}"])
    numbers = {
        "slopes.table": table(["f(x)", "x", "slope by automatic differentiation", "by finite difference"], rows),
        "slopes.steepest": f"{slope(ROOT, 1e-6):,.0f}",
    }
    return Chapter(numbers, pictures())


def slope(function: Expression, x: float) -> float:
    return float(derivatives(function, torch.tensor([[x]], dtype=torch.float64)).gradient)


def finite_difference(function: Expression, x: float) -> float:
    """Rise over run between two points so close to x that the curve is almost straight between them."""
    run = 1e-4 * (abs(x) or 1.0)
    ends = torch.tensor([[x + run], [x - run]], dtype=torch.float64)
    high, low = function(ends)
    return float((high - low) / (2 * run))


def pictures() -> dict[str, Figure]:
    drawn = {}
    for name, x, title in (("slope", 2.4, "a slope"), ("level", 0.0, "zero at the minimum")):
        drawn[name], axis = panel(3.1, 2.9)
        curve(axis, BOWL, torch.linspace(-3, 4, 200, dtype=torch.float64))
        tangent(axis, BOWL, x, reach=2.0)
        axis.set(title=title, ylim=(-0.5, 5))
        if name == "slope":
            triangle(axis, BOWL, x)
    drawn["steep"], axis = panel(3.1, 2.9)
    curve(axis, ROOT, torch.linspace(-1.5, 1.5, 601, dtype=torch.float64))
    for x in (1.0, 0.1, 0.01):
        tangent(axis, ROOT, x, reach=0.6 / (1 + slope(ROOT, x)))
        axis.annotate(f"{slope(ROOT, x):.2g}", (x + 0.06, float(ROOT(torch.tensor([[x]])[0])) - 0.14), fontsize=9)
    axis.set(title="without bound: the cube root")
    return drawn


def curve(axis: Axes, function: Expression, x: Tensor) -> None:
    axis.plot(x, function(x[:, None]), color=EXACT)


def tangent(axis: Axes, function: Expression, x: float, reach: float) -> None:
    y, m = float(function(torch.tensor([x]))), slope(function, x)
    colour = COLOUR[Direction.MAXIMIZE]
    axis.plot([x - reach, x + reach], [y - m * reach, y + m * reach], color=colour)
    axis.plot([x], [y], "o", color=colour)


def triangle(axis: Axes, function: Expression, x: float) -> None:
    y, m = float(function(torch.tensor([x]))), slope(function, x)
    axis.plot([x, x + 1, x + 1], [y, y, y + m], color=COLOUR[Direction.MINIMIZE])
    axis.annotate("1", (x + 0.45, y - 0.45))
    axis.annotate(f"{m:g}", (x + 1.1, y + 0.4 * m))

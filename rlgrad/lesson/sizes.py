"""How large a step should be: too small, right and too large on one curve, the bound 2/L, and Newton's step."""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.lesson.extrema import descend, refusal
from rlgrad.lesson.page import Chapter, table
from rlgrad.loop import Direction
from rlgrad.pages.drawing import COLOUR, EXACT, panel
from rlgrad.problems.surface import SurfaceProblem
from rlgrad.surfaces.calculus import derivatives, eigenvalues
from rlgrad.surfaces.drawing import contours

CURVE, START = "x**2", (2.0,)
VALLEY, SLOPE = "x**2 + 25*y**2", (2.0, 0.5)
RATES = {0.03: "too small", 0.25: "", 0.35: "right", 0.5: "", 0.75: "", 0.97: "", 1.0: "", 1.15: "too large"}
VIEW = {"x": (-0.7, 2.6), "y": (-0.9, 0.9)}
UPDATES, NEARER = 100, 100  # a point has UPDATES updates to come NEARER times nearer to the minimum
NEWTON = {"name": "Newton", "max_iter": 1}


def chapter() -> Chapter:
    paths = {rate: go(CURVE, START, rate)[1] for rate in RATES}
    (problem, newton), (valley, straight) = go(CURVE, START, NEWTON), go(VALLEY, SLOPE, NEWTON, box=VIEW)
    (most,), (flattest, steepest) = curvatures(problem), curvatures(valley)
    _, zigzag = go(VALLEY, SLOPE, 1.8 / steepest)
    named = {f"{rate:g}\u00a0=\u00a0{rate * most:g}/L": path for rate, path in paths.items()} | {"Newton": newton}
    places = [", ".join(f"{x:.3g}" for x in path[1:5, 0].tolist()) for path in named.values()]
    steps = [str(needed(path) or "never") for path in named.values()]
    _, mirrored = go(f"-({CURVE})", START, 0.35, direction="maximize")
    heading = ["α", "x after one, two, three, four steps", "steps needed"]
    numbers = {
        "sizes.table": table(heading, zip(named, places, steps, strict=True)),
        "sizes.curvature": f"{most:g}",
        "sizes.bound": f"{2 / most:g}",
        "sizes.refused": f"> `{CURVE}`, α = 1.15: {refusal(go, CURVE, START, 1.15, bound=1e6)}",
        "sizes.same": "equal to the last bit" if torch.equal(mirrored, paths[0.35]) else "not equal",
        "sizes.valley": f"{flattest:g} along it, and {steepest:g} across",
        "sizes.valley_bound": f"{2 / steepest:g}",
        "sizes.valley_steps": str(needed(zigzag)),
        "sizes.newton_steps": str(needed(straight)),
    }
    drawn = {title.replace(" ", "-"): on_curve(title, rate, paths[rate]) for rate, title in RATES.items() if title}
    return Chapter(numbers, drawn | {"steps-needed": by_rate(most), "valley": on_valley(valley, zigzag, straight)})


def go(function: str, start: tuple[float, ...], optimizer: Any, **more: Any) -> tuple[SurfaceProblem, Tensor]:
    """The problem, and the path [UPDATES + 1, D] of a point. optimizer: its settings, or the learning rate of SGD."""
    how = optimizer if isinstance(optimizer, dict) else {"name": "SGD", "lr": optimizer}
    settings = {"direction": "minimize", "start": [start], "optimizer": how, "updates": UPDATES, "bound": 1e99}
    problem, path, _ = descend(function, settings | more)
    return problem, path[:, 0]


def curvatures(problem: SurfaceProblem) -> list[float]:
    """The eigenvalues of the Hessian at the point, ascending."""
    found: list[float] = eigenvalues(derivatives(problem.function, problem.model().detach()).hessian)[0].tolist()
    return found


def needed(path: Tensor) -> int:
    """The number of steps until the point is NEARER times nearer than at the start; 0: never."""
    distance = path.norm(dim=1)
    return int((distance <= distance[0] / NEARER).int().argmax())


def on_curve(title: str, rate: float, path: Tensor) -> Figure:
    figure, axis = panel(3.1, 2.9)
    x, shown = torch.linspace(-4.5, 4.5, 121), path[:6, 0]
    axis.plot(x, x**2, color=EXACT, linewidth=1)
    grows = abs(shown[1]) > abs(shown[0])
    axis.plot(shown, shown**2, "o-", color=COLOUR[Direction.MAXIMIZE if grows else Direction.MINIMIZE], markersize=4)
    axis.set(title=f"{title}: α = {rate:g}", xlabel="x", ylim=(-0.8, 20 if grows else 6))
    axis.set_xlim(*((-4.5, 4.5) if grows else (-2.5, 2.5)))
    return figure


def by_rate(most: float) -> Figure:
    figure, axis = panel()
    rates = torch.linspace(0.03, 1 / most, 14, dtype=torch.float64)
    rates = torch.cat([rates, 2 / most - rates.flip(0)[1:]])
    steps = [needed(go(CURVE, START, float(rate))[1]) for rate in rates]
    axis.plot(rates, steps, ".-", color=COLOUR[Direction.MINIMIZE])
    axis.plot(1 / most, 1, "o", color=EXACT)
    axis.axvline(2 / most, color=COLOUR[Direction.MAXIMIZE], linestyle="--")
    axis.annotate("1/L", (1 / most, 5), ha="center")
    axis.annotate("2/L", (2 / most + 0.02, 60), color=COLOUR[Direction.MAXIMIZE])
    axis.set(title=f"steps to come {NEARER} times nearer", xlabel="α", xlim=(0, 1.2), ylim=(0, None))
    return figure


def on_valley(problem: SurfaceProblem, zigzag: Tensor, straight: Tensor) -> Figure:
    figure, axis = panel()
    contours(axis, problem.function, problem.box)
    axis.plot(*zigzag.T, ".-", color=COLOUR[problem.direction], linewidth=1, label="descent")
    axis.plot(*straight.T, "o-", color=EXACT, markersize=4, label="Newton")
    axis.set(title="one valley, two ways to its bottom", xlabel="x", ylabel="y")
    axis.legend(loc="upper left")
    return figure

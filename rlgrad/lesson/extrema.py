"""Down to a minimum, up to a maximum: points on surfaces, and where they end."""

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.errors import RunError
from rlgrad.lesson.page import Chapter, table
from rlgrad.lesson.walk import walk
from rlgrad.loop import Direction
from rlgrad.problems.surface import SurfaceProblem
from rlgrad.surfaces.drawing import drawn

STEADY: dict[str, Any] = {"optimizer": {"name": "SGD", "lr": 0.1}, "updates": 300, "replicas": 8}
ADAM: dict[str, Any] = {"optimizer": {"name": "Adam", "lr": 0.1}, "updates": 400, "replicas": 16}
RUNS = {
    "bowl": STEADY,
    "dome": STEADY,
    "saddle": STEADY | {"start": [[1.5, 0], [1.5, 1e-9], [1.5, -1e-9], [-1, 0.5]], "replicas": 4},
    "himmelblau": ADAM | {"schedule": {"name": "CosineAnnealingLR", "T_max": 400}},
}


def chapter() -> Chapter:
    rows, found = [], []
    for name, settings in RUNS.items():
        problem, path, sentences = descend(name, settings)
        found.append((name, problem, path))
        reached = sentences[:-1]  # the last one says how f curves
        what = f"`{name}`, to {problem.direction.name.lower()}<br>`{problem.function.text}`"
        rows.append([what, "<br>".join(reached)])
    wrong = [
        f"> `{name}`, to {opposite}: {refusal(descend, name, STEADY | {'direction': opposite})}"
        for name, opposite in (("bowl", "maximize"), ("dome", "minimize"))
    ]
    numbers = {
        "extrema.table": table(["surface", "what its points came to"], rows),
        "extrema.wrong": "\n>\n".join(wrong),
    }
    return Chapter(numbers, {name: picture(name, problem, path) for name, problem, path in found})


def descend(name: str, settings: dict[str, Any]) -> tuple[SurfaceProblem, Tensor, list[str]]:
    """The problem after its run, the path [updates + 1, R, D] of its points, and the sentences of its conclusion."""
    config = {"problem": "surface", "function": name, **settings}
    problem, path = walk(config, lambda problem: problem.model().detach().clone())
    return problem, path, problem.conclusion()


def refusal(run: Callable[..., Any], *arguments: Any, **more: Any) -> str:
    """The error message of a run that must fail."""
    try:
        run(*arguments, **more)
    except RunError as error:
        return str(error)
    raise AssertionError("nothing was wrong")


def picture(name: str, problem: SurfaceProblem, path: Tensor) -> Figure:
    figure = drawn(problem.function, problem.box, problem.direction, path)
    figure.axes[0].set_title(f"{name}: {'ascent' if problem.direction is Direction.MAXIMIZE else 'descent'}")
    return figure

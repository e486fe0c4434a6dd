"""The wrong sign, on purpose: what happens when a run moves against its objective."""

import itertools

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.config import load_config
from rlgrad.lesson.page import Chapter
from rlgrad.loop import Direction, updates
from rlgrad.pages.drawing import COLOUR, panel

UPDATES = 24
RUNS = {  # config -> the title and the axis of its picture
    "cartpole": ("CartPole: eight agents", "return"),
    "breast_cancer": ("breast cancer: eight classifiers", "cost (negative log-likelihood)"),
}


def chapter() -> Chapter:
    found = {(name, wrong): values(name, wrong) for name in RUNS for wrong in (False, True)}
    numbers = {"wrong.start": f"{found['cartpole', False][0].mean():.0f}"}
    for (name, wrong), value in found.items():
        last = float(value[-1].mean())
        numbers[f"wrong.{name}.{'wrong' if wrong else 'right'}"] = f"{last:,.0f}" if last > 100 else f"{last:.2g}"
    return Chapter(numbers, {f"wrong-{name}": picture(found, name) for name in RUNS})


def values(name: str, wrong_sign: bool) -> Tensor:
    """The return of an agent's episodes, or the cost of a classifier: [updates, R]."""
    problem, optimizer, _ = load_config(name, {"updates": UPDATES, "wrong_sign": wrong_sign}).build()
    stream = itertools.islice(updates(problem, optimizer), UPDATES)
    return torch.stack([update.metrics.get("episode/return", update.value) for update in stream])


def picture(found: dict[tuple[str, bool], Tensor], name: str) -> Figure:
    figure, axis = panel()
    for wrong in (False, True):
        value = found[name, wrong]
        up = (name == "cartpole") != wrong
        colour = COLOUR[Direction.MAXIMIZE if up else Direction.MINIMIZE]
        label = ("ascent" if up else "descent") + (": the wrong sign" if wrong else "")
        axis.plot(value, color=colour, alpha=0.25, linewidth=1)
        axis.plot(value.mean(1), color=colour, linewidth=2.2, label=label)
    title, what = RUNS[name]
    axis.set(title=title, ylabel=what, xlabel="update", yscale="log")
    axis.legend()
    return figure

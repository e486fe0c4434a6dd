"""The wrong sign, on purpose: what a run does that goes against its objective."""

import itertools

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.config import load_config
from rlgrad.lesson.drawing import COLOUR, panels
from rlgrad.lesson.page import Chapter
from rlgrad.loop import Direction, updates

RUNS = {"cartpole": 24, "breast_cancer": 24}  # config, and how many of its updates


def chapter() -> Chapter:
    found = {(name, wrong): values(name, count, wrong) for name, count in RUNS.items() for wrong in (False, True)}
    numbers = {"wrong.start": f"{found['cartpole', False][0].mean():.0f}"}
    for (name, wrong), value in found.items():
        last = float(value[-1].mean())
        numbers[f"wrong.{name}.{'wrong' if wrong else 'right'}"] = f"{last:,.0f}" if last > 100 else f"{last:.2g}"
    return Chapter(numbers, {"wrong-sign": picture(found)})


def values(name: str, count: int, wrong_sign: bool) -> Tensor:
    """The return of an agent's episodes, or the cost of a classifier: [updates, R]."""
    problem, optimizer, _ = load_config(name, {"updates": count, "wrong_sign": wrong_sign}).build()
    stream = itertools.islice(updates(problem, optimizer), count)
    return torch.stack([update.metrics.get("episode/return", update.value) for update in stream])


def picture(found: dict[tuple[str, bool], Tensor]) -> Figure:
    figure, axes = panels(2)
    for axis, name in zip(axes, RUNS, strict=True):
        for wrong in (False, True):
            value = found[name, wrong]
            up = (name == "cartpole") != wrong
            colour = COLOUR[Direction.MAXIMIZE if up else Direction.MINIMIZE]
            label = ("ascent" if up else "descent") + (": the wrong sign" if wrong else "")
            axis.plot(value, color=colour, alpha=0.25, linewidth=1)
            axis.plot(value.mean(1), color=colour, linewidth=2.2, label=label)
        axis.set_xlabel("update")
        axis.set_yscale("log")
        axis.legend()
    axes[0].set(title="CartPole: eight agents", ylabel="return")
    axes[1].set(title="breast cancer: eight classifiers", ylabel="cost (negative log-likelihood)")
    return figure

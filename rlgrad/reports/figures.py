"""Curves of runs, with the interval over their replicas."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from rlgrad.pages.drawing import FAINT, panel
from rlgrad.reports.reading import AXES, Recorded

# Okabe & Ito's colours: told apart by the colour-blind, and visible on a light and on a dark page
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
FEW = 40  # replicas that are drawn one by one


def curves(runs: Sequence[Recorded], tag: str, axis: str = "step", lines: Mapping[str, float] | None = None) -> Figure:
    """A tag of runs over their work, updates or seconds. lines: what to compare with, by name."""
    figure, axes = panel(3.4, 2.7)
    for run, colour in zip(runs, COLOURS * len(runs), strict=False):
        if tag in run.tags:
            draw(axes, run, tag, axis, colour, alone=len(runs) == 1)
    for name, height in (lines or {}).items():
        axes.axhline(height, color=FAINT, linewidth=1, linestyle="--")
        axes.annotate(
            name, (1, height), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=FAINT, fontsize=8
        )
    if axis != "seconds":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 100k
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(runs[0].work if axis == "step" else AXES[axis])
    axes.set_ylabel(tag.replace("evaluation/", "").replace("objective/value", "objective").replace("_", " "))
    if spans_decades(np.concatenate([run.curve(tag).values.ravel() for run in runs if tag in run.tags])):
        axes.set_yscale("log")
    if len(runs) > 1:
        axes.legend(fontsize=8)
    return figure


def draw(axes: Axes, run: Recorded, tag: str, axis: str, colour: str, alone: bool) -> None:
    curve = run.curve(tag, axis)
    marker = "o" if len(curve.x) < 12 else ""
    if alone and 1 < curve.values.shape[1] <= FEW:
        axes.plot(curve.x, curve.values, color=colour, linewidth=0.6, alpha=0.35)
    axes.plot(curve.x, curve.mean, color=colour, marker=marker, markersize=3, label=run.name)
    low, high = curve.interval.T
    axes.fill_between(curve.x, low, high, color=colour, alpha=0.2, linewidth=0)


def spans_decades(values: np.ndarray) -> bool:
    """Whether numbers are positive and so far apart that only a logarithmic axis shows them all."""
    seen = values[np.isfinite(values)]
    return bool(len(seen)) and seen.min() > 0 and math.log10(seen.max() / seen.min()) > 3

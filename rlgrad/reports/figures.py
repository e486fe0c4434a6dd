"""Curves of runs, with the interval over replicas."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from rlgrad.pages.drawing import COLOURS, FAINT, panel
from rlgrad.reports.reading import AXES, Curve, Recorded

FEW = 40  # replicas that are drawn one by one


def curves(runs: Sequence[Recorded], tag: str, axis: str = "step", lines: Mapping[str, float] | None = None) -> Figure:
    """A figure of a tag of several runs over work, updates or seconds. lines: heights to compare with, by name."""
    figure, axes = panel(3.4, 2.7)
    trace(axes, runs, tag, axis)
    for name, height in (lines or {}).items():
        axes.axhline(height, color=FAINT, linewidth=1, linestyle="--")
        first, last = np.abs(runs[0].curve(tag, axis).mean[[0, -1]] - height)
        place, side = (1, "right") if last > first else (0, "left")  # where the curve is further away
        axes.text(place, height, name, transform=axes.get_yaxis_transform(), ha=side, va="bottom", color=FAINT, size=8)
    shown = [run.curve(tag, axis).values.ravel() for run in runs]
    keep_in_view(axes, np.concatenate([*shown, list((lines or {}).values())]))
    return figure


def keep_in_view(axes: Axes, values: np.ndarray) -> None:
    """Let the values decide the height of a chart: the band of few replicas can be many times as wide."""
    seen = values[np.isfinite(values)]
    if len(seen) and axes.get_yscale() == "linear":
        low, high = axes.get_ylim()
        margin = max(np.ptp(seen), 1e-3 * np.abs(seen).max()) / 2
        axes.set_ylim(max(low, seen.min() - margin), min(high, seen.max() + margin))


def trace(axes: Axes, runs: Sequence[Recorded], tag: str, axis: str) -> None:
    """Draw the curves of a tag, one for each run, and label the axes."""
    for run, colour in zip(runs, colours(len(runs)), strict=True):
        if tag in run.tags:
            draw(axes, run, tag, axis, colour, alone=len(runs) == 1)
    if axis != "seconds":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 100k
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(runs[0].work if axis == "step" else AXES[axis])
    axes.set_ylabel(named(tag))
    if spans_decades(np.concatenate([run.curve(tag).values.ravel() for run in runs if tag in run.tags])):
        axes.set_yscale("log")
    if len(runs) > 1:
        axes.legend(fontsize=8 if len(runs) <= len(COLOURS) else 5)


def colours(count: int) -> Sequence[Any]:
    """This number of colours: distinct ones if there are few, neighbours on a scale if there are many."""
    return COLOURS[:count] if count <= len(COLOURS) else list(colormaps["viridis"](np.linspace(0, 0.95, count)))


def swept(runs: Sequence[Recorded], tag: str, axis: str = "step") -> Figure:
    """A figure of a sweep: the final result of each value with its interval, and the curves."""
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = [run.cell.named for run in runs if run.cell]
    along = max(grid[0], key=lambda name: len({each[name] for each in grid}))
    lines: dict[str, list[tuple[float, Curve]]] = {}
    for values, run in zip(grid, runs, strict=True):
        rest = ", ".join(f"{name}={value:g}" for name, value in values.items() if name != along)
        lines.setdefault(rest, []).append((values[along], run.curve(tag)))
    for (name, points), colour in zip(lines.items(), colours(len(lines)), strict=True):
        points.sort(key=lambda each: each[0])
        x, mean = [at for at, _ in points], np.asarray([curve.mean[-1] for _, curve in points])
        ends = np.nan_to_num(np.abs(np.asarray([curve.interval[-1] for _, curve in points]).T - mean))
        left.errorbar(x, mean, ends, color=colour, marker="o", markersize=3, capsize=2, linewidth=1, label=name)
    places = sorted({each[along] for each in grid})
    left.set_xscale("log" if spans_decades(np.asarray(places), 1) else "linear")
    left.set_xticks(places, [f"{each:g}" for each in places], rotation=0 if len(places) < 8 else 90)
    left.minorticks_off()
    left.set_xlabel(along)
    left.set_ylabel(named(tag))
    if len(lines) > 1:
        left.legend(fontsize=8 if len(lines) <= len(COLOURS) else 5)
    trace(right, runs, tag, axis)
    return figure


def named(tag: str) -> str:
    return tag.replace("evaluation/", "").replace("objective/value", "objective").replace("_", " ")


def draw(axes: Axes, run: Recorded, tag: str, axis: str, colour: str, alone: bool) -> None:
    """Draw the curve of one run with its interval. alone: whether to draw its replicas too."""
    curve = run.curve(tag, axis)
    marker = "o" if len(curve.x) < 12 else ""
    if alone and 1 < curve.values.shape[1] <= FEW:
        axes.plot(curve.x, curve.values, color=colour, linewidth=0.6, alpha=0.35)
    axes.plot(curve.x, curve.mean, color=colour, marker=marker, markersize=3, label=run.name)
    low, high = np.where(np.isnan(curve.interval), curve.mean[:, None], curve.interval).T  # equal replicas: no width
    axes.fill_between(curve.x, low, high, color=colour, alpha=0.2, linewidth=0)


def spans_decades(values: np.ndarray, decades: float = 3) -> bool:
    """Whether the values are positive, and so different that only a logarithmic axis shows them all."""
    seen = values[np.isfinite(values)]
    return bool(len(seen)) and seen.min() > 0 and math.log10(seen.max() / seen.min()) >= decades

"""What all pictures of the lesson share: what goes up is orange, what goes down is blue, what is exact is black."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlgrad.loop import Direction

COLOUR = {Direction.MAXIMIZE: "#d9480f", Direction.MINIMIZE: "#1864ab"}
EXACT, FAINT = "#111111", "#adb5bd"
STYLE = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.grid": True,
    "grid.color": "#e9ecef", "axes.axisbelow": True, "legend.frameon": False, "lines.linewidth": 1.6,
    "svg.hashsalt": "rlgrad",  # the same numbers give the same file
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        yield


def panels(columns: int, rows: int = 1, *, height: float = 3.2, **options: Any) -> tuple[Figure, Sequence[Axes]]:
    """A figure as wide as the page, and its axes in reading order. No pyplot: there is no state to clean up."""
    figure = Figure(figsize=(9.5, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).flatten()


def svg(figure: Figure) -> str:
    """The picture as the text of an SVG file."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()

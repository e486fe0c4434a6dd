"""The style of all pictures: ascent is orange, descent is blue, exact results are black.

A picture is one panel. Pages put panels side by side, or below each other on a narrow screen.
"""

import io
import re
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlgrad.loop import Direction

# Each colour, on a light and on a dark page. A picture is drawn in the light colours; an SVG has their names instead.
THEME = {
    "paper": ("#ffffff", "#16191d"), "ink": ("#111111", "#eef0f2"), "grid": ("#e9ecef", "#30353b"),
    "faint": ("#8b939b", "#868e96"), "up": ("#c2410c", "#ff922b"), "down": ("#1864ab", "#66b2f5"),
    "code": ("#f1f3f5", "#23282e"), "said": ("#fff4e6", "#2b2118"),
}  # fmt: skip
COLOUR = {Direction.MAXIMIZE: THEME["up"][0], Direction.MINIMIZE: THEME["down"][0]}
EXACT, FAINT = THEME["ink"][0], THEME["faint"][0]
# Okabe & Ito's colours: colour-blind readers can tell them apart, and they show on light and on dark pages
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
STYLE = {
    "font.size": 10, "font.sans-serif": ["DejaVu Sans"], "axes.titlesize": 11, "lines.linewidth": 1.6,
    "text.color": EXACT, "axes.labelcolor": EXACT, "axes.edgecolor": EXACT, "xtick.color": EXACT, "ytick.color": EXACT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": THEME["grid"][0],
    "axes.axisbelow": True, "axes.facecolor": "none", "figure.facecolor": "none", "legend.frameon": False,
    "svg.fonttype": "none", "svg.hashsalt": "rlgrad",  # the same numbers give the same file
}  # fmt: skip


def style() -> AbstractContextManager[None]:
    return mpl.rc_context(STYLE)  # type: ignore[arg-type]


def panel(width: float = 4.3, height: float = 3.2, **options: Any) -> tuple[Figure, Axes]:
    """A figure of this size in inches, and its axes. It does not use pyplot, so there is no state to clean up."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot(**options)


def png(figure: Figure) -> bytes:
    """The picture as a PNG on white, because TensorBoard shows it on light and on dark pages."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The picture as an `<svg>` that names its colours."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    names = {light: f"var(--{name})" for name, (light, _) in THEME.items()}
    return re.sub("#[0-9a-f]{6}", lambda found: names.get(found[0], found[0]), drawn)


def svg_file(figure: Figure) -> str:
    """The picture as an SVG file, which follows the reader's light or dark mode."""
    own = f"<style>{colours()}:root {{background: var(--paper)}}</style>"
    return re.sub("(?<=</style>)", own, svg(figure), count=1)


def colours() -> str:
    """The CSS that defines the names of the colours. On paper they are the light ones."""
    light, dark = ("; ".join(f"--{name}: {pair[k]}" for name, pair in THEME.items()) for k in (0, 1))
    return f":root {{{light}}}\n@media screen and (prefers-color-scheme: dark) {{:root {{{dark}}}}}\n"

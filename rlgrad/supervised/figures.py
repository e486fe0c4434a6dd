"""Pictures of a classifier on its test set, drawn from the content of its summary."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rlgrad.pages.drawing import COLOURS, EXACT, FAINT, panel

MOST = 40  # the largest coefficients, at most this many, are drawn


def pictures(findings: Mapping[str, Any]) -> dict[str, Figure]:
    """The pictures by name, as far as there is something to draw. findings: of a summary."""
    judgement, found = findings.get("judgement") or {}, {}
    if judgement:
        found["calibration"] = calibration(judgement["calibration"])
    if judgement.get("roc"):
        found["roc"] = roc(judgement["roc"])
    if judgement.get("plane"):
        found["boundary"] = boundary(judgement["plane"])
    rows = [row for row in (findings.get("coefficients") or {}).get("rows", ()) if row["error"]]
    if rows:
        found["coefficients"] = coefficients(rows)
    return found


def calibration(bins: list[Mapping[str, Any]]) -> Figure:
    """Draw observed frequencies against predicted probabilities, with Wilson's intervals."""
    figure, axes = panel(3.2, 3.0)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    predicted, observed = ([each[key] for each in bins] for key in ("predicted", "observed"))
    low, high = np.transpose([each["ci95"] for each in bins])
    axes.errorbar(predicted, observed, [observed - low, high - observed], fmt="o", markersize=4, color=COLOURS[0])
    axes.set(xlabel="predicted probability", ylabel="observed frequency", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return figure


def roc(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the ROC curve of each class against the rest; of two classes only that of the second."""
    figure, axes = panel(3.2, 3.0)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for (label, curve), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        axes.plot(curve["fallout"], curve["recall"], color=colour, label=label)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if 1 < len(curves) <= len(COLOURS):
        axes.legend(fontsize=8)
    return figure


def boundary(plane: Mapping[str, Any]) -> Figure:
    """Draw the most probable class over two features, and the test set's examples in the colours of their classes."""
    figure, axes = panel(3.6, 3.0)
    (left, below), (right, above) = plane["low"], plane["high"]
    chosen, points = np.asarray(plane["chosen"]), np.asarray(plane["points"])
    x, y = np.linspace(left, right, chosen.shape[1]), np.linspace(below, above, chosen.shape[0])
    for k in range(int(max(chosen.max(), points[:, 2].max())) + 1):
        colour, own = COLOURS[k % len(COLOURS)], points[points[:, 2] == k]
        if (chosen == k).any():
            axes.contourf(x, y, chosen == k, levels=[0.5, 1.5], colors=[colour], alpha=0.2)
        axes.plot(*own[:, :2].T, ".", color=colour, markersize=4, label=plane["labels"][k])
    axes.set(xlabel=plane["names"][0], ylabel=plane["names"][1])
    axes.legend(fontsize=8)
    return figure


def coefficients(rows: list[Mapping[str, Any]]) -> Figure:
    """Draw the largest coefficients in units of their standard errors, with 95% intervals: beyond about two, a
    coefficient differs from 0."""
    rows = sorted(rows, key=lambda row: abs(row["z"]), reverse=True)[:MOST][::-1]
    figure, axes = panel(4.6, 0.9 + 0.18 * len(rows))
    z = np.array([row["z"] for row in rows])
    reach = np.array([(row["high"] - row["low"]) / 2 / row["error"] for row in rows])
    axes.errorbar(z, range(len(rows)), xerr=reach, fmt="o", markersize=3, color=COLOURS[0])
    axes.axvline(0, color=EXACT, linewidth=1)
    axes.set_yticks(range(len(rows)), [" ".join(filter(None, (row["name"], row["label"]))) for row in rows], fontsize=7)
    axes.set_xlabel("coefficient / standard error")
    return figure

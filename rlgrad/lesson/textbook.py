"""The textbook's three procedures, as configs of the same loop and the same classifier."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.lesson.page import Chapter, table
from rlgrad.lesson.walk import text_file, walk
from rlgrad.loop import Direction
from rlgrad.pages.drawing import COLOUR, EXACT, FAINT, panel
from rlgrad.problems.logistic import Logistic

PASSES = 40  # passes over the data with decaying steps, with one example in each update
NEWTON = {"name": "LBFGS", "lr": 1, "max_iter": 20, "line_search_fn": "strong_wolfe", "tolerance_change": 0}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "batch: 500 steps of the whole gradient": ("textbook_batch", {}),
    "stochastic: one pass": ("textbook_stochastic", {}),
    f"decaying, as printed: {PASSES} passes": ("textbook_decaying_printed", {"updates": PASSES * 100}),
    f"decaying, mended: {PASSES} passes": ("textbook_decaying", {"updates": PASSES * 100}),
    "the optimum (LBFGS)": ("textbook_batch", {"optimizer": NEWTON, "updates": 10}),
}


def chapter() -> Chapter:
    with tumours() as file:
        runs = {name: walk(config, parameters, data=file, **more) for name, (config, more) in RUNS.items()}
    rows = []
    for name, (problem, path) in runs.items():
        found = problem.evaluate(0)
        weights = path[-1].mean(0)
        rows.append([
            name, f"`{RUNS[name][0]}`", ", ".join(f"{w:.3f}" for w in weights),
            f"{100 * (1 - float(found['accuracy'].mean())):.1f}", f"{float(found['log_loss'].mean()):.4f}",
        ])  # fmt: skip
    constant = runs["stochastic: one pass"][0].evaluate(0)
    wrong, loss = 1 - float(constant["prior_accuracy"][0]), float(constant["prior_log_loss"][0])
    rows.append(["always the more frequent class", "", "", f"{100 * wrong:.1f}", f"{loss:.4f}"])
    heading = ["procedure", "config", "intercept and weights", "errors in 100", "log-loss"]
    numbers = {"textbook.table": table(heading, rows), "textbook.passes": str(PASSES)}
    return Chapter(numbers, pictures(runs))


def tumours() -> AbstractContextManager[str]:
    """100 rows of scikit-learn's breast cancer data: two columns, standardised, and the labels."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x, y = x[:100, :2], y[:100]
    return text_file("radius,texture,benign", (x - x.mean(0)) / x.std(0), y)


def parameters(problem: Logistic) -> Tensor:
    linear = problem.model.linear
    return torch.cat([linear.bias.detach().flatten(1), linear.weight.detach().flatten(1)], 1)


def pictures(runs: dict[str, tuple[Logistic, Tensor]]) -> dict[str, Figure]:
    (groups, left), (weight, right) = panel(height=3.6), panel(height=3.6)
    (batch, batch_path), _, _, (_, decaying_path), (_, optimum) = runs.values()
    x, y = batch.dataset.x, batch.dataset.y
    left.plot(*x[y == 0].T, "s", color=FAINT, markersize=4, label="malignant")
    left.plot(*x[y == 1].T, "o", color=EXACT, markersize=4, label="benign")
    ends = torch.tensor([-3.0, 4.0], dtype=torch.float64)
    for (name, (_, path)), line in zip(runs.items(), ("-", ":", "", "", "--"), strict=True):
        if line:
            intercept, first, second = path[-1, 0]
            style: dict[str, Any] = {"color": EXACT if line == "--" else COLOUR[Direction.MAXIMIZE], "linestyle": line}
            left.plot(ends, -(intercept + first * ends) / second, label=name.partition(":")[0], **style)
    left.set(xlim=(-2.2, 3.4), ylim=(-2.6, 4.2), xlabel="radius (deviations)", ylabel="texture (deviations)")
    left.legend(fontsize=8)
    passes = torch.arange(len(decaying_path)) / len(y)
    right.plot(passes, decaying_path[:, 0, 1], color=COLOUR[Direction.MAXIMIZE], linewidth=0.8, label="decaying")
    right.plot(torch.arange(PASSES + 1), batch_path[: PASSES + 1, 0, 1], color=FAINT, label="batch")
    right.axhline(float(optimum[-1, 0, 1]), color=EXACT, linestyle="--", label="the optimum")
    right.set(xlabel="passes over the data", ylabel="weight of the radius")
    right.legend(fontsize=8)
    return {"groups": groups, "weight": weight}

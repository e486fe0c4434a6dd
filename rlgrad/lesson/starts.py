"""One optimum or several: where runs from different starts end."""

import itertools
from collections import Counter
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.config import load_config
from rlgrad.environments.mdp import MDPS
from rlgrad.lesson.page import Chapter
from rlgrad.lesson.walk import walk
from rlgrad.loop import Direction, updates
from rlgrad.pages.drawing import COLOUR, EXACT, FAINT, panel

STARTS = 24


def chapter() -> Chapter:
    weights, losses = classifiers()
    began, ended = policies()
    apart = (weights[-1][:, None] - weights[-1][None]).abs().max()
    counts = Counter(round(value, 1) for value in expected(ended).tolist())
    assert set(counts) == {1.0, 2.0}, counts
    numbers = {
        "starts.count": str(STARTS),
        "starts.weights_began": f"{(weights[0][:, None] - weights[0][None]).abs().max():.1f}",
        "starts.weights_apart": f"{apart:.0e}",
        "starts.loss": f"{losses[-1].mean():.6f}",
        "starts.at_two": str(counts[2.0]),
        "starts.at_one": str(counts[1.0]),
    }
    return Chapter(numbers, pictures(losses, began, ended))


def classifiers() -> tuple[list[Tensor], Tensor]:
    """The weights [STARTS, D] before and after training, and the losses [updates, STARTS] of all updates."""
    config: dict[str, Any] = {
        "problem": "logistic", "data": "breast_cancer", "l2": 0.01, "dtype": "float64", "initial_deviation": 3.0,
        "replicas": STARTS,
        "optimizer": {"name": "LBFGS", "max_iter": 10, "line_search_fn": "strong_wolfe", "tolerance_change": 0,
                      "tolerance_grad": 0}, "updates": 14,
    }  # fmt: skip
    problem, optimizer, _ = load_config(config).build()
    weights = [problem.model.linear.weight.detach().flatten(1).clone()]
    losses = [update.value for update in itertools.islice(updates(problem, optimizer), config["updates"])]
    return [*weights, problem.model.linear.weight.detach().flatten(1)], torch.stack(losses)


def policies() -> tuple[Tensor, Tensor]:
    """The probabilities [STARTS] of the second word, before and after training."""
    config: dict[str, Any] = {
        "problem": "reinforce", "environment": "rlgrad/Twice-v0", "episodes": 64, "replicas": STARTS, "updates": 150,
        "policy": {"hidden": [], "initial_gain": 2.0}, "optimizer": {"name": "Adam", "lr": 0.1},
    }  # fmt: skip
    _, path = walk(config, lambda problem: problem.model(torch.ones(STARTS, 1, 1)).probs[:, 0, 1].detach())
    return path[0], path[-1]


def expected(p: Tensor) -> Tensor:
    """The expected returns [N] of policies that say the second word with these probabilities [N]."""
    words = torch.stack([1 - p, p], 1).unsqueeze(1)
    return MDPS["Twice"].expected_return(words.expand(-1, 3, -1))


def pictures(losses: Tensor, began: Tensor, ended: Tensor) -> dict[str, Figure]:
    (one, left), (several, right) = panel(), panel()
    left.plot(losses, color=COLOUR[Direction.MINIMIZE], alpha=0.4)
    left.set(title=f"logistic regression from {STARTS} starts", xlabel="update", ylabel="cost", yscale="log")
    p = torch.linspace(0, 1, 201, dtype=torch.float64)
    right.plot(p, expected(p), color=EXACT)
    right.plot(began, expected(began), "o", color=FAINT, label="start")
    right.plot(ended, expected(ended), "o", color=COLOUR[Direction.MAXIMIZE], label="end")
    right.set(title=f"a policy from {STARTS} starts", xlabel="probability of the second word", ylabel="expected return")
    for end in (0.0, 1.0):
        count = int((ended.round() == end).sum())
        x, y = (0.04, 1.06) if end == 0 else (0.62, 1.98)
        right.text(x, y, f"{count} of {STARTS} end here", color=COLOUR[Direction.MAXIMIZE])
    right.legend(loc="center left")
    return {"one-top": one, "several-tops": several}

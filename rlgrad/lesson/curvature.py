"""Curvature serves ascent and descent alike: Newton's step for a classifier, the natural gradient for a policy."""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.environments.mdp import MDPS
from rlgrad.lesson.costs import mean_radius, run
from rlgrad.lesson.page import Chapter
from rlgrad.lesson.walk import walk
from rlgrad.loop import Direction
from rlgrad.pages.drawing import COLOUR, EXACT, FAINT, panel
from rlgrad.problems.reinforce import Reinforce

UPDATES, EPISODES, KL, RATE = 60, 200, 0.01, 0.2
WORST = [[3.0, 0.0, -3.0]]  # logits of a policy that prefers the worst of three arms
NATURAL: dict[str, Any] = {"name": "NaturalGradient", "damping": 1e-4, "tolerance": 1e-12}


def chapter() -> Chapter:
    both: Any = {"name": "Newton", "max_iter": 1}, NATURAL | {"kl": None, "damping": 0.0}
    with mean_radius() as file:
        newton, natural = (run(file, 1, optimizer)[1][-1] for optimizer in both)  # weight and intercept after one step
    plain, steady = climb({"name": "SGD", "lr": RATE}), climb(NATURAL | {"kl": KL})
    divergence = (steady[:-1] * (steady[:-1] / steady[1:]).log()).sum(1)  # between the policies before and after a step
    reward = torch.tensor(MDPS["Bandit"].reward[0])
    returns = {"plain": plain @ reward, "nat": steady @ reward}
    found = {f"curvature.{name}": f"{value[-1]:.2f}" for name, value in returns.items()}
    numbers = found | {
        "curvature.newton": f"({newton[0]:.6f}, {newton[1]:.6f})",
        "curvature.natural": f"({natural[0]:.6f}, {natural[1]:.6f})",
        "curvature.apart": f"{(newton - natural).abs().max():.0e}",
        "curvature.updates": str(UPDATES),
        "curvature.begin": f"{returns['plain'][0]:.2f}",
        "curvature.kl": f"{KL:g}",
        "curvature.least": f"{divergence[:20].min():.4f}",
        "curvature.most": f"{divergence[:20].max():.4f}",
    }
    return Chapter(numbers, {"natural": picture(returns["plain"], returns["nat"])})


def climb(optimizer: dict[str, Any]) -> Tensor:
    """Train a policy on the bandit; return the probabilities of its three arms, [updates + 1, 3]."""
    config = {
        "problem": "reinforce", "environment": "rlgrad/Bandit-v0", "episodes": EPISODES, "updates": UPDATES,
        "policy": {"hidden": []}, "optimizer": optimizer,
    }  # fmt: skip

    def probabilities(problem: Reinforce) -> Tensor:
        weight, bias = problem.model.policy.parameters()
        if not bias.any():  # before the first update
            with torch.no_grad():
                weight.zero_()
                bias.copy_(torch.tensor(WORST))
        found: Tensor = problem.model(torch.ones(1, 1, 1)).probs.detach()[0, 0].double()
        return found

    return walk(config, probabilities)[1]


def picture(plain: Tensor, natural: Tensor) -> Figure:
    figure, axis = panel(4.6, 3.2)
    axis.axhline(float(MDPS["Bandit"].reward.max()), color=EXACT, linewidth=0.8, linestyle=":")
    axis.plot(plain, color=FAINT)
    axis.plot(natural, color=COLOUR[Direction.MAXIMIZE])
    axis.set(xlabel="update", ylabel="expected return")
    axis.set_title("natural gradient (orange), gradient (grey)")
    return figure

"""Ascent on noise: estimates of a policy gradient around the exact one."""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.config import load_config
from rlgrad.environments.mdp import MDPS
from rlgrad.lesson.page import Chapter, table
from rlgrad.loop import Direction, differentiate
from rlgrad.pages.drawing import COLOUR, EXACT, panel

ESTIMATES = 1000  # each from one replica with the same policy
LOGITS = torch.tensor([[0.4, -0.4], [-0.6, 0.6]])  # by state and action: a policy that is neither good nor bad
REACH = {1: 9.0, 10: 4.0, 100: 1.6}  # the range of the axes, by the number of episodes
BASELINES = {"none": "no baseline", "leave_one_out": "leave-one-out"}
CASES = [(1, "none"), (10, "none"), (100, "none"), (10, "leave_one_out"), (100, "leave_one_out")]


def chapter() -> Chapter:
    clouds = {case: estimates(*case) for case in CASES}
    exact, value = exact_gradient()
    rows = []
    for (episodes, baseline), found in clouds.items():
        mean, spread = found.mean(0), (found - found.mean(0)).square().sum(1).mean().sqrt()
        cosine = torch.nn.functional.cosine_similarity(found, exact.expand_as(found), dim=1)
        away = (mean - exact).norm()
        uphill = (cosine > 0).double().mean()
        rows.append([
            str(episodes), BASELINES[baseline], f"{away:.3f}", f"{spread / ESTIMATES**0.5:.3f}", f"{spread:.2f}",
            f"{cosine.mean():.2f}", f"{100 * uphill:.0f} %",
        ])  # fmt: skip
    tighter = float(rows[1][4]) / float(rows[3][4])
    heading = [
        "episodes", "baseline", "centre is off by", "expected by chance", "spread", "mean cosine", "point uphill"
    ]  # fmt: skip
    numbers = {
        "noise.estimates": f"{ESTIMATES:,}",
        "noise.table": table(heading, rows),
        "noise.exact": f"{exact.norm():.3f}",
        "noise.value": f"{value:.3f}",
        "noise.tighter": f"{tighter:.1f}",
        "noise.worth": f"{tighter**2:.0f}",
    }
    drawn = {f"noise-{'-'.join(map(str, case))}": picture(*case, found, exact) for case, found in clouds.items()}
    return Chapter(numbers, drawn)


def estimates(episodes: int, baseline: str) -> Tensor:
    """The gradients [ESTIMATES, 2] of this many replicas at the same policy, along the differences of the logits in the
    two rooms: the policy changes only in these directions."""
    config = {
        "problem": "reinforce", "environment": "rlgrad/TwoRooms-v0", "episodes": episodes, "baseline": baseline,
        "policy": {"hidden": []}, "optimizer": {"name": "SGD"}, "updates": 1, "replicas": ESTIMATES,
    }  # fmt: skip
    problem = load_config(config).build().problem
    weight, bias = problem.model.parameters()
    with torch.no_grad():
        weight.copy_(LOGITS)
        bias.zero_()
    differentiate(problem.objective(problem.sample(0)), [weight, bias])
    return along(weight.grad)


def exact_gradient() -> tuple[Tensor, float]:
    """The exact gradient [2] of the expected return, by automatic differentiation of its formula; and the return."""
    logits = LOGITS.clone().requires_grad_()
    value = MDPS["TwoRooms"].expected_return(logits.softmax(1).unsqueeze(0)).sum()
    (gradient,) = torch.autograd.grad(value, logits)
    return along(gradient.unsqueeze(0))[0], float(value.detach())


def along(gradient: Tensor) -> Tensor:
    """[N, S, A] -> [N, S]: the slope of the objective in the direction that makes the second action more probable."""
    return ((gradient[:, :, 1] - gradient[:, :, 0]) / 2**0.5).detach()


def picture(episodes: int, baseline: str, found: Tensor, exact: Tensor) -> Figure:
    figure, axis = panel(3.1, 3.2)
    options: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1}
    zero, shown = torch.zeros(150), found[:150]
    axis.quiver(zero, zero, *shown.T, color=COLOUR[Direction.MAXIMIZE], alpha=0.25, width=0.006, **options)
    axis.quiver(0, 0, *exact, color=EXACT, width=0.014, **options)
    axis.set(xlabel="slope in the first room", ylabel="slope in the second room")
    axis.set_title(f"{episodes} episode{'s' * (episodes > 1)}, {BASELINES[baseline]}")
    axis.set(xlim=(-REACH[episodes], REACH[episodes]), ylim=(-REACH[episodes], REACH[episodes]), aspect="equal")
    return figure

"""Steps for objectives with a kink at zero, such as a penalty on absolute values. They reach exact zeros."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rlgrad.optimizers.parts import Together, of_each, require
from rlgrad.replicas import along, unflatten

ROUNDS = 1000  # at most, over all coordinates
SETTLED = 1e-12  # part of the first round's change; a round that changes less counts as settled


def soft(x: Any, by: Any) -> Any:
    """Move x towards zero by `by`, at most to zero: the proximal step of by·|x| (soft thresholding)."""
    return x - x.clip(0 - by, by)


def coordinates(matrix: np.ndarray, slope: np.ndarray, at: np.ndarray, kink: np.ndarray) -> np.ndarray:
    """The step v [R, P] to the minimum of slope v + v matrix v / 2 + Σ kink |at + v|, one coordinate after the other
    (Friedman, Hastie & Tibshirani 2010, https://doi.org/10.18637/jss.v033.i01). After each round over all
    coordinates come rounds over those that are not zero, until these have settled."""
    bend = np.einsum("rpp->rp", matrix)
    inverse = np.divide(1.0, bend, out=np.zeros_like(bend), where=bend > 0)
    here, slope, threshold = at.astype(np.float64), slope.astype(np.float64), kink * inverse
    count, first, every = at.shape[1], None, True
    for _ in range(ROUNDS):
        most = 0.0
        for p in range(count) if every else np.flatnonzero(here.any(0)):
            moved = soft(here[:, p] - slope[:, p] * inverse[:, p], threshold[:, p]) - here[:, p]
            if moved.any():
                here[:, p] += moved
                slope += moved[:, None] * matrix[:, :, p]
                most = max(most, float((bend[:, p] * moved * moved).max()))
        first = most if first is None else first
        settled = not most > SETTLED * first
        if settled and every:
            break
        every = settled
    return np.asarray(here - at)


class Proximal(Together):
    """Steps along the gradient, each followed by the proximal step of the objective's kink, if it has one:

        θ ← soft(θ + momentum (θ − θ') ± lr ∇J, lr kink),    where θ' is the θ before (Ochs et al. 2014, iPiano,
                                                             https://arxiv.org/abs/1404.4805)

    sign: 1 if J is to be maximized, -1 if it is to be minimized.
    lr: the learning rate. momentum: the part of the last step that is repeated.
    """

    def __init__(self, params: Iterable[Tensor], sign: Literal[1, -1], lr: float = 1e-3, momentum: float = 0.0):
        require(np.asarray(lr) >= 0, "lr must be 0 or more", lr)
        good = (np.asarray(momentum) >= 0) & (np.asarray(momentum) < 1)
        require(good, "momentum must be at least 0 and below 1", momentum)
        super().__init__(params, sign, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> None:  # type: ignore[override]
        """closure() evaluates J [R] and its gradient; closure.curvature() knows the kink."""
        with torch.enable_grad():
            closure()
        parameters = [parameter for parameter in self.param_groups[0]["params"] if parameter.requires_grad]
        kink = closure.curvature().kink  # type: ignore[attr-defined]
        kinks = [None] * len(parameters) if kink is None else unflatten(torch.as_tensor(kink), parameters)
        for parameter, strength in zip(parameters, kinks, strict=True):
            lr, momentum = (along(torch.as_tensor(of_each(self, name)), parameter) for name in ("lr", "momentum"))
            state, before = self.state[parameter], parameter.clone()
            moved = parameter - state.get("before", parameter)
            there = parameter + self.sign * lr * parameter.grad + momentum * moved
            state["before"] = before
            parameter.copy_(there if strength is None else soft(there, (lr * strength).to(there.dtype)))

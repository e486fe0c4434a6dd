"""Networks for observations that have an action mask behind them."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rlgrad.networks import Actable, Frozen, frozen

NEVER = float("-inf")  # as a logit: a probability of exactly zero


class Masked(Actable):
    """A network for flat observations [R, ..., D + A]. It sees the first D numbers, in their own shape [*O]; the other
    A are the mask. Its logits of actions that the mask forbids become minus infinity.

    forbids: whether the network gives logits of actions, as a policy's does; a critic's does not.
    """

    def __init__(self, network: nn.Module, shape: Sequence[int], actions: int, forbids: bool):
        super().__init__()
        self.network, self.shape, self.forbids = network, tuple(shape), forbids
        self.seen, self.actions = math.prod(shape), actions

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.network(x[..., : self.seen].reshape(*x.shape[:-1], *self.shape))
        if not self.forbids:
            return found
        mask = x[..., self.seen :] != 0
        return torch.where(mask | ~mask.any(-1, keepdim=True), found, NEVER)  # rows that are not steps have no mask

    def frozen(self) -> Frozen:
        says = frozen(self.network)

        def forward(x: np.ndarray) -> np.ndarray:
            found = says(x[..., : self.seen].reshape(*x.shape[:-1], *self.shape))
            return np.where(x[..., self.seen :] != 0, found, NEVER).astype(found.dtype) if self.forbids else found

        return forward

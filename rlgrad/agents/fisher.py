"""The Fisher information of a policy at the observations of a batch: the curvature of its divergence from itself."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from rlgrad import distributed, ranks
from rlgrad.agents.advantages import CHUNK
from rlgrad.agents.policies import Policy
from rlgrad.agents.rollouts import Rollout
from rlgrad.optimizers.curvature import Curvature, Differentiated

KEPT = 1 << 22  # if the observations have no more numbers, the graphs of all pieces are kept for the next product
STEPS = 512  # about the number of steps of all episodes together in a piece: more are not faster


class Fisher(Curvature):
    """The second derivatives of the mean over the steps of KL(π_played ‖ π_θ), where θ are the parameters that played:
    E[∇log π ∇log πᵀ] at the visited states, with the exact mean over the actions (Schulman et al. 2015, appendix C).

    It is computed piece by piece, as the gradient is. The pieces are longer, because each is differentiated many times.

    bends: 1 if the objective is minimized, -1 if it is maximized: the sign of its second derivatives at the extremum,
    which this replaces.
    """

    def __init__(self, policy: Policy, batch: Rollout, bends: int):
        self.policy, self.bends = policy, bends
        share = batch.alive / batch.alive.sum((1, 2), keepdim=True)  # [R, T, B]
        self.shared = ranks.shared(slots := share.shape[2])
        if self.shared:  # by the processes that train together
            own = ranks.share(slots)
            batch, share = batch.of(own), share[:, :, own]
        self.seen, self.share = batch.observation, share
        self.rows = CHUNK * max(1, STEPS // (CHUNK * share.shape[2]))
        with torch.no_grad():
            self.played = [policy(observation).detach() for observation, _ in self.pieces()]
        self.kept = list(self.bent()) if batch.observation.numel() <= KEPT else None

    def pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield observations and shares [R, rows, B, ...]. They are not kept: pictures would take too much memory."""
        for t in range(0, self.share.shape[1], self.rows):
            piece = slice(t, t + self.rows)
            yield full(self.seen[:, piece], self.rows), full(self.share[:, piece], self.rows)

    def divergences(self) -> Iterator[Tensor]:
        """Yield the part of each piece in the divergence [R], at the current parameters."""
        for (observation, share), played in zip(self.pieces(), self.played, strict=True):
            yield (played.divergence(self.policy(observation)) * share).sum((1, 2))

    def bent(self) -> Iterator[Differentiated]:
        """Yield the part of each piece, differentiated once, with the graph to differentiate it again."""
        with torch.enable_grad():
            for each in self.divergences():
                yield Differentiated(each, self.policy.parameters())

    def times(self, v: np.ndarray) -> np.ndarray:
        product = np.zeros(v.shape)
        for piece in self.kept or self.bent():
            product += piece.times(v)
        return self.bends * self._of_all(product)

    def _of_all(self, part: np.ndarray) -> np.ndarray:
        return np.asarray(distributed.summed(torch.from_numpy(part))[0].numpy()) if self.shared else part

    @torch.no_grad()
    def distance(self, moved: np.ndarray) -> np.ndarray:
        """The divergence itself [R], at the current parameters."""
        return self._of_all(torch.stack(list(self.divergences())).sum(0).numpy(force=True))


def full(x: Tensor, rows: int) -> Tensor:
    """Pad x [R, T, ...] with zero rows, so that a replica's numbers do not depend on how long the others play."""
    missing = rows - x.shape[1]
    return torch.cat([x, x.new_zeros(len(x), missing, *x.shape[2:])], 1) if missing else x

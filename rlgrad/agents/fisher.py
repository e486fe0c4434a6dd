"""The Fisher information of a policy at the observations of a batch: how its divergence from itself bends."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from rlgrad import distributed, ranks
from rlgrad.agents.advantages import CHUNK
from rlgrad.agents.policies import Policy
from rlgrad.agents.rollouts import Rollout
from rlgrad.optimizers.curvature import Curvature, Differentiated

KEPT = 1 << 22  # numbers in the observations up to which the graphs of all pieces are kept from product to product
STEPS = 512  # of all episodes together in a piece, about: more are no faster


class Fisher(Curvature):
    """The second derivatives of the mean over the steps of KL(π_played ‖ π_θ), where θ are the parameters that played:
    E[∇log π ∇log πᵀ] at the visited states, exactly as far as the actions go (Schulman et al. 2015, appendix C).

    It goes piece by piece, as the gradient does, in pieces that are longer, as each is differentiated many times.

    bends: 1 where what is sought bends upwards at its extremum, as a cost does at its minimum, else -1: so that this
    stands where its second derivatives would.
    """

    def __init__(self, policy: Policy, batch: Rollout, bends: int):
        self.policy, self.bends = policy, bends
        share = batch.alive / batch.alive.sum((1, 2), keepdim=True)  # [R, T, B]
        self.shared = ranks.shared(slots := share.shape[2])
        if self.shared:  # among the processes that train together
            own = ranks.share(slots)
            batch, share = batch.of(own), share[:, :, own]
        self.seen, self.share = batch.observation, share
        self.rows = CHUNK * max(1, STEPS // (CHUNK * share.shape[2]))
        with torch.no_grad():
            self.played = [policy(observation).detach() for observation, _ in self.pieces()]
        self.kept = list(self.bent()) if batch.observation.numel() <= KEPT else None

    def pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Observations and shares [R, rows, B, ...], made as they are needed: pictures would be many times as large."""
        for t in range(0, self.share.shape[1], self.rows):
            piece = slice(t, t + self.rows)
            yield full(self.seen[:, piece], self.rows), full(self.share[:, piece], self.rows)

    def divergences(self) -> Iterator[Tensor]:
        """The share of each piece in the divergence [R], at the parameters as they are now."""
        for (observation, share), played in zip(self.pieces(), self.played, strict=True):
            yield (played.divergence(self.policy(observation)) * share).sum((1, 2))

    def bent(self) -> Iterator[Differentiated]:
        """Each piece's share, differentiated once, with the graph to do it again."""
        with torch.enable_grad():
            for each in self.divergences():
                yield Differentiated(each, self.policy.parameters())

    def times(self, v: np.ndarray) -> np.ndarray:
        product = np.zeros(v.shape)
        for piece in self.kept or self.bent():
            product += piece.times(v)
        return self.bends * self._of_all(product)

    def _of_all(self, part: np.ndarray) -> np.ndarray:
        if not self.shared:
            return part
        result: np.ndarray = distributed.summed(torch.from_numpy(part))[0].numpy()
        return result

    @torch.no_grad()
    def distance(self, moved: np.ndarray) -> np.ndarray:
        """The divergence itself [R], at the parameters as they are now."""
        return self._of_all(torch.stack(list(self.divergences())).sum(0).numpy())


def full(x: Tensor, rows: int) -> Tensor:
    """x [R, T, ...] with zeros up to so many rows: then a replica's numbers do not depend on how long others play."""
    missing = rows - x.shape[1]
    return torch.cat([x, x.new_zeros(len(x), missing, *x.shape[2:])], 1) if missing else x

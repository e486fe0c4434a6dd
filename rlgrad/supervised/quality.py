"""The quality of predictions."""

import torch
from torch import Tensor


def auc(score: Tensor, y: Tensor) -> Tensor:
    """The area [R] under the ROC curve of scores [R, N] for labels [N], in which 0 and 1 both occur.

    It is the probability that an example of class 1 has a higher score than one of class 0; a tie counts half.
    """
    negative, positive = score[:, y == 0].sort(1).values, score[:, y == 1].contiguous()  # [R, N₀], [R, N₁]
    below = torch.searchsorted(negative, positive)
    not_above = torch.searchsorted(negative, positive, right=True)
    return (below + not_above).to(score.dtype).mean(1) / (2 * negative.shape[1])

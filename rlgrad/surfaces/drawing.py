"""Pictures of a surface and of the paths of points on it."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rlgrad.loop import Direction
from rlgrad.pages.drawing import COLOUR, EXACT, FAINT, panel
from rlgrad.surfaces.expressions import Expression

DENSE = 60  # points along each side at which the function is evaluated


def drawn(function: Expression, box: Tensor, direction: Direction, path: Tensor, size: float = 2.6) -> Figure:
    """Draw a function of one or two variables, and the paths [K, R, D] of R points. box: [D, 2], the part to show.
    size: of the picture, in inches."""
    figure, axes = panel(size, size * 2.7 / 2.6)
    if len(box) == 1:
        low, high = box[0].tolist()
        x = torch.linspace(low, high, 4 * DENSE, dtype=torch.float64, device=box.device)
        axes.plot(x, function(x[:, None]), color=FAINT)
        path = torch.cat([path, function(path)[..., None]], -1)
    else:
        contours(axes, function, box)
    for replica in range(path.shape[1]):
        axes.plot(*path[:, replica].T, color=COLOUR[direction], linewidth=1)
    axes.plot(*path[0].T, ".", color=COLOUR[direction])
    axes.plot(*path[-1].T, "o", color=EXACT, markersize=4)
    return figure


def contours(axes: Axes, function: Expression, box: Tensor) -> None:
    """Draw contour lines, with an eighth of the grid points between neighbouring lines."""
    x, y = (torch.linspace(low, high, DENSE, dtype=torch.float64, device=box.device) for low, high in box.tolist())
    grid: Tensor = function(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1))
    ranks = np.nanquantile(grid, np.linspace(0, 1, 9))
    axes.contour(x, y, grid, levels=np.unique(ranks[1:-1]), colors=FAINT, linewidths=0.7)

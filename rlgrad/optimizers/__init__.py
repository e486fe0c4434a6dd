"""The optimizers of a config: all of torch's, and Newton's method, which torch does not have."""

from torch.optim import *  # noqa: F403 - a config finds them all by name in this one module
from torch.optim import Optimizer

from rlgrad.optimizers.newton import Newton

__all__ = ["Newton", "Optimizer"]

"""A network of your own as the policy of an agent.

A config names the function that makes it. It gets the numbers of inputs and outputs, and a random generator for each
of the R replicas. The network maps observations [R, ..., inputs] to numbers [R, ..., outputs]; here these are the
logits of the actions. Each parameter has the replicas as its first axis.

    python examples/custom_network.py 30        # updates
"""

import sys
from pathlib import Path

import numpy as np
import torch

import rlgrad


class Quadratic(torch.nn.Module):
    """Linear in the inputs and in their products."""

    def __init__(self, inputs, outputs, streams):
        super().__init__()
        features = inputs + inputs**2
        # One generator for each replica, so that replica k is the run alone with seed + k.
        drawn = np.stack([0.01 * rng.standard_normal((features, outputs)) for rng in streams])
        self.weight = torch.nn.Parameter(torch.tensor(drawn, dtype=torch.get_default_dtype()))

    def forward(self, x):
        products = (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)
        features = torch.cat([x, products], -1)
        # The replicas are computed side by side: no number of one enters another's.
        return torch.bmm(features.flatten(1, -2), self.weight).reshape(*x.shape[:-1], -1)


def make(inputs, outputs, streams):
    return Quadratic(inputs, outputs, streams)


def main(updates=30):
    sys.path.insert(0, str(Path(__file__).parent))  # where `imports` finds this file
    run = rlgrad.train(
        "cartpole",
        imports=["custom_network"],
        allow_imports=True,  # as --allow-imports of the command: it runs this file
        policy={"network": "custom_network:make"},
        replicas=2,
        updates=updates,
        evaluation={"episodes": 20},
    )
    print("mean return", run.summary["evaluation.return"]["mean"], "in", run.directory)
    # You can also give a module: rlgrad.train(..., policy=Quadratic(4, 2, streams)).


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

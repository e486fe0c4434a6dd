"""A problem that is neither agent nor classifier: Poisson regression, by maximum likelihood on minibatches.

The run has a log, a dashboard, checkpoints and a summary. Interrupt it and call it again: it continues from there, and
ends with the same bits as without the break.

    python examples/custom_problem.py 300       # updates
    tensorboard --logdir runs
"""

import sys
from pathlib import Path

import numpy as np
import torch

import rlgrad
from rlgrad.streams import Purpose, stream, streams

REPLICAS, COUNT, TRUE = 4, 1000, torch.tensor([0.5, -1.0, 0.25])


class Poisson(rlgrad.Trainable):
    """Counts y with mean exp(x·w). It maximizes the mean log-likelihood, without its constant log y!."""

    direction = rlgrad.Direction.MAXIMIZE
    tags = {"error": "greatest distance of a weight to the true one, after the update"}

    def __init__(self):
        self.model = torch.nn.ParameterDict({"w": torch.zeros(REPLICAS, 3)})
        rng = stream(0, Purpose.SPLIT)
        self.x = torch.tensor(rng.normal(size=(COUNT, 3)), dtype=torch.float32)
        self.y = torch.tensor(rng.poisson(torch.exp(self.x @ TRUE).numpy()), dtype=torch.float32)

    def sample(self, step):  # a minibatch for each replica [R, 50], from its own stream: resuming needs no more
        return torch.tensor(
            np.array([rng.integers(COUNT, size=50) for rng in streams(0, REPLICAS, Purpose.SAMPLE, step)])
        )

    def objective(self, batch):
        log_mean = torch.einsum("rnd,rd->rn", self.x[batch], self.model["w"])
        return rlgrad.Estimate((self.y[batch] * log_mean - log_mean.exp()).mean(1), {})

    def evaluate(self, step):
        return {"error": (self.model["w"].detach() - TRUE).abs().amax(1)}


def main(updates=300, out="runs/poisson"):
    problem = Poisson()
    optimizer = rlgrad.make_optimizer(problem, "Adam", lr=0.02)
    often = {"every_updates": 50}
    run = rlgrad.follow(problem, optimizer, updates=updates, out=out, resume=Path(out).exists(), checkpoint=often)
    print("error", run.summary["evaluation.error"]["mean"], "weights", problem.model["w"].mean(0).tolist())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

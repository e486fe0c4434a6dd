"""Proximal policy optimisation (Schulman et al. 2017, https://arxiv.org/abs/1707.06347) on the same loop.

An update plays one segment and makes several passes over it, each with another minibatch. As the policy moves in
between, each step counts by how much more probable its action has become; the clip ends the incentive to go further.

    python examples/ppo.py 100          # updates
"""

import itertools
import sys
from typing import NamedTuple

import numpy as np
import torch

import rlgrad
from rlgrad.agents.credit import credit, standardised, values
from rlgrad.problems.reinforce import Reinforce, Settings

EPOCHS, MINIBATCHES, CLIP = 4, 4, 0.2
REPLICAS, SLOTS, STEPS = 4, 8, 64  # agents side by side; each plays 8 episodes, 64 steps of each for an update
ADAM = {"name": "Adam", "lr": 0.003}


class Minibatch(NamedTuple):
    observation: torch.Tensor  # [R, N, D], N steps
    action: torch.Tensor  # [R, N], and so all below
    log_prob: torch.Tensor  # of the policy that played
    advantage: torch.Tensor
    target: torch.Tensor  # what the critic learns to guess


class PPO(Reinforce):
    after, diagnose, final = rlgrad.Trainable.after, rlgrad.Trainable.diagnose, rlgrad.Trainable.final

    def passes(self, data):  # data: the segment, [R, T, B] steps
        with torch.no_grad():
            found = credit(self.settings, self.model, data, values(self.model.critic, data.observation))
            advantage = standardised(self.settings, found.advantage, data.alive, found.target)
            old = self.model.policy(data.observation).log_prob(data.action)
        steps = [x.flatten(1, 2) for x in (data.observation, data.action, old, advantage, found.target)]
        self.episodes = self._episodes(data)  # metrics: returns, lengths, steps
        drawn = [np.random.default_rng((self.settings.seed + r, data.step)) for r in range(self.settings.replicas)]
        for _ in range(EPOCHS):
            order = torch.tensor(np.array([rng.permutation(old[0].numel()) for rng in drawn]))
            for chosen in order.chunk(MINIBATCHES, 1):
                yield Minibatch(*(torch.stack([x[i] for x, i in zip(s, chosen, strict=True)]) for s in steps))

    def objective(self, batch):
        ratio = (self.model.policy(batch.observation).log_prob(batch.action) - batch.log_prob).exp()
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        surrogate = torch.minimum(ratio * batch.advantage, clipped * batch.advantage).mean(1)
        # The critic goes down its error by the optimizer's sign for it; only the gradient of the error is added here.
        error = (self.model.critic(batch.observation) - batch.target).square().mean(1) / 2
        metrics = {"ratio": ratio.mean(1).detach(), "clipped": (ratio != clipped).float().mean(1)}
        return rlgrad.Estimate(surrogate + error - error.detach(), self.episodes | metrics)


def make(updates, replicas=REPLICAS):
    return PPO(
        Settings(
            environment="CartPole-v1", episodes=SLOTS, segment=STEPS, updates=updates, replicas=replicas,
            baseline="critic", discount=0.99, discount_weighting=False, gae_lambda=0.95, time_limit="bootstrap",
            standardise_advantages=True, policy={"hidden": [64]}, critic={"hidden": [64]}, optimizer=ADAM,
        )
    )  # fmt: skip


def main(count=100):
    problem = make(count)
    optimizer = rlgrad.make_optimizer(problem, **ADAM)
    for update in itertools.islice(rlgrad.updates(problem, optimizer, transform=rlgrad.clipping(0.5)), count):
        if update.step % 10 == 0:
            print(update.step, "mean return", update.metrics["episode/return"].tolist())
    print("the greedy policies return", problem.evaluate(count)["return"].tolist())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

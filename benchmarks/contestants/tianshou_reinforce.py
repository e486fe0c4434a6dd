"""Tianshou 2's Reinforce, built and configured as in its test on CartPole.

    python tianshou_reinforce.py solved SEED SNAPSHOTS.npz

It trains for half of the test's 400,000 steps, because it does not stop at a return of 195 like the test. It leaves out
the 100 test episodes that Tianshou would play after every epoch.
"""

import json
import sys

import gymnasium
import numpy as np
import torch
from snapshots import Snapshots, linear_layers
from tianshou.algorithm import Reinforce
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from torch.optim.optimizer import register_optimizer_step_post_hook


def solved(seed, file):
    np.random.seed(seed)
    torch.manual_seed(seed)
    one = gymnasium.make("CartPole-v1")
    environments = DummyVectorEnv([lambda: gymnasium.make("CartPole-v1") for _ in range(8)])
    environments.seed(seed)
    net = Net(state_shape=(4,), action_shape=2, hidden_sizes=[64, 64], softmax=True)
    for layer in net.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.orthogonal_(layer.weight, gain=np.sqrt(2))
            torch.nn.init.zeros_(layer.bias)
    policy = ProbabilisticActorPolicy(
        actor=net, dist_fn=torch.distributions.Categorical, action_space=one.action_space, action_scaling=False
    )
    algorithm = Reinforce(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), gamma=0.95, return_standardization=True)
    collector = Collector(algorithm, environments, VectorReplayBuffer(20_000, 8))
    snapshots = Snapshots()
    register_optimizer_step_post_hook(lambda *_: snapshots.offer(collector.collect_step, lambda: linear_layers(net)))
    algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=collector, max_epochs=5, epoch_num_steps=40_000, batch_size=64,
            update_step_num_repetitions=2, collection_step_num_episodes=8, collection_step_num_env_steps=None,
            test_in_training=False, verbose=False, show_progress=False,
        )
    )  # fmt: skip
    snapshots.offer(collector.collect_step, lambda: linear_layers(net), last=True)
    snapshots.save(file, "relu")
    return {"end_seconds": snapshots.rows[-1][1]}


if __name__ == "__main__":
    print(json.dumps(solved(int(sys.argv[2]), sys.argv[3])))

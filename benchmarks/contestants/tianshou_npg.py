"""Tianshou 2's natural policy gradient, built and configured as in its example for MuJoCo, without its test episodes.

python tianshou_npg.py ENVIRONMENT SEED STEPS
"""

import sys

import gymnasium
import numpy as np
import torch
from climbing import Curve
from tianshou.algorithm import NPG
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory, LRSchedulerFactoryLinear
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from torch.distributions import Independent, Normal
from torch.optim.optimizer import register_optimizer_step_post_hook

EPOCH, COLLECTED = 30_000, 1024


def networks(shape, actions):
    actor = ContinuousActorProbabilistic(
        preprocess_net=Net(state_shape=shape, hidden_sizes=[64, 64], activation=torch.nn.Tanh),
        action_shape=actions,
        unbounded=True,
    )
    critic = ContinuousCritic(preprocess_net=Net(state_shape=shape, hidden_sizes=[64, 64], activation=torch.nn.Tanh))
    torch.nn.init.constant_(actor.sigma_param, -0.5)
    for layer in [*actor.modules(), *critic.modules()]:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.orthogonal_(layer.weight, gain=np.sqrt(2))
            torch.nn.init.zeros_(layer.bias)
    for layer in actor.mu.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data.mul_(0.01)
    return actor, critic


def climb(environment, seed, steps):
    np.random.seed(seed)
    torch.manual_seed(seed)
    one = gymnasium.make(environment)
    copies = VectorEnvNormObs(DummyVectorEnv([lambda: gymnasium.make(environment) for _ in range(16)]))
    copies.seed(seed)
    actor, critic = networks(one.observation_space.shape, one.action_space.shape)
    policy = ProbabilisticActorPolicy(
        actor=actor, dist_fn=lambda given: Independent(Normal(*given), 1), action_scaling=True,
        action_bound_method="clip", action_space=one.action_space,
    )  # fmt: skip
    epochs = -(-steps // EPOCH)
    optim = AdamOptimizerFactory(lr=1e-3).with_lr_scheduler_factory(
        LRSchedulerFactoryLinear(max_epochs=epochs, epoch_num_steps=EPOCH, collection_step_num_env_steps=COLLECTED)
    )
    algorithm = NPG(
        policy=policy, critic=critic, optim=optim, gamma=0.99, gae_lambda=0.95, return_scaling=True,
        advantage_normalization=True, optim_critic_iters=20, trust_region_size=0.1,
    )  # fmt: skip
    collector = Collector(algorithm, copies, VectorReplayBuffer(4096, 16), exploration_noise=True)
    curve = Curve(environment, seed)

    def act(observations):
        moments = copies.get_obs_rms()
        seen = np.clip((observations - moments.mean) / np.sqrt(moments.var + moments.eps), -10, 10)
        with torch.no_grad():
            (mean, _), _ = actor(torch.as_tensor(seen, dtype=torch.float32))
        return policy.map_action(mean.numpy())

    register_optimizer_step_post_hook(lambda *_: curve.offer(collector.collect_step, act))  # the critic's optimizer
    algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=collector, max_epochs=epochs, epoch_num_steps=EPOCH, batch_size=None,
            update_step_num_repetitions=1, collection_step_num_env_steps=COLLECTED, test_in_training=False,
            verbose=False, show_progress=False,
        )
    )  # fmt: skip
    curve.offer(collector.collect_step, act)
    return curve


if __name__ == "__main__":
    climb(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).print()

"""Stable-Baselines3 with rl-zoo3's settings.

python sb3.py solved ppo|a2c SEED SNAPSHOTS.npz
python sb3.py throughput ENVIRONMENT           # PPO: steps per second, after a first iteration
"""

import json
import sys
import time

from snapshots import Snapshots, linear_layers
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

# ruff: noqa: C408 - settings read better as arguments
# rl-baselines3-zoo, hyperparams/ppo.yml: number of copies, whether they are normalised, and PPO's arguments
PPO_SETTINGS = {
    "CartPole-v1": (8, False, dict(
        n_steps=32, batch_size=256, gae_lambda=0.8, gamma=0.98, n_epochs=20, ent_coef=0.0,
        learning_rate=lambda left: left * 0.001, clip_range=lambda left: left * 0.2)),
    "Acrobot-v1": (16, True, dict(n_steps=256, gae_lambda=0.94, gamma=0.99, n_epochs=4, ent_coef=0.0)),
    "Pendulum-v1": (4, False, dict(
        n_steps=1024, gae_lambda=0.95, gamma=0.9, n_epochs=10, ent_coef=0.0, learning_rate=1e-3, clip_range=0.2,
        use_sde=True, sde_sample_freq=4)),
    "MountainCarContinuous-v0": (1, True, dict(
        n_steps=8, batch_size=8, gamma=0.9999, learning_rate=7.77e-05, ent_coef=0.00429, clip_range=0.1, n_epochs=10,
        gae_lambda=0.9, max_grad_norm=5, vf_coef=0.19, use_sde=True,
        policy_kwargs=dict(log_std_init=-3.29, ortho_init=False))),  # batch_size 256 there, of which 8 steps fill 8
}  # fmt: skip


def ppo(environment, seed):
    copies, normalised, arguments = PPO_SETTINGS[environment]
    environments = make_vec_env(environment, n_envs=copies, seed=seed)
    if normalised:
        environments = VecNormalize(environments, gamma=arguments["gamma"])
    return PPO("MlpPolicy", environments, seed=seed, device="cpu", **arguments)


def solved(name, seed, file):
    snapshots = Snapshots()
    if name == "ppo":
        model, steps = ppo("CartPole-v1", int(seed)), 100_000
    else:  # hyperparams/a2c.yml
        environments = make_vec_env("CartPole-v1", n_envs=8, seed=int(seed))
        model, steps = A2C("MlpPolicy", environments, ent_coef=0.0, seed=int(seed), device="cpu"), 500_000

    def layers():
        return [*linear_layers(model.policy.mlp_extractor.policy_net), *linear_layers(model.policy.action_net)]

    class Watch(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            snapshots.offer(self.num_timesteps, layers)

    model.learn(steps, callback=Watch())
    snapshots.offer(model.num_timesteps, layers, last=True)
    snapshots.save(file, "tanh")
    return {"end_seconds": snapshots.rows[-1][1]}


def throughput(environment):
    model = ppo(environment, 0)
    iteration = model.n_steps * model.n_envs
    model.learn(iteration)
    wanted, began = max(4 * iteration, 2_000 if iteration < 100 else 20_000), time.perf_counter()
    model.learn(wanted)
    return {"steps_per_second": model.num_timesteps / (time.perf_counter() - began)}


if __name__ == "__main__":
    do = {"solved": solved, "throughput": throughput}[sys.argv[1]]
    print(json.dumps(do(*sys.argv[2:])))

"""Stable-Baselines3's PPO and sb3-contrib's TRPO with rl-zoo3's settings.

python sb3_climb.py ppo|trpo ENVIRONMENT SEED STEPS
"""

import sys

from climbing import Curve
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

# ruff: noqa: C408 - settings read better as arguments
WIDE = dict(log_std_init=-2, ortho_init=False, activation_fn=nn.ReLU, net_arch=dict(pi=[256, 256], vf=[256, 256]))
ROBOT = dict(
    batch_size=128, n_steps=1024, gamma=0.99, gae_lambda=0.95, sub_sampling_factor=1, cg_max_steps=25, cg_damping=0.1,
    n_critic_updates=20, learning_rate=1e-3,
)  # fmt: skip
# rl-baselines3-zoo, hyperparams/ppo.yml and trpo.yml (MuJoCo's robots as v3 and v4 there): the number of copies,
# whether they are normalised, and the algorithm's arguments
SETTINGS = {
    ("ppo", "HalfCheetah-v5"): (1, True, dict(
        batch_size=64, n_steps=512, gamma=0.98, learning_rate=2.0633e-05, ent_coef=0.000401762, clip_range=0.1,
        n_epochs=20, gae_lambda=0.92, max_grad_norm=0.8, vf_coef=0.58096, policy_kwargs=WIDE)),
    ("ppo", "Hopper-v5"): (1, True, dict(
        batch_size=32, n_steps=512, gamma=0.999, learning_rate=9.80828e-05, ent_coef=0.00229519, clip_range=0.2,
        n_epochs=5, gae_lambda=0.99, max_grad_norm=0.7, vf_coef=0.835671, policy_kwargs=WIDE)),
    ("ppo", "LunarLander-v3"): (16, False, dict(
        n_steps=1024, batch_size=64, gae_lambda=0.98, gamma=0.999, n_epochs=4, ent_coef=0.01)),
    ("trpo", "HalfCheetah-v5"): (2, True, dict(ROBOT, target_kl=0.04)),
    ("trpo", "Hopper-v5"): (2, True, ROBOT),
    ("trpo", "LunarLander-v3"): (2, False, dict(
        n_steps=512, cg_damping=0.01, gae_lambda=0.98, gamma=0.99, learning_rate=1e-3, n_critic_updates=15)),
}  # fmt: skip


def climb(algorithm, environment, seed, steps):
    copies, normalised, arguments = SETTINGS[algorithm, environment]
    environments = make_vec_env(environment, n_envs=copies, seed=seed)
    if normalised:
        environments = VecNormalize(environments, gamma=arguments["gamma"])
    kind = {"ppo": PPO, "trpo": TRPO}[algorithm]
    model = kind("MlpPolicy", environments, seed=seed, device="cpu", **arguments)
    curve = Curve(environment, seed)

    def act(observations):
        return model.predict(environments.normalize_obs(observations) if normalised else observations,
                             deterministic=True)[0]  # fmt: skip

    class Watch(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            curve.offer(self.num_timesteps, act)

    model.learn(steps, callback=Watch())
    curve.offer(model.num_timesteps, act)
    return curve


if __name__ == "__main__":
    climb(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).print()

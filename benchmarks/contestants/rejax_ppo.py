"""Rejax's PPO on gymnax's CartPole-v1, with the settings of Rejax's configs/gymnax/cartpole.yaml; one compiled call.

python rejax_ppo.py solved SEED SNAPSHOTS.npz
python rejax_ppo.py throughput [COPIES]        # steps per second without compiling
"""

import json
import sys
import time

import jax
import numpy as np
from rejax import get_algo
from snapshots import Snapshots

# ruff: noqa: C408 - settings read better as arguments
SETTINGS = dict(
    env="CartPole-v1", agent_kwargs={"activation": "tanh"}, num_envs=5, num_steps=100, num_epochs=5, num_minibatches=5,
    learning_rate=0.00075, max_grad_norm=0.5, total_timesteps=100_000, eval_freq=1000, gamma=0.99, gae_lambda=0.95,
    clip_eps=0.2, ent_coef=0.01, vf_coef=0.5,
)  # fmt: skip
Algorithm = get_algo("ppo")


def layers(parameters):
    """The actor's layers, 4 -> 64 -> 64 -> 2, wherever flax keeps them."""
    found = []

    def walk(part):
        if "kernel" in part:
            found.append((np.asarray(part["kernel"]).T.copy(), np.asarray(part["bias"]).copy()))
        else:
            for name in sorted(part):
                walk(part[name])

    walk(parameters["params"])
    return sorted(found, key=lambda layer: (layer[0].shape[0] == 2, layer[0].shape[1] != 4))


def solved(seed, file):
    """Its evaluation callback, every 1000 steps, returns the weights instead of playing 128 episodes."""
    snapshots = Snapshots(every=0)

    def hand_out(_, state, key):
        def take(steps, parameters):
            snapshots.offer(int(steps), lambda: layers(parameters))

        jax.debug.callback(take, state.global_step, state.actor_ts.params)
        return ()

    algorithm = Algorithm.create(**SETTINGS).replace(eval_callback=hand_out)
    jax.block_until_ready(jax.jit(Algorithm.train)(algorithm, jax.random.PRNGKey(int(seed))))
    jax.effects_barrier()
    snapshots.save(file, "tanh")
    return {"end_seconds": snapshots.rows[-1][1]}


def throughput(copies="5"):
    """The steps per second of the second of two calls: the first one compiles."""
    steps = 100 * int(copies) * 200
    shape = dict(num_envs=int(copies), total_timesteps=steps, eval_freq=steps)
    algorithm = Algorithm.create(**(SETTINGS | shape)).replace(eval_callback=lambda *_: ())
    train = jax.jit(Algorithm.train).lower(algorithm, jax.random.PRNGKey(0)).compile()
    jax.block_until_ready(train(algorithm, jax.random.PRNGKey(0)))
    began = time.perf_counter()
    jax.block_until_ready(train(algorithm, jax.random.PRNGKey(1)))
    return {"steps_per_second": steps / (time.perf_counter() - began)}


if __name__ == "__main__":
    do = {"solved": solved, "throughput": throughput}[sys.argv[1]]
    print(json.dumps(do(*sys.argv[2:])))

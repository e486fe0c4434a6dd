"""Steps per second of copies of one environment, stepped with random actions by one of several libraries.

python stepping.py rlgrad|async|subproc|puffer|envpool ENVIRONMENT COPIES PROCESSES STEPS

All step the same environments of Gymnasium, except envpool, which has its own in C++. PROCESSES includes this one: with
rlgrad it steps copies too, with the others it only waits. STEPS of each copy are timed, after a warm-up of a tenth.
"""

import json
import sys
import time

import numpy as np


def rlgrad(id, copies, processes):
    from rlgrad.environments import make
    from rlgrad.environments.processes import Crew

    crew = Crew(id, {}, count=processes - 1) if processes > 1 else None
    made = make(id, 1, copies, options={}, continuing=True, crew=crew)
    made.reset([np.random.default_rng(0)])
    seeds = np.arange(copies)

    def step(actions):
        found = made.step(actions)
        over = found.terminated | found.truncated
        if over.any():
            made.restart(over, seeds)

    return step, made.close


def async_(id, copies, processes):
    import gymnasium

    made = gymnasium.make_vec(id, copies, vectorization_mode="async")
    made.reset(seed=0)
    return made.step, made.close


def subproc(id, copies, processes):
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv

    made = make_vec_env(id, copies, vec_env_cls=SubprocVecEnv)
    made.reset()
    return made.step, made.close


def puffer(id, copies, processes):
    import gymnasium
    from pufferlib import emulation, vector

    def one(*given, **named):
        return emulation.GymnasiumPufferEnv(*given, env_creator=lambda: gymnasium.make(id), **named)

    made = vector.make(one, num_envs=copies, num_workers=processes, backend=vector.Multiprocessing)
    made.reset()
    return made.step, made.close


def envpool(id, copies, processes):
    import envpool as library

    made = library.make(id, env_type="gymnasium", num_envs=copies, num_threads=processes)
    made.reset()
    return made.step, made.close


def main(kind, id, copies, processes, steps):
    import gymnasium

    if id.startswith("ALE/"):
        import ale_py

        gymnasium.register_envs(ale_py)
    space = gymnasium.make(id).action_space
    space.seed(0)
    actions = [np.stack([space.sample() for _ in range(copies)]) for _ in range(64)]
    step, close = {"async": async_}.get(kind, globals().get(kind))(id, copies, processes)
    for k in range(steps // 10):
        step(actions[k % 64])
    began = time.perf_counter()
    for k in range(steps):
        step(actions[k % 64])
    took = time.perf_counter() - began
    close()
    print(json.dumps({"steps_per_second": copies * steps / took}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))

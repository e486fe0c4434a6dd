"""When CartPole was solved: every snapshot of a policy plays 100 greedy episodes of Gymnasium's CartPole-v1.

    python play.py SNAPSHOTS.npz SEED

Solved means a mean return of 475 or more. Prints one JSON object: the environment steps and the seconds of the first
snapshot that solves it, and of the first after which all snapshots do (null if there is none); the seconds of the last
snapshot, and its mean return. Each snapshot plays its own episodes, which no contestant has seen.
"""

import json
import sys

import gymnasium
import numpy as np

ACTIVATIONS = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}
SOLVED = 475


def mean_return(layers, activation, seed, episodes=100):
    environments = gymnasium.make_vec("CartPole-v1", num_envs=episodes, vectorization_mode="vector_entry_point")
    observation, _ = environments.reset(seed=seed)
    alive, total = np.ones(episodes, bool), np.zeros(episodes)
    while alive.any():
        x = observation
        for weight, bias in layers[:-1]:
            x = activation(x @ weight.T + bias)
        weight, bias = layers[-1]
        observation, reward, terminated, truncated, _ = environments.step((x @ weight.T + bias).argmax(1))
        total += reward * alive
        alive &= ~(terminated | truncated)
    return float(total.mean())


def when(solved, steps, seconds):
    """The numbers to print, from whether each snapshot solves CartPole."""
    first = solved.index(True) if any(solved) else None
    stays = len(solved) - solved[::-1].index(False) if not all(solved) else 0  # behind the last unsolved one
    stays = stays if stays < len(solved) else None
    return {
        f"{name}_{unit}": None if index is None else float(values[index])
        for name, index in (("first", first), ("stays", stays))
        for unit, values in (("steps", steps), ("seconds", seconds))
    }


if __name__ == "__main__":
    file, seed = sys.argv[1], int(sys.argv[2])
    kept = np.load(file)
    count = sum(name.startswith("weight") for name in kept.files)
    parts = [(kept[f"weight{number}"], kept[f"bias{number}"]) for number in range(count)]
    returns = []
    for index in range(len(kept["steps"])):
        layers = [(weight[index], bias[index]) for weight, bias in parts]
        returns.append(mean_return(layers, ACTIVATIONS[str(kept["activation"])], 1_000_000 * (seed + 1) + index))
    found = when([value >= SOLVED for value in returns], kept["steps"], kept["seconds"])
    end = {"end_steps": float(kept["steps"][-1]), "end_seconds": float(kept["seconds"][-1]), "end_return": returns[-1]}
    print(json.dumps(found | end))

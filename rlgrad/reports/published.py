"""Published results of others, to compare a result with."""

from typing import NamedTuple

ZOO = "https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md"
TIANSHOU = "https://github.com/thu-ml/tianshou/tree/master/examples/mujoco"
SLM = "https://github.com/kengz/SLM-Lab/blob/master/BENCHMARKS.md"


class Published(NamedTuple):
    """The published return of a greedy policy, from one run unless `who` says otherwise."""

    who: str
    value: float
    steps: int
    source: str


# By the environment's name without version. Returns differ between versions, so the version of the results is given.
RETURNS = {
    "CartPole": ("v1", [Published("PPO", 500, 100_000, ZOO), Published("REINFORCE, 4 seeds", 483, 200_000, SLM)]),
    "Acrobot": ("v1", [Published("PPO", -73.5, 1_000_000, ZOO), Published("TRPO", -83.1, 100_000, ZOO)]),
    "LunarLander": ("v2", [Published("PPO", 242, 1_000_000, ZOO), Published("A2C", 156, 200_000, ZOO)]),
    "LunarLanderContinuous": ("v2", [Published("PPO", 271, 1_000_000, ZOO), Published("TRPO", 262, 200_000, ZOO)]),
    "Pendulum": ("v1", [Published("PPO", -172, 100_000, ZOO), Published("A2C", -163, 1_000_000, ZOO)]),
    "MountainCarContinuous": ("v0", [Published("TRPO", 92.5, 50_000, ZOO), Published("PPO", 88.3, 20_000, ZOO)]),
    "InvertedPendulum": ("v3", [Published("REINFORCE, best over training, 10 seeds", 999, 3_000_000, TIANSHOU)]),
    "HalfCheetah": (
        "v3",
        [
            Published("PPO", 5819, 1_000_000, ZOO),
            Published("REINFORCE, best over training, 10 seeds", 884, 3_000_000, TIANSHOU),
        ],
    ),
    "Hopper": (
        "v3",
        [
            Published("TRPO", 3618, 1_000_000, ZOO),
            Published("REINFORCE, best over training, 10 seeds", 396, 3_000_000, TIANSHOU),
        ],
    ),
    "Walker2d": (
        "v3",
        [
            Published("TRPO", 4933, 1_000_000, ZOO),
            Published("REINFORCE, best over training, 10 seeds", 412, 3_000_000, TIANSHOU),
        ],
    ),
    "Swimmer": ("v3", [Published("TRPO", 366, 1_000_000, ZOO), Published("PPO", 282, 1_000_000, ZOO)]),
    "Ant": ("v3", [Published("TRPO", 4982, 1_000_000, ZOO), Published("PPO", 1327, 1_000_000, ZOO)]),
}


def published(environment: str) -> list[tuple[str, float, int, str]]:
    """Rows of (who, return, steps, source) for an environment's id; empty if no published result is known."""
    version, found = RETURNS.get(environment.rpartition("-")[0], ("", []))
    other = "" if environment.endswith(f"-{version}") else f" on {version}"
    return [(f"{who}{other}", value, steps, source) for who, value, steps, source in found]

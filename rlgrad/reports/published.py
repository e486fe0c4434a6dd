"""Published results of others, to compare a result with."""

ZOO = "https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md"
TIANSHOU = "https://github.com/thu-ml/tianshou/tree/master/examples/mujoco"
SLM = "https://github.com/kengz/SLM-Lab/blob/master/BENCHMARKS.md"


BEST = "REINFORCE, best over training, 10 seeds"

# By the environment's name without version: the version of the results, since returns differ between versions; and who,
# the return of the greedy policy, environment steps, source. They are of one run, unless `who` says otherwise.
RETURNS: dict[str, tuple[str, list[tuple[str, float, int, str]]]] = {
    "CartPole": ("v1", [("PPO", 500, 100_000, ZOO), ("REINFORCE, 4 seeds", 483, 200_000, SLM)]),
    "Acrobot": ("v1", [("PPO", -73.5, 1_000_000, ZOO), ("TRPO", -83.1, 100_000, ZOO)]),
    "LunarLander": ("v2", [("PPO", 242, 1_000_000, ZOO), ("A2C", 156, 200_000, ZOO)]),
    "LunarLanderContinuous": ("v2", [("PPO", 271, 1_000_000, ZOO), ("TRPO", 262, 200_000, ZOO)]),
    "Pendulum": ("v1", [("PPO", -172, 100_000, ZOO), ("A2C", -163, 1_000_000, ZOO)]),
    "MountainCarContinuous": ("v0", [("TRPO", 92.5, 50_000, ZOO), ("PPO", 88.3, 20_000, ZOO)]),
    "InvertedPendulum": ("v2", [(BEST, 999, 3_000_000, TIANSHOU)]),
    "InvertedDoublePendulum": ("v2", [(BEST, 1060, 3_000_000, TIANSHOU)]),
    "Reacher": ("v2", [(BEST, -10.5, 3_000_000, TIANSHOU)]),
    "HalfCheetah": ("v3", [("PPO", 5819, 1_000_000, ZOO), (BEST, 884, 3_000_000, TIANSHOU)]),
    "Hopper": ("v3", [("TRPO", 3618, 1_000_000, ZOO), (BEST, 396, 3_000_000, TIANSHOU)]),
    "Walker2d": ("v3", [("TRPO", 4933, 1_000_000, ZOO), (BEST, 412, 3_000_000, TIANSHOU)]),
    "Swimmer": ("v3", [("TRPO", 366, 1_000_000, ZOO), ("PPO", 282, 1_000_000, ZOO), (BEST, 35.3, 3_000_000, TIANSHOU)]),
    "Ant": ("v3", [("TRPO", 4982, 1_000_000, ZOO), ("PPO", 1327, 1_000_000, ZOO), (BEST, 475, 3_000_000, TIANSHOU)]),
}


def published(environment: str) -> list[tuple[str, float, int, str]]:
    """Rows of (who, return, steps, source) for an environment's id; empty if no published result is known."""
    name, _, version = environment.rpartition("-")
    of, rows = RETURNS.get(name, ("", []))
    other = "" if version == of else f" on {of}"
    return [(f"{who}{other}", value, steps, source) for who, value, steps, source in rows]

"""The gain from worker processes: environments stepped on one core and on two, compared with other libraries.

    python benchmarks/workers.py [--rounds 5] [--write] [ENVIRONMENT ...]

It needs the extras `mujoco`, `box2d` and `atari`, and the other libraries: stable-baselines3, envpool, pufferlib (one
that is not installed is named and left out). First it only steps environments with random actions; then it makes whole
runs of shipped configs with `workers: 0` and `workers: 1`, with sampling, gradients, critic and evaluation.
"""

import argparse
import sys
from pathlib import Path

import harness
from harness import WRITES, Contestant, alternate, column, machine, own_version, ratios, spread, table, write

FOLDER = Path(__file__).resolve().parent / "contestants"
COPIES = 16
STEPS = {"HalfCheetah-v5": 1500, "LunarLander-v3": 2000, "ALE/Pong-v5": 150}
KINDS = {  # name -> kind, processes, distributions
    "rlgrad, one process": ("rlgrad", 1, []),
    "rlgrad, one worker": ("rlgrad", 2, []),
    "Gymnasium's AsyncVectorEnv": ("async", COPIES, []),
    "Stable-Baselines3's SubprocVecEnv": ("subproc", COPIES, ["stable-baselines3"]),
    "PufferLib's Multiprocessing": ("puffer", 2, ["pufferlib"]),
    "envpool, two threads, its own C++": ("envpool", 2, ["envpool"]),
}
RUNS = {  # config -> options that make it short
    "half_cheetah": ["--steps", "36000"],
    "lunar_lander": ["--steps", "60000"],
    "pong": ["--steps", "6000"],
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(harness.ROOT)}


def stepping(name: str, rounds: int) -> list[list[str]]:
    """The rows of the table about one environment."""
    entered = [
        Contestant(label, [str(FOLDER / "stepping.py"), kind, name, str(COPIES), str(processes), str(STEPS[name])],
                   needs=needs, environment=ONE_THREAD)
        for label, (kind, processes, needs) in KINDS.items()
    ]  # fmt: skip
    found = alternate(entered, rounds, timeout=300)
    one, rows = "rlgrad, one process", []
    for label in found:
        speed = spread(column(found, label, "steps_per_second")).text("{:,.0f}".format)
        ratio = "" if label == one else ratios(found, label, one, "steps_per_second").text("{:.2f}".format)
        rows.append([name, label, speed, ratio])
    return rows


def training(config: str, rounds: int) -> list[str]:
    """The row of the table about whole runs."""
    given = [str(FOLDER / "ours.py"), "throughput", config, *RUNS[config]]
    entered = [
        Contestant(str(workers), [*given, "--workers", str(workers)], environment=ONE_THREAD) for workers in (0, 1)
    ]
    found = alternate(entered, rounds, timeout=600)
    speeds = [spread(column(found, name, "steps_per_second")).text("{:,.0f}".format) for name in ("0", "1")]
    return [f"`{config}`", *speeds, ratios(found, "1", "0", "steps_per_second").text("{:.2f}".format)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(STEPS), metavar="ENVIRONMENT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=WRITES)
    given = parser.parse_args()
    rows = [row for name in given.names for row in stepping(name, given.rounds)]
    text = table(["", "", "steps a second", "times one process of rlgrad"], rows)
    if given.names == list(STEPS):
        rows = [training(config, given.rounds) for config in RUNS]
        text += "\n\n" + table(["whole runs", "workers: 0, steps a second", "workers: 1", "times as fast"], rows)
    names = sorted(
        {name for _, _, needs in KINDS.values() for name in needs} | {"gymnasium", "mujoco", "ale-py", "torch"}
    )
    found = harness.version_line(harness.versions(Path(sys.executable), names))
    text += f"\n\nMedians (lowest to highest) of {given.rounds} rounds; ratios within a round. {machine()}; "
    text += f"rlgrad {own_version()}; {found}."
    write("workers.py", text) if given.write else print(text)


if __name__ == "__main__":
    main()

"""How high other libraries climb on the same machine, with the settings that they publish: a table in docs/results.md.

    python benchmarks/peers.py sb3 tianshou      # once: installs each into its own environment
    python benchmarks/beside.py [--seeds 3] [--steps 1000000] [--only NAME ...]

Each run has one thread and a process of its own, and its greedy policy plays 20 episodes every 50,000 environment
steps, with the clock stopped. Seconds are those of the processor. The numbers of a run are kept in
benchmarks/learning/beside/, and a run that is there is not made again; `python benchmarks/learning.py --write` makes
the page of them. A library that is not installed is skipped and named.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import ROOT, Contestant, is_present, machine, own_version, reason, run, say, table, versions
from peers import python_of

FOLDER = Path(__file__).resolve().parent
KEPT = FOLDER / "learning" / "beside"
THRESHOLDS = {"HalfCheetah-v5": 3000, "Hopper-v5": 2000, "LunarLander-v3": 200}  # set before the first run
BUDGETS = (300_000, 1_000_000)
SB3, TIANSHOU = ["stable-baselines3", "sb3-contrib", "gymnasium", "torch"], ["tianshou", "gymnasium", "torch"]
WAYS = {  # name: its Python, what it needs, its script and the algorithm; without one, the script has only one
    "rlgrad natural gradient": (Path(sys.executable), [], "ours_climb.py", "natural"),
    "rlgrad PPO": (Path(sys.executable), [], "ours_climb.py", "ppo"),
    "Stable-Baselines3 PPO": (python_of("sb3"), SB3, "sb3_climb.py", "ppo"),
    "sb3-contrib TRPO": (python_of("sb3"), SB3, "sb3_climb.py", "trpo"),
    "Tianshou NPG": (python_of("tianshou"), TIANSHOU, "tianshou_npg.py", ""),
}
LEFT_OUT = {  # the settings of tasks.yaml were not made for it, or the library has none
    ("rlgrad PPO", "HalfCheetah-v5"),
    ("rlgrad PPO", "Hopper-v5"),
    ("rlgrad natural gradient", "LunarLander-v3"),
    ("Tianshou NPG", "LunarLander-v3"),
}


def file_of(way: str, task: str, seed: int) -> Path:
    return KEPT / f"{way.replace(' ', '-')}-{task}-{seed}.json"


def measure(way: str, task: str, seed: int, steps: int) -> None:
    python, needs, script, algorithm = WAYS[way]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    arguments = [str(FOLDER / "contestants" / script), *filter(None, [algorithm]), task, str(seed), str(steps)]
    found: dict[str, Any] = run(Contestant(way, arguments, python, needs, environment), timeout=4 * 3600)
    installed = versions(python, needs) or {"rlgrad": own_version()}
    measured = {"machine": machine(), "versions": installed, "others": round(found["others"], 2)}
    KEPT.mkdir(exist_ok=True)
    about = {"way": way, "task": task, "seed": seed, "budget": steps}
    curve = {name: [round(value, 2) for value in found[name]] for name in ("steps", "returns", "seconds")}
    file_of(way, task, seed).write_text(json.dumps(about | curve | measured) + "\n")


def at(found: Mapping[str, Any], budget: int) -> float:
    """The return of the first evaluation at this budget or later; the last one if the run ended a bit before."""
    reached = [value for steps, value in zip(found["steps"], found["returns"], strict=True) if steps >= budget]
    return float(reached[0] if reached else found["returns"][-1])


def seconds_to(found: Mapping[str, Any], threshold: float) -> float:
    """The processor's seconds until the first evaluation that reaches the threshold; infinity if none does."""
    reached = [second for second, value in zip(found["seconds"], found["returns"], strict=True) if value >= threshold]
    return float(reached[0]) if reached else float("inf")


def spanned(of: Callable[[Sequence[float]], float], values: Sequence[float]) -> str:
    """The mean or the median, with the lowest and the highest of several values."""
    span = f" ({min(values):,.0f} to {max(values):,.0f})" if len(values) > 1 else ""
    return f"{of(values):,.0f}{span}"


def rows() -> Iterator[Sequence[str]]:
    for task, way in itertools.product(THRESHOLDS, WAYS):
        runs = [json.loads(file.read_text()) for file in sorted(KEPT.glob(file_of(way, task, 0).stem[:-1] + "*.json"))]
        if runs:
            spans = [spanned(statistics.mean, [at(found, budget) for found in runs]) for budget in BUDGETS]
            took = [seconds_to(found, THRESHOLDS[task]) for found in runs]
            there = [second for second in took if second < float("inf")]
            first = spanned(statistics.median, there) if there else ""
            whole = statistics.median(found["seconds"][-1] for found in runs)
            yield [task, way, *spans, f"{len(there)} of {len(runs)}", first, f"{whole:,.0f}"]


def peers_table() -> str:
    """The table of all runs that are there, and a line on what was measured."""
    head = ["task", "", *(f"return at {budget:,}" for budget in BUDGETS), "seeds that reach the threshold",
            "seconds to it", "seconds in all"]  # fmt: skip
    runs = [json.loads(file.read_text()) for file in sorted(KEPT.glob("*.json"))]
    names = sorted({f"{name} {version}" for found in runs for name, version in found["versions"].items()})
    machines = sorted({found["machine"] for found in runs})
    return table(head, rows()) + f"\n\nMeasured on {', '.join(machines)}: {', '.join(names)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=BUDGETS[-1])
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), metavar="NAME")
    given = parser.parse_args()
    present = [way for way in given.only if is_present(Contestant(way, [], *WAYS[way][:2]))]
    for seed, task, way in itertools.product(range(1, given.seeds + 1), THRESHOLDS, present):
        if (way, task) not in LEFT_OUT and not file_of(way, task, seed).exists():
            try:
                measure(way, task, seed, given.steps)
                say(f"{way}, {task}, seed {seed}: is there")
            except (subprocess.SubprocessError, ValueError, IndexError) as error:
                say(f"{way}, {task}, seed {seed}: left out: {reason(error)}")


if __name__ == "__main__":
    main()

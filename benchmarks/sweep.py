"""A sweep compared with separate runs: 16 learning rates of 8 agents each on CartPole, side by side in one run, or one
after the other in runs of their own. Both start as new processes, as a user would start them.

    python benchmarks/sweep.py [--write] [--rounds N] [--updates N]

On a shared machine look at the core seconds: they do not count the time of other processes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

RATES = [round(0.001 * 1.4**number, 5) for number in range(16)]
COMMAND = [sys.executable, "-m", "rlgrad"]


def measured(what: str, updates: str) -> dict[str, float]:
    """The wall seconds, and the core seconds."""
    began, own = time.perf_counter(), harness.own_seconds()
    with tempfile.TemporaryDirectory() as folder:
        how = ["--config", "cartpole", "--replicas", "8", "--updates", updates, "--quiet", "--out"]
        if what != "separate":
            words = ["--threads", what, "--optimizer.lr", *map(str, RATES)]
            subprocess.run([*COMMAND, "sweep", *how, f"{folder}/all", *words], check=True, stdout=subprocess.DEVNULL)
        for rate in RATES if what == "separate" else ():
            subprocess.run([*COMMAND, "train", *how, f"{folder}/{rate}", "--optimizer.lr", str(rate)], check=True)
    return {"seconds": time.perf_counter() - began, "core_seconds": harness.own_seconds() - own}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help=harness.WRITES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", default="40")
    parser.add_argument("--one", choices=("1", "2", "separate"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.updates)))
        return
    names = {"1": "one sweep", "2": "one sweep, 2 threads", "separate": "16 separate runs"}
    here = str(Path(__file__).resolve())
    told = ["--updates", options.updates]
    contestants = [harness.Contestant(names[key], [here, "--one", key, *told]) for key in names]
    found = harness.alternate(contestants, options.rounds, timeout=3600)
    rows = []
    for name in names.values():
        keys = ("seconds", "core_seconds")
        each = [harness.spread(harness.column(found, name, key)).text() for key in keys]
        times = [harness.ratios(found, name, "one sweep", key).text() for key in keys]
        rows.append([name, *each, *(times if name != "one sweep" else ("", ""))])
    head = ["", "seconds: median (range)", "core seconds", "times the sweep's seconds", "times its core seconds"]
    text = harness.table(head, rows)
    others = harness.spread(other for name in found for other in harness.column(found, name, "others"))
    text += (
        f"\n\n{options.updates} updates; medians (lowest to highest) of {options.rounds} rounds, ratios within one. "
    )
    text += f"{harness.machine()}; rlgrad {harness.own_version()}. "
    text += f"Other processes kept {others.text('{:.1f}'.format)} cores busy meanwhile."
    print(text)
    if options.write:
        harness.write("sweep.py", text)


if __name__ == "__main__":
    main()

"""Seconds from a cold process start to CartPole solved; those of importing torch alone; and those with 8 replicas.

    python benchmarks/cold_start.py [ROUNDS]

The commands take turns, so that a machine that becomes slower affects all of them. `solved` is first_solved of
summary.json: the first evaluation in which 100 held-out greedy episodes reach 475 in all replicas.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
TORCH, ONE, ONE_SOLVED, EIGHT, EIGHT_SOLVED = "import torch", "1 replica", "1 solved", "8 replicas", "8 solved"
seconds: dict[str, list[float]] = {name: [] for name in (TORCH, ONE, ONE_SOLVED, EIGHT, EIGHT_SOLVED)}


def timed(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True)
    return time.perf_counter() - began


def trained(replicas: int, folder: str) -> tuple[float, float]:
    out = Path(folder) / str(replicas)
    whole = timed(
        "-m", "rlgrad", "train", "--config", "cartpole", "--quiet", "--replicas", str(replicas), "--out", str(out)
    )
    return whole, json.loads((out / "summary.json").read_text())["first_solved"]["seconds"]


timed("-c", "import torch, rlgrad.run")  # so that the files are cached and compiled
for _ in range(rounds):
    with tempfile.TemporaryDirectory() as folder:
        seconds[TORCH].append(timed("-c", "import torch"))
        for replicas, whole, solved in ((1, ONE, ONE_SOLVED), (8, EIGHT, EIGHT_SOLVED)):
            a, b = trained(replicas, folder)
            seconds[whole].append(a)
            seconds[solved].append(b)

for name, values in seconds.items():
    print(f"{name:13} median {statistics.median(values):.2f} s  ({min(values):.2f} to {max(values):.2f})")
for a, b in ((ONE_SOLVED, TORCH), (ONE, TORCH), (EIGHT, ONE), (EIGHT_SOLVED, ONE_SOLVED)):
    ratios = [x / y for x, y in zip(seconds[a], seconds[b], strict=True)]
    print(f"{a} / {b}: {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")

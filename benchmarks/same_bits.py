"""Whether two checkouts compute the same: both run the first updates of the shipped configs, compared bit for bit.

    python benchmarks/same_bits.py OLD NEW [CONFIG...] [--tolerant] [--data-folder DIRECTORY]

OLD and NEW are directories. This Python runs the configs of each with the same overrides. A config is skipped if its
extra is not installed, or if DIRECTORY lacks its files. Measured times are not compared. Keys of metrics.jsonl that
only one side has are listed at the end, and do not count as a difference; a tensor that only one side has does. The
exit code is 0 if all configs are the same or skipped.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file

UPDATES = 20
OVERRIDES = ["--diagnose_every_updates=7", "--evaluation.every_updates=10", "--log_every_updates=1", "--threads=1"]
CLOCK = ("speed/", "seconds")  # a key with one of these in it is not compared
Numbers = dict[tuple[int, str, tuple[int, ...]], Any]  # by step, key and replica; or by -1, tensor and index


def python(checkout: Path, *arguments: str) -> tuple[str, str | None]:
    """The output of a process, and the last line of its errors if it failed."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    fault = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return done.stdout.strip(), fault if done.returncode else None


def metrics(run: Path) -> Numbers:
    found: Numbers = {}
    for row in map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
        step = row["update"] - 1 if "update" in row else row["step"]  # older versions count from 0
        for key in [key for key in row if key not in ("step", "update") and not any(word in key for word in CLOCK)]:
            values = row[key] if isinstance(row[key], list) else [row[key]]
            found |= {(step, key, (replica,)): value for replica, value in enumerate(values)}
    return found


def weights(run: Path) -> Numbers:
    tensors = {f"{name} ({tensor.dtype})": tensor for name, tensor in load_file(run / "model.safetensors").items()}
    return {(-1, name, at): x[at].item() for name, x in sorted(tensors.items()) for at in np.ndindex(x.shape)}


def compare(old: Numbers, new: Numbers) -> tuple[str | None, dict[str, float]]:
    """The first difference, and the largest relative difference of every key, which is 0 between 0.0 and -0.0."""
    first, largest = None, dict[str, float]()
    for step, key, index in sorted({**old, **new}, key=lambda place: place[0]):
        a, b = (side.get((step, key, index), "absent") for side in (old, new))
        if repr(a) != repr(b):
            where = f"step {step}" if step >= 0 else "weights"
            first = first or f"{where}: {key}{list(index)} is {a} in OLD, {b} in NEW"
            finite = all(isinstance(value, int | float) and math.isfinite(value) for value in (a, b))
            relative = abs(a - b) / (max(abs(a), abs(b)) or 1) if finite else math.inf
            largest[key] = max(relative, largest.get(key, 0))
    return first, largest


def verdict(name: str) -> str:
    """The result of one config: same, skipped, failed, or what differs. Adds to `alone` the keys of only one side."""
    settings = yaml.safe_load((sides["OLD"] / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    updates = str(min(UPDATES, settings.get("updates", UPDATES)))
    arguments = ["--config", f"configs/{name}.yaml", "--quiet", "--updates", updates]
    arguments += ["--steps", "null"] * ("steps" in settings)
    arguments += ["--evaluation.episodes", "20"] * (settings["problem"] == "reinforce")
    for key in [key for key in ("data", "test_data") if Path(settings.get(key, "")).suffix]:  # others are not files
        if settings[key] not in files:
            return f"skipped: {settings[key]} is not given; see --data-folder"
        arguments += [f"--{key}", files[settings[key]]]
    with tempfile.TemporaryDirectory() as folder:
        runs, faults = {side: Path(folder) / side for side in sides}, {}
        for side, run in runs.items():
            _, faults[side] = python(sides[side], "scripts/train.py", *arguments, *OVERRIDES, "--out", str(run))
        if all("not installed" in (fault or "") for fault in faults.values()):
            return f"skipped: {faults['OLD']}"
        if any(faults.values()):
            return "; ".join(f"failed in {side}: {fault}" for side, fault in faults.items() if fault)
        found = {side: metrics(run) for side, run in runs.items()}
        shared = set.intersection(*({key for _, key, _ in numbers} for numbers in found.values()))
        for side, numbers in found.items():
            for place in [place for place in numbers if place[1] not in shared]:
                del numbers[place]
                alone.setdefault(f"only in {side}: {place[1]}", set()).add(name)
        parts = [compare(*found.values()), compare(*map(weights, runs.values()))]
    more = [f"\n    {key}: {relative:.1e}" for _, largest in parts for key, relative in largest.items()]
    return "; ".join(first for first, _ in parts if first) + "".join(more * given.tolerant) or "same"


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("old", type=Path, metavar="OLD")
parser.add_argument("new", type=Path, metavar="NEW")
parser.add_argument("configs", nargs="*", metavar="CONFIG", help="a name in configs/; without any, all that both have")
parser.add_argument("--tolerant", action="store_true", help="also the largest relative difference of each key")
parser.add_argument("--data-folder", type=Path, metavar="DIRECTORY", help="where the files are that configs name")
given = parser.parse_intermixed_args()
sides = {"OLD": given.old.resolve(), "NEW": given.new.resolve()}
for checkout in sides.values():
    where, fault = python(checkout, "-P", "-c", "import rlgrad; print(rlgrad.__file__)")
    if not Path(where).is_relative_to(checkout):
        parser.error(f"{checkout}: rlgrad is not imported from there, but from {where or fault}")
files = {path.name: str(path.resolve()) for path in given.data_folder.rglob("*")} if given.data_folder else {}
shipped = set.intersection(*({path.stem for path in side.glob("configs/*.yaml")} for side in sides.values()))
alone: dict[str, set[str]] = {}
verdicts: dict[str, str] = {}
for name in given.configs or sorted(shipped):
    verdicts[name] = verdict(name) if name in shipped else "failed: it is not in configs/ of both"
    print(f"{name:27} {verdicts[name]}", flush=True)
for what, names in alone.items():
    print(f"{what} ({', '.join(sorted(names))})")
sys.exit(not all(text.startswith(("same", "skipped")) for text in verdicts.values()))

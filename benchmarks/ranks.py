"""Replicas divided among two ranks, compared with one process: 64 agents on CartPole, one thread for each process.

    python benchmarks/ranks.py [--write] [--rounds N] [--updates N]

Two separate runs of 32 agents at the same time show what two cores could do at most: they exchange nothing. On a shared
machine the ratios are worth less: three processes on two cores wait for each other.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

TRAIN = str(harness.ROOT / "scripts" / "train.py")
NAMES = {
    "one": "one process, 64 replicas",
    "ranks": "two ranks, 32 replicas each",
    "apart": "two separate runs, 32 replicas each",
}


def measured(what: str, updates: str) -> dict[str, float]:
    """The seconds of training, as the run counts them: without starting and ending processes."""
    told = [TRAIN, "--config", "cartpole", "--updates", updates, "--quiet", "--threads", "1"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"] if what == "ranks" else []
    with tempfile.TemporaryDirectory() as folder:
        outs = [f"{folder}/{number}" for number in range(2 if what == "apart" else 1)]
        replicas = str(64 // len(outs))
        command = [sys.executable, *launcher, *told, "--replicas", replicas, "--out"]
        running = [subprocess.Popen([*command, out, "--seed", str(32 * n)]) for n, out in enumerate(outs)]
        if any(list(map(subprocess.Popen.wait, running))):  # for all of them
            sys.exit(f"{NAMES[what]}: a run has failed")
        return {"seconds": max(json.loads(Path(out, "summary.json").read_text())["wall_seconds"] for out in outs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help=harness.WRITES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", default="40")
    parser.add_argument("--one", choices=tuple(NAMES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.updates)))
        return
    here = str(Path(__file__).resolve())
    contestants = [
        harness.Contestant(name, [here, "--one", key, "--updates", options.updates]) for key, name in NAMES.items()
    ]
    found = harness.alternate(contestants, options.rounds, timeout=3600)
    rows = []
    for name in NAMES.values():
        faster = harness.ratios(found, NAMES["one"], name, "seconds").text() if name != NAMES["one"] else ""
        rows.append([name, harness.spread(harness.column(found, name, "seconds")).text(), faster])
    others = harness.spread(other for name in found for other in harness.column(found, name, "others"))
    text = harness.table(["", "seconds of training: median (range)", "times as fast as one process"], rows)
    text += (
        f"\n\n{options.updates} updates; medians (lowest to highest) of {options.rounds} rounds, ratios within one. "
    )
    text += f"{harness.machine()}; rlgrad {harness.own_version()}. "
    text += f"Other processes kept {others.text('{:.1f}'.format)} cores busy meanwhile."
    print(text)
    if options.write:
        harness.write("ranks.py", text, harness.ROOT / "docs" / "scaling.md")


if __name__ == "__main__":
    main()

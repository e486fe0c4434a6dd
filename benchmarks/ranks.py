"""Replicas divided among two ranks, compared with one process: agents on CartPole, one thread for each process.

    python benchmarks/ranks.py [--write] [--rounds N] [--updates N] [--replicas N]

Two separate runs of half as many agents at the same time show what two cores could do at most: they exchange nothing.
On a shared machine the ratios are worth less: three processes on two cores wait for each other.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

TRAIN = str(harness.ROOT / "scripts" / "train.py")
NAMES = {"one": "one process", "ranks": "two ranks, half of the replicas each", "apart": "two separate runs, as large"}


def measured(what: str, updates: str, replicas: int) -> dict[str, float]:
    """The seconds of training, as the run counts them: without starting and ending processes, with its evaluations; and
    the environment steps of all updates in a second."""
    told = [TRAIN, "--config", "cartpole", "--updates", updates, "--quiet", "--threads", "1"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"] if what == "ranks" else []
    with tempfile.TemporaryDirectory() as folder:
        outs = [f"{folder}/{number}" for number in range(2 if what == "apart" else 1)]
        command = [sys.executable, *launcher, *told, "--replicas", str(replicas // len(outs)), "--out"]
        running = [subprocess.Popen([*command, out, "--seed", str(32 * n)]) for n, out in enumerate(outs)]
        if any(list(map(subprocess.Popen.wait, running))):  # for all of them
            sys.exit(f"{NAMES[what]}: a run has failed")
        summaries = [json.loads(Path(out, "summary.json").read_text()) for out in outs]
        seconds = max(summary["wall_seconds"] for summary in summaries)
        steps = sum(summary["env_steps"] * summary["replicas"] for summary in summaries)
        return {"seconds": seconds, "steps_per_second": steps / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help=harness.WRITES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", default="40")
    parser.add_argument("--replicas", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--one", choices=tuple(NAMES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one, given.updates, *given.replicas)))
        return
    here, rows, busy = str(Path(__file__).resolve()), [], []
    for replicas in given.replicas:
        more = ["--updates", given.updates, "--replicas", str(replicas)]
        contestants = [harness.Contestant(name, [here, "--one", key, *more]) for key, name in NAMES.items()]
        found = harness.alternate(contestants, given.rounds, timeout=3600)
        for name in NAMES.values():
            faster = harness.ratios(found, NAMES["one"], name, "seconds").text() if name != NAMES["one"] else ""
            seconds = harness.spread(harness.column(found, name, "seconds"))
            steps = harness.spread(harness.column(found, name, "steps_per_second"))
            rows.append([f"{replicas} replicas, {name}", seconds.text(), f"{steps.median:,.0f}", faster])
            busy += harness.column(found, name, "others")
    head = ["", "seconds of training: median (range)", "steps a second", "times as fast as one process"]
    text = harness.table(head, rows)
    text += f"\n\n{given.updates} updates; medians (lowest to highest) of {given.rounds} rounds, ratios within one. "
    text += f"{harness.machine()}; rlgrad {harness.own_version()}. "
    text += f"Other processes kept {harness.spread(busy).text('{:.1f}'.format)} cores busy meanwhile."
    print(text)
    if given.write:
        harness.write("ranks.py", text, harness.ROOT / "docs" / "scaling.md")


if __name__ == "__main__":
    main()

"""rlgrad as a contestant: the command `rlgrad train` itself, in this process, with its loop watched from outside.

python ours.py solved SEED SNAPSHOTS.npz       # configs/cartpole.yaml with one replica; a snapshot every update
python ours.py throughput CONFIG [OPTION ...]  # steps per second in the last third of the run
python ours.py train [OPTION ...]              # the whole run: when its evaluation was first solved, its memory
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from snapshots import Snapshots

from rlgrad.cli import main


def train(*options):
    """Run the command; return its summary."""
    with tempfile.TemporaryDirectory() as folder:
        sys.argv[1:] = ["train", "--quiet", "--out", str(Path(folder) / "run"), *options]
        if main():  # without arguments, so that its clock starts with the process and includes the imports
            sys.exit("rlgrad train failed")
        return json.loads((Path(folder) / "run" / "summary.json").read_text())


def watch(look):
    """Call look(problem, update, seconds of the update) after every update of the loop."""
    import rlgrad.run.following as following

    def watched(problem, *arguments, loop=following.updates):
        stream = loop(problem, *arguments)
        while True:
            began = time.perf_counter()
            update = next(stream)
            look(problem, update, time.perf_counter() - began)
            yield update

    following.updates = watched


def solved(seed, file):
    snapshots, steps = Snapshots(every=0), [0]

    def look(problem, update, _):
        steps[0] += int(update.metrics["episode/env_steps"].sum())
        layers = [layer for layer in problem.model.policy.modules() if hasattr(layer, "weight")]
        snapshots.offer(steps[0], lambda: [(alone(one.weight).T, alone(one.bias).reshape(-1)) for one in layers])

    def alone(parameter):
        return parameter[0].detach().numpy().copy()

    watch(look)
    train("--config", "cartpole", "--replicas", "1", "--seed", seed)
    snapshots.save(file, "relu")
    return {"end_seconds": snapshots.rows[-1][1]}


def throughput(config, *options):
    """The steps per second of the loop (playing, updating), and of the whole command with its log but no evaluation."""
    rows = []  # steps played, seconds of the loop, when, and the mean length of the episodes

    def look(problem, update, seconds):
        steps, length = update.metrics["episode/env_steps"].sum(), update.metrics["episode/length"].mean()
        rows.append((float(steps), seconds, time.perf_counter(), float(length)))

    watch(look)
    updates = ["--evaluation.every_updates", "1000000"]
    train("--config", config, *updates, *options)
    last = rows[-(len(rows) // 3) :]
    steps = sum(row[0] for row in last)
    whole = last[-1][2] - rows[-len(last) - 1][2]
    return {
        "steps_per_second": steps / sum(row[1] for row in last),
        "with_log_per_second": steps / whole,
        "length": sum(row[3] for row in last) / len(last),
    }


def whole(*options):
    summary = train("--config", "cartpole", *options)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first = summary["first_solved"] or {"seconds": float("nan")}
    return {"solved_seconds": first["seconds"], "megabytes": kilobytes / 1024}


if __name__ == "__main__":
    do = {"solved": solved, "throughput": throughput, "train": whole}[sys.argv[1]]
    print(json.dumps(do(*sys.argv[2:])))

"""The results of shipped configs: each line of the table in configs/README.md.

    python benchmarks/configs.py NAME...

Trains each config as it is shipped, with seeds 0 and 8: with 8 replicas these are 16 different agents. Reports the
result after the last update: its mean over all replicas with the 95% interval of that mean (Student's), and the lowest
and highest replica. No run is left out. Seconds are those of one run, including evaluations.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rlgrad import train
from rlgrad.run.statistics import summarize

SEEDS = (0, 8)


def reached(name: str, metric: str, found: list[dict[str, Any]]) -> str:
    all_of_them = summarize([value for summary in found for value in summary[metric]["per_replica"]])
    low, high = all_of_them["ci95"]
    each = all_of_them["per_replica"]
    return f"{name} {all_of_them['mean']:.5g} [{low:.5g}, {high:.5g}], each in {min(each):.5g} to {max(each):.5g}"


for name in sys.argv[1:]:
    found = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            found.append(train(name, seed=seed, out=Path(folder) / "run").summary)
        if found[-1]["status"] != "completed":
            sys.exit(f"{name} was {found[-1]['status']}: there is nothing to report of it")
        for metric in [key for key in found[-1] if key.startswith(("objective", "evaluation."))]:
            print(name, seed, metric, json.dumps(found[-1][metric]["per_replica"]), file=sys.stderr, flush=True)
    first = found[0]
    metrics = [key for key in ("evaluation.return", "evaluation.log_loss", "evaluation.accuracy") if key in first]
    texts = [reached(key.removeprefix("evaluation."), key, found) for key in metrics or ["objective"]]
    steps = [key for key in ("env_steps", "examples") if key in first]
    work = f"{sum(summary[steps[0]] for summary in found) / len(found):,.0f} {steps[0]}" if steps else ""
    work = work or f"{first['updates']:,} updates"
    seconds = sum(summary["wall_seconds"] for summary in found) / len(found)
    print(f"| `{name}` | {'; '.join(texts)} | {work} | {seconds:.1f} |", flush=True)

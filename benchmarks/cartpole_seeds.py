"""Whether the shipped CartPole config ends solved with every seed: a line for each seed, then the count of replicas.

    python benchmarks/cartpole_seeds.py [SEEDS]

Replica k of a run is the run with seed + k, so the seeds are 8 apart: 20 of them are 160 different agents.
"""

import sys
import tempfile
from pathlib import Path

from rlgrad import train

seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
returns: list[float] = []
for number in range(seeds):
    with tempfile.TemporaryDirectory() as folder:
        summary = train("cartpole", seed=8 * number, out=Path(folder) / "run").summary
    each = summary["evaluation.return"]["per_replica"]
    returns += each
    solved = summary["first_solved"]
    steps = f"all first solved after {solved['env_steps']:,} steps each" if solved else "not all solved at once"
    print(
        f"seed {8 * number:4}  lowest {min(each):6.1f}  {sum(r >= 475 for r in each)}/{len(each)} >= 475  {steps}",
        flush=True,
    )
good = sum(r >= 475 for r in returns)
print(f"{good} of {len(returns)} replicas end with a mean return >= 475; the lowest is {min(returns):.1f}")

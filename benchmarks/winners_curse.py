"""The winner's curse: the result of a search's best trial, and the result of the same settings on fresh seeds.

    python benchmarks/winners_curse.py [--write] [--searches N]

Each search tries 16 numbers of episodes between 24 and 54 on CartPole, in short runs that differ almost only by chance:
once with one agent for each, compared by its mean, and once with eight, compared by the lower end of the interval. The
searches are repeated with other seeds.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import harness

from rlgrad.config import load_config
from rlgrad.run.search import Search, Space
from rlgrad.run.statistics import summarize

CONFIG: dict[str, Any] = {"updates": 8, "episodes": {"search": list(range(24, 56, 2))}}


def searched(replicas: int, seed: int) -> tuple[float, float]:
    """The mean return of the winner when it was chosen, and on fresh seeds."""
    config = load_config("cartpole").settings.model_dump() | CONFIG | {"replicas": replicas, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        Search(Space(config), Path(folder) / "search", 16)()
        found = json.loads((Path(folder) / "search" / "search.json").read_text())
    return found["chosen"]["mean"], found["fresh"]["mean"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="into docs/sweeps.md")
    parser.add_argument("--searches", type=int, default=10)
    options = parser.parse_args()
    rows = []
    for replicas, name in ((1, "1 agent, the mean"), (8, "8 agents, the lower end of the interval")):
        found = [searched(replicas, 1000 * number) for number in range(options.searches)]
        columns = [[a for a, _ in found], [b for _, b in found], [a - b for a, b in found]]
        each = [summarize(column) for column in columns]
        low, high = (f"{end:.0f}" if end is not None else "" for end in each[2]["ci95"])
        rows.append([name, *(f"{one['mean']:.0f}" for one in each), f"{low} to {high}"])
        harness.say(" | ".join(rows[-1]))
    head = ["judged by", "the winner's return, as it was chosen", "on fresh seeds", "too much by", "95% interval"]
    text = f"{harness.table(head, rows)}\n\nMeans of {options.searches} searches. rlgrad {harness.own_version()}."
    print(text)
    if options.write:
        harness.write("winners_curse.py", text, harness.ROOT / "docs" / "sweeps.md")


if __name__ == "__main__":
    main()

"""An observer of your own: it watches a run, and what it adds to the record is in the log and on the dashboard.

python examples/custom_observer.py 20       # updates
"""

import sys

import rlgrad
from rlgrad.replicas import norm_per_replica


class Path(rlgrad.Observer):
    """The movement of the parameters: the length of their path, and the distance from their start."""

    def __init__(self):
        self.way = None

    def begin(self, run):
        self.start = [parameter.detach().clone() for parameter in run.parameters]
        if self.way is None:  # not if a run is resumed
            self.way = 0 * norm_per_replica(run.parameters).detach()

    def seen(self, run, update, record):
        self.way = self.way + record.values["update/size"]
        distance = norm_per_replica([p.detach() - s for p, s in zip(run.parameters, self.start, strict=True)])
        record.values["path/length"] = self.way  # one number for each replica
        record.values["path/distance"] = distance
        print(update.step, "way", round(self.way.mean().item(), 3), "distance", round(distance.mean().item(), 3))

    def end(self, run, summary):
        print("ended:", summary["status"], "after", summary["updates"], "updates")

    def state_dict(self):
        """The state for a checkpoint, so that the path is the same after a break."""
        return {"way": self.way}

    def load_state_dict(self, state):
        self.way = state["way"]


def main(updates=20):
    run = rlgrad.train("himmelblau", observers=[Path()], updates=updates)
    rows = (run.directory / "metrics.jsonl").read_text().splitlines()
    print(sum("path/length" in row for row in rows), "of", len(rows), "rows of the log have path/length")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

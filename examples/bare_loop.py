"""Only the loop and an optimizer: no run directory, no files.

Five points climb the dome 3 − x², and five descend the bowl x² − 3. The loop is the same; the direction is the
problem's.

    python examples/bare_loop.py 50     # updates
"""

import itertools
import sys

import torch

import rlgrad


class Hill(rlgrad.Problem):
    def __init__(self, direction):
        self.direction = direction
        # Parameters have the replicas as their first axis: here five, each a single number.
        self.model = torch.nn.ParameterDict({"x": torch.linspace(-2, 2, 5)})

    def objective(self, batch):
        dome = 3 - self.model["x"] ** 2
        # One value for each replica. direction.sign is 1 for a dome and -1 for a bowl.
        return rlgrad.Estimate(self.direction.sign * dome, {})


def main(count=50):
    for direction in rlgrad.Direction:
        problem = Hill(direction)
        optimizer = rlgrad.make_optimizer(problem, "SGD", lr=0.1)  # or "Adam", "LBFGS", ...
        # The loop never ends by itself: whoever iterates says when to stop.
        for update in itertools.islice(rlgrad.updates(problem, optimizer), count):
            if update.step % 10 == 0:
                # The value and the gradient are those before the step.
                print(
                    direction.name,
                    update.step,
                    "value",
                    update.value[0].item(),
                    "slope",
                    update.gradient_norm[0].item(),
                )
        print(direction.name, "ends at", [round(x, 3) for x in problem.model["x"].tolist()])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
